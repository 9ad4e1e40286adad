"""Networks whose weights people have and that no installed library builds: each as its paper describes it."""

from __future__ import annotations

from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Bottleneck3d(nn.Module):
    """ResNet bottleneck (He 2016) inflated along z (Carreira 2017): 1³, 3³ with the stride, 1³ with four
    times the channels."""

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        out = 4 * inner
        self.conv1 = nn.Conv3d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(inner)
        self.conv2 = nn.Conv3d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(inner)
        self.conv3 = nn.Conv3d(inner, out, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out)
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv3d(channels, out, 1, stride, bias=False), nn.BatchNorm3d(out)
            )
        else:
            self.downsample = nn.Sequential()

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b out d2 h2 w2"]:
        """(B, C, D, H, W) → (B, 4 · inner, D/stride, H/stride, W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class InflatedResNet(nn.Module):
    """I3D ResNet (Carreira & Zisserman 2017, 1705.07750) as Merlin uses it: one channel becomes three, z goes
    first.

    (B, 1, X, Y, Z) → (B, 2048, X/32, Y/32, Z/16): the first convolution keeps z, each later stage halves it.
    """

    def __init__(self, layers: tuple[int, ...] = (3, 8, 36, 3), width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        channels = width
        for i, blocks in enumerate(layers):
            inner = width * 2**i
            stage = []
            for b in range(blocks):
                stage.append(Bottleneck3d(channels, inner, 2 if i > 0 and b == 0 else 1))
                channels = 4 * inner
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        self.stages = len(layers)

    def forward(self, x: Float[Tensor, "b c i j k"]) -> Float[Tensor, "b out i2 j2 k2"]:
        """The last feature map, in the order of axes of the input."""
        x = x.permute(0, 1, 4, 2, 3)
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1, -1)
        x = F.max_pool3d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return x.permute(0, 1, 3, 4, 2)


class Taken(nn.Module):
    """A network of which one output is wanted: by place, by name, or the output of a module inside."""

    def __init__(self, network: nn.Module, output: int | str) -> None:
        super().__init__()
        self.network = network
        self.output = output
        self._inside: list[Tensor] = []
        modules = dict(network.named_modules())
        self.hooked = isinstance(output, str) and output in modules and output != ""
        if self.hooked:
            modules[str(output)].register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, given: object, found: Tensor) -> None:
        self._inside = [found]

    def forward(self, x: Float[Tensor, " b *input"]) -> Tensor:
        """The wanted output. Raises LookupError where the network has none of that place or name."""
        found = self.network(x)
        if self.hooked:
            return self._inside.pop()
        if isinstance(self.output, str):
            named = found if isinstance(found, dict | OrderedDict) else getattr(found, "__dict__", {})
            if isinstance(found, Tensor | tuple | list):
                many = 1 if isinstance(found, Tensor) else len(found)
                raise LookupError(f"output {self.output} is a name, and the network gives {many} without one")
            if self.output not in named:
                raise LookupError(
                    f"output {self.output} is not among {', '.join(map(str, named)) or 'its outputs'}"
                )
            return named[self.output]
        if isinstance(found, Tensor):
            if self.output not in (0, -1):
                raise LookupError(f"output {self.output} does not exist, the network gives one")
            return found
        several = list(found.values()) if isinstance(found, dict) else list(found)
        if not -len(several) <= self.output < len(several):
            raise LookupError(f"output {self.output} does not exist, the network gives {len(several)}")
        chosen = several[self.output]
        return chosen[-1] if isinstance(chosen, list | tuple) else chosen


def count(module: nn.Module) -> int:
    """Numbers that were learned."""
    return sum(p.numel() for p in module.parameters())
