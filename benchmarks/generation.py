"""Generated images beside real ones: how far they are, whether they show what was asked for, whether they
repeat training, and whether an imputed modality helps.

    medfuse train upper-abdomen --stage generate --manifest TRAIN/manifest.jsonl --out GEN --minutes 20
    python benchmarks/generation.py --bundle GEN --train TRAIN/manifest.jsonl --test TEST/manifest.jsonl \\
        --work GEN.work

Distances are kernel distances (polynomial, unbiased) times 100, between features of the bundle's own
encoders and, apart from them, of a small network that is trained here on the real boxes with another seed:
one for all volumes, so that CT beside MR is the ceiling, and one for frames. ``--canary MINUTES`` trains
another flow on the same cases with five of them twenty times over, and asks whether that is found. ``--only``
names parts to run: kernel, seeded, obeying, nearest, imputed, canary.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Picture
from scipy.stats import fisher_exact, mannwhitneyu
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from medfuse.bundles.bundle import Bundle, load_bundle
from medfuse.evaluation.findings import finding_auroc, paired_difference
from medfuse.generation.boxes import Boxes, read_boxes
from medfuse.generation.networks import Generator, LatentFlow, Sampling, sample
from medfuse.generation.output import picture_of
from medfuse.generation.saved import load_generator
from medfuse.generation.train import FlowStage
from medfuse.io.manifest import read_manifest
from medfuse.modalities import is_cine
from medfuse.models.feature_set import FeatureSet, collect, predict_logits
from medfuse.models.features import encode
from medfuse.preprocess.tensors import CineInput, VolumeInput
from medfuse.training.budget import Budget
from medfuse.training.data.tensors import preprocess_manifest
from medfuse.training.draws import Draws
from medfuse.training.keep import AllWeights
from medfuse.training.loop import Plan, Stage, fit

AT_ONCE = 8
FEWEST = 5  # cases with and without a finding, below which it is left out of an AUROC
CANARIES = 5
TIMES = 20
SEED = 7919  # of the networks that measure: neither the bundle's nor the generator's
PARTS = ("kernel", "seeded", "obeying", "nearest", "imputed", "canary")


def boxes_of(bundle: Bundle, generator: Generator, manifest: Path, work: Path, most: int) -> Boxes:
    rows = [r for r in read_manifest(manifest) if r.split != "val"][:most]
    folder, entries = preprocess_manifest(bundle.task, rows, work / "tensors", workers=1)
    return read_boxes(bundle.task, folder, rows, entries, generator.config)


@torch.no_grad()
def features(bundle: Bundle, generator: Generator, modality: str, boxes: torch.Tensor) -> np.ndarray:
    """(N, C) deep features of boxes (N, 1, *shape) by the encoder of a modality, pooled."""
    roles = bundle.task.modalities[modality].roles
    role = roles.index(generator.config.modalities[modality].role)
    out = []
    for part in boxes.split(AT_ONCE):
        x = torch.zeros(len(part), len(roles), *part.shape[2:])
        x[:, role] = part[:, 0]
        present = torch.zeros(len(part), len(roles), dtype=torch.bool)
        present[:, role] = True
        deep = bundle.model.encoders[modality].eval()(x, present)[2].flatten(2)
        out.append(torch.cat([deep.mean(2), deep.std(2)], 1))
    return torch.cat(out).numpy()


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared kernel distance, polynomial of degree 3, times 100."""

    def k(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    n, m = len(a), len(b)
    aa, bb = k(a, a), k(b, b)
    within = (aa.sum() - np.trace(aa)) / (n * (n - 1)) + (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return round(100 * float(within - 2 * k(a, b).mean()), 2)


class SeededNetwork(nn.Module):
    """A small network of its own seed: boxes (B, 1, *shape) → which modality, and the findings."""

    def __init__(self, dims: int, modalities: int, findings: int) -> None:
        super().__init__()
        conv = nn.Conv3d if dims == 3 else nn.Conv2d
        layers: list[nn.Module] = []
        for before, after in pairwise((1, 16, 32, 48)):
            layers += [conv(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.which = nn.Linear(96, modalities)
        self.findings = nn.Linear(96, findings)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 96): mean and spread of the last layer."""
        deep = self.body(x).flatten(2)
        return torch.cat([deep.mean(2), deep.std(2)], 1)


class SeededStage(Stage[torch.Tensor]):
    """Modality and findings of real boxes, for as long as the budget says."""

    name = "seeded"
    state: AllWeights

    def __init__(self, net: SeededNetwork, boxes: torch.Tensor, which: torch.Tensor, claims: torch.Tensor):
        self.net = net
        self.boxes = boxes
        self.which = which
        self.claims = claims
        self.state = AllWeights(net)
        self.draws = Draws(SEED)
        self.plan = Plan(peak=2e-3, weight_decay=1e-2)

    def parameters(self) -> list[nn.Parameter]:
        return list(self.net.parameters())

    def batches(self, epoch: int, done: int) -> Iterator[torch.Tensor]:
        while True:
            yield torch.randint(len(self.boxes), (16,), generator=self.draws.torch)

    def loss(self, batch: torch.Tensor, step: int) -> torch.Tensor:
        deep = self.net.features(self.boxes[batch])
        said = self.claims[batch]
        each = F.binary_cross_entropy_with_logits(
            self.net.findings(deep), said.clamp_min(0), reduction="none"
        )
        return F.cross_entropy(self.net.which(deep), self.which[batch]) + (each * (said >= 0)).mean()

    def report(self, step: int, loss: float, fraction: float) -> None:
        print(f"seeded network, step {step}, loss {loss:.3f}", flush=True)


def spread_of_distance(a: np.ndarray, b: np.ndarray) -> dict:
    """The distance of all, and 95 % of those of random halves."""
    draws = np.random.default_rng(SEED)

    def half(x: np.ndarray) -> np.ndarray:
        return x[draws.permutation(len(x))[: max(2, len(x) // 2)]]

    halves = [kernel_distance(half(a), half(b)) for _ in range(100)]
    low, high = np.percentile(halves, [2.5, 97.5])
    return {"distance": kernel_distance(a, b), "halves": [round(float(low), 2), round(float(high), 2)]}


def seeded(generator: Generator, train: Boxes, test: Boxes, made: dict, steps: int) -> dict:
    """By modality, in features of networks of another seed: floor (real training to real test), generated to
    real test, and ceiling (real boxes of another modality to real test)."""
    codes = tuple(generator.config.modalities)
    out = {}
    for dims in (3, 2):
        group = [m for m in codes if len(generator.config.modalities[m].shape) == dims]
        if not group:
            continue
        at = {m: train.there[:, codes.index(m)] for m in group}
        boxes = torch.cat([train.values[m][at[m]] for m in group])
        which = torch.cat([torch.full((int(at[m].sum()),), n) for n, m in enumerate(group)])
        claims = torch.cat([train.claims[at[m]] for m in group])
        torch.manual_seed(SEED)
        net = SeededNetwork(dims, len(group), claims.shape[1])
        fit(SeededStage(net, boxes, which, claims), Budget(steps=steps))
        with torch.no_grad():
            deep = {m: net.features(train.values[m][at[m]]).numpy() for m in group}
            held = {m: net.features(test.values[m][test.there[:, codes.index(m)]]).numpy() for m in group}
            drawn = {m: net.features(made[m]).numpy() for m in group}
        for m in group:
            scale = StandardScaler().fit(deep[m])
            real = scale.transform(held[m]).clip(-6, 6)
            sets = {"floor": deep[m], "generated": drawn[m]}
            others = [o for o in group if o != m]
            sets |= {f"ceiling, {others[0]}": held[others[0]]} if others else {}
            known = {name: scale.transform(x).clip(-6, 6) for name, x in sets.items()}
            out[m] = {name: spread_of_distance(x, real) for name, x in known.items()}
    return out


def draw(
    generator: Generator, given: dict[str, torch.Tensor], asked: tuple[str, ...], claims: torch.Tensor
) -> dict[str, torch.Tensor]:
    parts = []
    for n, at in enumerate(torch.arange(len(claims)).split(AT_ONCE)):
        some = {m: x[at] for m, x in given.items()}
        parts.append(generator.draw(some, asked, claims[at], Sampling(seed=n)))
    return {m: torch.cat([p[m] for p in parts]) for m in asked}


def distances(bundle: Bundle, generator: Generator, train: Boxes, test: Boxes, made: dict) -> dict:
    """By modality: the floor (real training, real test), autoencoded, generated, and the ceiling: another
    modality's boxes."""
    codes = tuple(generator.config.modalities)
    out = {}
    for n, m in enumerate(codes):
        real = train.values[m][train.there[:, n]]
        held = test.values[m][test.there[:, n]]
        sets = {"real training": real, "generated": made[m]}
        sets["autoencoded"] = torch.cat(
            [generator.decode(m, generator.encode(m, x)) for x in held.split(AT_ONCE)]
        )
        others = [
            o for o in codes if o != m and test.values[o].shape[1:] == held.shape[1:] and not is_cine(m)
        ]
        if others:
            sets["ceiling"] = test.values[others[0]][test.there[:, codes.index(others[0])]]
        of = {name: features(bundle, generator, m, x) for name, x in (sets | {"test": held}).items()}
        scale = StandardScaler().fit(of["real training"])
        known = {name: scale.transform(x).clip(-6, 6) for name, x in of.items()}
        out[m] = {name: kernel_distance(known[name], known["test"]) for name in sets}
    return out


def obeying(bundle: Bundle, generator: Generator, train: Boxes, test: Boxes, made: dict) -> dict:
    """Macro AUROC of a logistic regression fitted on real training boxes: on real test boxes, and on
    generated ones for what was asked of them."""
    out = {}
    for n, m in enumerate(generator.config.modalities):
        real, held = train.pick(train.there[:, n]), test.pick(test.there[:, n])
        x, y = features(bundle, generator, m, real.values[m]), real.claims.numpy()
        on = {"real": (features(bundle, generator, m, held.values[m]), held.claims.numpy())}
        on["generated"] = (features(bundle, generator, m, made[m]), test.claims.numpy())
        scores: dict[str, list[float]] = {"real": [], "generated": []}
        for f, finding in enumerate(bundle.task.findings):
            sides = [t[:, f] for t in (y, on["real"][1], on["generated"][1])]
            if (
                m not in finding.modalities
                or min(min((s == 1).sum(), (s == 0).sum()) for s in sides) < FEWEST
            ):
                continue
            fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=500)).fit(x, y[:, f])
            for name, (inputs, labels) in on.items():
                score = fitted.decision_function(inputs)[:, None]
                scores[name].append(float(finding_auroc(labels[:, f : f + 1].astype(int), score)[0]))
        means = {name: round(float(np.mean(s)), 3) for name, s in scores.items()}
        out[m] = means | {"findings": len(scores["real"])}
    return out


def nearest(latents: torch.Tensor, training: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square distance to the nearest training latent, and which it is."""
    a, b = latents.flatten(1), training.flatten(1)
    found = torch.cdist(a, b).min(1)
    return (found.values / a.shape[1] ** 0.5).numpy(), found.indices.numpy()


def memory(generator: Generator, train: Boxes, test: Boxes, made: dict) -> dict:
    """Distance to the nearest training latent: median of generated boxes and of held-out real ones, the share
    of generated ones nearer than 99 % of the real ones, and how often a generated one is nearer than a real
    one (.5 for no memory), with the p of a one-sided rank test. Repeated: p < .01."""
    out = {}
    for n, m in enumerate(generator.config.modalities):
        known = generator.encode(m, train.values[m][train.there[:, n]])
        real, _ = nearest(generator.encode(m, test.values[m][test.there[:, n]]), known)
        drawn, _ = nearest(generator.encode(m, made[m]), known)
        share = round(float((drawn < np.quantile(real, 0.01)).mean()), 3)
        out[m] = {"generated": round(float(np.median(drawn)), 3), "real": round(float(np.median(real)), 3)}
        out[m]["nearer than 99 % of real"] = share
        test_ = mannwhitneyu(drawn, real, alternative="less")
        out[m]["nearer than a real one"] = round(1 - float(test_.statistic) / (len(drawn) * len(real)), 3)
        out[m]["p"] = float(f"{test_.pvalue:.2g}")
        out[m]["repeated"] = bool(test_.pvalue < 0.01)
    return out


def canary(
    generator: Generator, train: Boxes, test: Boxes, budget: Budget, wanted: Sequence[str] = ()
) -> dict:
    """Five training cases twenty times over, of all modalities or those wanted. Of draws for their claims and
    for those of held-out cases: how many lie nearest a canary, beside held-out real cases and draws of the
    flow without canaries. Found: more draws than real cases, p < .01 by Fisher's exact test, which the flow
    without canaries is to pass."""
    every = tuple(generator.config.modalities)
    codes = tuple(m for m in every if not wanted or m in wanted)
    own = {m: generator.config.modalities[m] for m in codes}
    columns = [every.index(m) for m in codes]
    train, test = (Boxes(b.values, b.there[:, columns], b.claims) for b in (train, test))
    there = train.pick(train.there.all(1))
    order = torch.cat([torch.arange(len(there)), torch.arange(CANARIES).repeat(TIMES - 1)])
    planted = there.pick(order)
    latents = {
        m: torch.cat([generator.encode(m, x) for x in planted.values[m].split(AT_ONCE)]) for m in codes
    }
    torch.manual_seed(3)
    flow = LatentFlow(generator.config.model_copy(update={"modalities": own}))
    fit(FlowStage(flow, latents, planted, 3, lambda line: None), budget)
    once = {m: z[: len(there)] for m, z in latents.items()}
    held = test.pick(test.there.all(1))
    real = {m: nearest(generator.encode(m, held.values[m]), once[m])[1] < CANARIES for m in codes}
    out: dict = {"chance": round(CANARIES / len(there), 3)}
    sets = {"claims of canaries": there.claims[:CANARIES].repeat(6, 1), "claims of others": held.claims[:30]}
    for flow_name, one in (("planted", flow.eval()), ("not planted", generator.flow)):
        for name, claims in sets.items():
            z = sample(one, {}, codes, claims, Sampling(seed=9, guidance=1.0))
            for m in codes:
                near = nearest(z[m], once[m])[1] < CANARIES
                table = [[x.sum(), (~x).sum()] for x in (near, real[m])]
                p = float(fisher_exact(table, alternative="greater").pvalue)
                row = {"draws": round(float(near.mean()), 3), "real": round(float(real[m].mean()), 3)}
                out[f"{flow_name}, {m}, {name}"] = row | {"p": float(f"{p:.2g}"), "found": p < 0.01}
    return out


def inputs_of(
    bundle: Bundle, generator: Generator, modality: str, box: torch.Tensor
) -> VolumeInput | CineInput:
    of = generator.config.modalities[modality]
    if is_cine(modality):
        return CineInput(box.numpy(), 1.0, (0, 0), None, (0,), 0)
    roles = bundle.task.modalities[modality].roles
    values = np.zeros((len(roles), *of.shape), np.float32)
    values[roles.index(of.role)] = box[0].numpy()
    present = np.array([r == of.role for r in roles])
    return VolumeInput(modality, values, present, np.diag([*of.spacing_mm, 1.0]), "", ())


def imputed(bundle: Bundle, generator: Generator, train: Boxes, test: Boxes, wanted: str = "MR") -> dict:
    """Macro AUROC of the fused model on boxes without a modality, with an imputed and with the real one; and
    how far the imputed boxes are from the real ones, beside the mean of training."""
    codes = tuple(generator.config.modalities)
    case = test.pick(test.there.all(1))
    rest = tuple(m for m in codes if m != wanted)
    unknown = torch.full_like(case.claims, -1)
    made = draw(generator, {m: case.values[m] for m in rest}, (wanted,), unknown)[wanted]
    mean = train.values[wanted][train.there[:, codes.index(wanted)]].mean(0, keepdim=True)
    logits = {}
    for name, last in (("mask", None), ("imputed", made), ("real", case.values[wanted])):
        every = {m: case.values[m] for m in rest} | ({} if last is None else {wanted: last})
        found = []
        for n in range(len(case)):
            one = {m: [inputs_of(bundle, generator, m, x[n])] for m, x in every.items()}
            found.append(
                encode(bundle.model.encoders, one, bundle.task, torch.device("cpu"), keep_dense=False)[0]
            )
        data = FeatureSet([""] * len(case), found, case.claims.numpy().astype(int), [""] * len(case))
        logits[name] = predict_logits(bundle.model, collect(bundle.task, bundle.model.sizes, data).batch)
    labels = case.claims.numpy().astype(int)
    out: dict = {k: round(float(np.nanmean(finding_auroc(labels, v))), 3) for k, v in logits.items()}
    for name in ("imputed", "real"):
        out[f"{name} minus mask"] = paired_difference(labels, logits[name], logits["mask"]).as_json()
    real = case.values[wanted]
    out["n"] = len(case)
    out["mean absolute error"] = {
        "imputed": round(float((made - real).abs().mean()), 3),
        "mean of training": round(float((mean - real).abs().mean()), 3),
        "autoencoded": round(
            float((generator.decode(wanted, generator.encode(wanted, real)) - real).abs().mean()), 3
        ),
    }
    return out


def picture(generator: Generator, test: Boxes, path: Path) -> None:
    """Middle slices of three test cases: real, through the autoencoder, and generated for their claims."""
    codes = tuple(generator.config.modalities)
    case = test.pick(test.there.all(1).nonzero()[:3, 0])
    made = draw(generator, {}, codes, case.claims)
    rows = []
    for m in codes:
        of = generator.config.modalities[m]
        again = generator.decode(m, generator.encode(m, case.values[m]))
        drawn = [picture_of(m, of, x[0].numpy()).box for x in made[m]]
        sets = [[of.centre + of.width * x[0].numpy() for x in s] for s in (case.values[m], again)]
        tiles = [x if x.ndim == 2 else x[::-1, ::-1, x.shape[2] // 2].T for x in (*sets[0], *sets[1], *drawn)]
        low, high = np.percentile(np.stack(sets[0]), [2, 99.5])
        big = [np.clip((t - low) / (high - low), 0, 1) for t in tiles]
        shown = [Picture.fromarray((255 * t).astype(np.uint8)).resize((128, 128)) for t in big]
        rows.append(np.concatenate([np.asarray(p) for p in shown], 1))
    Picture.fromarray(np.concatenate(rows)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="tensors are kept here")
    parser.add_argument("--cases", type=int, default=150, help="at most so many of each manifest")
    parser.add_argument("--canary", type=float, help="minutes to train with planted repeats")
    parser.add_argument("--canary-of", nargs="*", default=[], help="modalities of the canaries; all of them")
    parser.add_argument("--canary-steps", type=int, help="exact steps instead of minutes")
    parser.add_argument("--seeded-steps", type=int, default=300, help="of each network that measures")
    parser.add_argument("--only", nargs="*", choices=PARTS, help="these parts alone")
    parser.add_argument("--picture", type=Path, help="only draw this picture")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/generation.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    bundle = load_bundle(options.bundle)
    generator = load_generator(bundle)
    if options.picture:
        picture(
            generator, boxes_of(bundle, generator, options.test, options.work, options.cases), options.picture
        )
        return
    train = boxes_of(bundle, generator, options.train, options.work, options.cases)
    test = boxes_of(bundle, generator, options.test, options.work, options.cases)
    codes = tuple(generator.config.modalities)
    drawn = set(options.only or PARTS) - {"imputed", "canary"}
    made = draw(generator, {}, codes, test.claims) if drawn else {}
    result: dict = {"train": len(train), "test": len(test)}

    def say(name: str, found: dict) -> None:
        result[name] = found
        print(name, json.dumps(found), flush=True)

    parts = {
        "kernel": ("kernel distance", lambda: distances(bundle, generator, train, test, made)),
        "seeded": (
            "kernel distance, another seed",
            lambda: seeded(generator, train, test, made, options.seeded_steps),
        ),
        "obeying": ("obeying, macro AUROC", lambda: obeying(bundle, generator, train, test, made)),
        "nearest": ("nearest training latent", lambda: memory(generator, train, test, made)),
        "imputed": ("imputed MR", lambda: imputed(bundle, generator, train, test)),
        "canary": (
            "canary",
            lambda: canary(
                generator,
                train,
                test,
                Budget(minutes=options.canary, steps=options.canary_steps),
                options.canary_of,
            ),
        ),
    }
    for part in options.only or [p for p in PARTS if p != "canary" or options.canary or options.canary_steps]:
        name, run = parts[part]
        say(name, run())
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
