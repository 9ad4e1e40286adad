"""The writer: a small causal transformer that reads the fused tokens and the findings, and writes the report
or an answer.

A sequence begins with the language, then either the findings as tags and the text, or a question and its
answer. The tags of a report are the claims that it is written from; without any it writes the tags itself.
Cross-attention goes to the fused tokens of every modality that is there and to one token a finding, which
carries the findings head's logit: what the head knows, the writer is told. (Vaswani et al. 2017; weights of
input and output embedding are shared, Press & Wolf 2017.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F

from ..task import Task
from .fusion import Mlp
from .tokens import Tokens

PAD = "[PAD]"
BEGIN = "[BEGIN]"
END = "[END]"
TEXT = "[TEXT]"
QUESTION = "[QUESTION]"
ANSWER = "[ANSWER]"
CLOSED = ("no", "yes", "cannot tell")  # classes of the closed-question head


@dataclass(frozen=True)
class WriterConfig:
    vocabulary: int
    memory: int  # width of the fused tokens
    findings: int
    modalities: tuple[str, ...]
    width: int = 160
    layers: int = 3
    heads: int = 4
    length: int = 256
    dropout: float = 0.1


@dataclass
class Memory:
    """What the writer reads: x (B, M, D), mask (B, M)."""

    x: Tensor
    mask: Tensor

    def repeat(self, n: int) -> Memory:
        """Each case n times in a row."""
        return Memory(self.x.repeat_interleave(n, 0), self.mask.repeat_interleave(n, 0))


class _Reader(nn.Module):
    """Multi-head attention of new positions (B, L, D) over keys and values that may be cached."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.heads = heads
        self.dropout = dropout

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        k, v = self.kv(x).chunk(2, -1)
        return self.split(k), self.split(v)

    def attend(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
        return self.read(self.norm(x), k, v, mask, causal)

    def read(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
        """As `attend`, on positions that are normalised already."""
        drop = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(
            self.split(self.q(x)), k, v, attn_mask=mask, dropout_p=drop, is_causal=causal
        )
        return self.out(y.transpose(1, 2).flatten(2))


class _Block(nn.Module):
    def __init__(self, c: WriterConfig) -> None:
        super().__init__()
        self.own = _Reader(c.width, c.heads, c.dropout)
        self.cross = _Reader(c.width, c.heads, c.dropout)
        self.mlp = Mlp(c.width, c.dropout, ratio=4)


@dataclass
class Cache:
    """Keys and values so far: own[layer] (k, v) grow by a position a step, cross[layer] (k, v) stay."""

    own: list[tuple[Tensor, Tensor]]  # room for the longest text, filled up to ``length``
    cross: list[tuple[Tensor, Tensor]]
    mask: Tensor | None  # None where every memory token exists
    length: int = 0

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order (beams that live on)."""
        n = self.length
        for k, v in self.own:
            k[:, :, :n] = k[rows, :, :n]
            v[:, :, :n] = v[rows, :, :n]


@contextmanager
def one_thread() -> Iterator[None]:
    """A step is a few small products: on one thread it is as fast as on many, and far faster where other work
    holds a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Writer(nn.Module):
    def __init__(self, config: WriterConfig) -> None:
        super().__init__()
        c = self.config = config
        self.embed = nn.Embedding(c.vocabulary, c.width)
        self.position = nn.Parameter(torch.randn(c.length, c.width) * 0.02)
        self.project = nn.Linear(c.memory, c.width)
        self.modality = nn.ParameterDict({m: nn.Parameter(torch.randn(c.width) * 0.02) for m in c.modalities})
        self.finding = nn.Parameter(torch.randn(c.findings, c.width) * 0.05)
        self.logit = nn.Sequential(nn.Linear(3, c.width), nn.GELU(), nn.Linear(c.width, c.width))
        self.norm_memory = nn.LayerNorm(c.width)
        self.blocks = nn.ModuleList(_Block(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width)
        self.drop = nn.Dropout(c.dropout)
        self.closed = nn.Linear(c.width, len(CLOSED))
        nn.init.normal_(self.embed.weight, std=0.05)

    @property
    def layers(self) -> list[_Block]:
        """The blocks in order."""
        return list(self.blocks)  # type: ignore[arg-type]

    def memory(self, fused: dict[str, Tokens], logits: Float[Tensor, "b f"]) -> Memory:
        """fused {modality: Tokens}, findings logits (B, F) → Memory. The finding tokens are always there."""
        b = logits.shape[0]
        known = torch.stack([logits.clamp(-8, 8) / 4, logits.sigmoid(), (logits > 0).float()], -1)
        parts = [self.finding + self.logit(known)]
        masks = [torch.ones(b, logits.shape[1], dtype=torch.bool, device=logits.device)]
        for m in self.config.modalities:
            if m in fused:
                parts.append(self.project(fused[m].x) + self.modality[m])
                masks.append(fused[m].mask)
        mask = torch.cat(masks, 1)
        x = self.norm_memory(torch.cat(parts, 1))
        return Memory(torch.where(mask[..., None], x, torch.zeros_like(x)), mask)

    def start(self, memory: Memory, room: int | None = None) -> Cache:
        """An empty cache for texts of up to ``room`` positions (default: the longest)."""
        c = self.config
        shape = (memory.x.shape[0], c.heads, room or c.length, c.width // c.heads)
        own = [(memory.x.new_empty(shape), memory.x.new_empty(shape)) for _ in self.blocks]
        mask = None if bool(memory.mask.all()) else memory.mask[:, None, None]
        return Cache(own, [b.cross.keys(memory.x) for b in self.layers], mask)

    def forward(
        self, ids: Int64[Tensor, "b l"], memory: Memory
    ) -> tuple[Float[Tensor, "b l v"], Float[Tensor, "b l d"]]:
        """ids (B, L) → logits (B, L, V) of the next token, states (B, L, D). Without a cache: what training
        runs through."""
        if ids.shape[1] > self.config.length:
            raise ValueError(f"{ids.shape[1]} positions, at most {self.config.length}")
        x = self.drop(self.embed(ids) + self.position[: ids.shape[1]])
        for block in self.layers:
            x = x + block.own.attend(x, *block.own.keys(block.own.norm(x)), None, causal=True)
            x = x + block.cross.attend(x, *block.cross.keys(memory.x), memory.mask[:, None, None])
            x = x + block.mlp(x)
        x = self.norm(x)
        return x @ self.embed.weight.T, x

    def extend(
        self, ids: Int64[Tensor, "b l"], cache: Cache
    ) -> tuple[Float[Tensor, "b l v"], Float[Tensor, "b l d"]]:
        """New positions ids (B, L) after those in ``cache``, which grows. Raises ValueError past the longest
        length."""
        n = ids.shape[1]
        old = cache.length
        if old + n > min(self.config.length, cache.own[0][0].shape[2]):
            raise ValueError(f"{old + n} positions, at most {self.config.length}")
        mask = (
            torch.ones(n, old + n, dtype=torch.bool, device=ids.device).tril(old) if n > 1 and old else None
        )
        x = F.embedding(ids, self.embed.weight) + self.position[old : old + n]
        for block, own, cross in zip(self.layers, cache.own, cache.cross, strict=True):
            y = block.own.norm(x)
            k, v = block.own.keys(y)
            own[0][:, :, old : old + n] = k
            own[1][:, :, old : old + n] = v
            x = x + block.own.read(
                y, own[0][:, :, : old + n], own[1][:, :, : old + n], mask, causal=n > 1 and not old
            )
            x = x + block.cross.read(block.cross.norm(x), *cross, cache.mask)
            x = x + block.mlp(x)
        cache.length = old + n
        x = self.norm(x)
        return F.linear(x, self.embed.weight), x

    @torch.inference_mode()
    def generate(
        self,
        prefix: Int64[Tensor, "b l"],
        memory: Memory,
        *,
        end: int,
        length: int = 200,
        beams: int = 1,
        temperature: float = 0.0,
        top: int = 0,
        generator: torch.Generator | None = None,
    ) -> list[list[int]]:
        """What follows ``prefix`` (B, L), one list of token ids a row, without ``end``.

        beams > 1: beam search with length-normalised log-probability. temperature > 0: sampling (from the
        ``top`` likeliest where given), repeatable with a ``generator``. Else greedy.
        """
        self.eval()
        with one_thread():
            return self._generate(prefix, memory, end, length, beams, temperature, top, generator)

    def _generate(
        self,
        prefix: Tensor,
        memory: Memory,
        end: int,
        length: int,
        beams: int,
        temperature: float,
        top: int,
        generator: torch.Generator | None,
    ) -> list[list[int]]:
        length = min(length, self.config.length - prefix.shape[1])
        if beams > 1:
            return [
                self._beam(
                    prefix[b : b + 1], Memory(memory.x[b : b + 1], memory.mask[b : b + 1]), end, length, beams
                )
                for b in range(len(prefix))
            ]
        cache = self.start(memory, prefix.shape[1] + length)
        logits, _ = self.extend(prefix, cache)
        out: list[list[int]] = [[] for _ in range(len(prefix))]
        done = torch.zeros(len(prefix), dtype=torch.bool)
        for n in range(length):
            last = logits[:, -1]
            if temperature > 0:
                if top:
                    least = last.topk(min(top, last.shape[1]), -1).values[:, -1:]
                    last = last.masked_fill(last < least, float("-inf"))
                token = torch.multinomial((last / temperature).softmax(-1), 1, generator=generator)[:, 0]
            else:
                token = last.argmax(-1)
            done |= token.cpu() == end
            for b, t in enumerate(token.tolist()):
                if not done[b]:
                    out[b].append(t)
            if done.all() or n == length - 1:
                break
            logits, _ = self.extend(token[:, None], cache)
        return out

    def _beam(self, prefix: Tensor, memory: Memory, end: int, length: int, beams: int) -> list[int]:
        cache = self.start(memory.repeat(beams), prefix.shape[1] + length)
        logits, _ = self.extend(prefix.expand(beams, -1), cache)
        score = torch.full((beams,), float("-inf"), device=prefix.device)
        score[0] = 0.0  # all beams are alike at first
        lines: list[list[int]] = [[] for _ in range(beams)]
        finished: list[tuple[float, list[int]]] = []
        for _ in range(length):
            total = score[:, None] + logits[:, -1].log_softmax(-1)
            best, flat = total.flatten().topk(2 * beams)
            keep: list[tuple[float, int, int]] = []
            for s, at in zip(best.tolist(), flat.tolist(), strict=True):
                row, token = divmod(at, total.shape[1])
                if token == end:
                    finished.append((s / max(1, len(lines[row])), lines[row]))
                elif len(keep) < beams:
                    keep.append((s, row, token))
            rows = torch.tensor([r for _, r, _ in keep], device=prefix.device)
            tokens = torch.tensor([t for *_, t in keep], device=prefix.device)
            lines = [[*lines[r], t] for _, r, t in keep]
            score = torch.tensor([s for s, *_ in keep], device=prefix.device)
            if len(finished) >= beams or len(lines[0]) >= length:
                break
            cache.select(rows)
            logits, _ = self.extend(tokens[:, None], cache)
        finished += [
            (float(s) / max(1, len(x)), x) for s, x in zip(score, lines, strict=True) if not finished
        ]
        return max(finished, key=lambda f: f[0])[1]


def finding_tag(finding_id: str) -> str:
    """The token that names a finding."""
    return f"[+{finding_id}]"


def language_tag(language: str) -> str:
    """The token that names a language."""
    return f"[{language}]"


def train_writer_tokenizer(
    texts: list[str], task: Task, languages: list[str], vocabulary: int = 1400
) -> Tokenizer:
    """A byte-level BPE on the corpus, reversible in any language, with tags for languages and findings."""
    special = [PAD, BEGIN, END, TEXT, QUESTION, ANSWER, *map(language_tag, sorted(languages))]
    special += [finding_tag(f.id) for f in task.findings]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a special token. Raises KeyError where the tokenizer was not made for it."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise KeyError(token)
    return found


def report_prefix(tokenizer: Tokenizer, language: str, claimed: list[str] | None = None) -> list[int]:
    """Ids that a report begins with. claimed: findings that it shall say, in the task's order, so that the
    text begins next; None: the writer says first what it finds."""
    begin = [token_id(tokenizer, BEGIN), token_id(tokenizer, language_tag(language))]
    if claimed is None:
        return begin
    return [*begin, *(token_id(tokenizer, finding_tag(f)) for f in claimed), token_id(tokenizer, TEXT)]


def question_prefix(tokenizer: Tokenizer, language: str, question: str) -> list[int]:
    """Ids of a question, up to where its answer begins."""
    asked = tokenizer.encode(question).ids[:80]
    return [
        *report_prefix(tokenizer, language),
        token_id(tokenizer, QUESTION),
        *asked,
        token_id(tokenizer, ANSWER),
    ]


def report_ids(tokenizer: Tokenizer, language: str, findings: list[str], text: str, length: int) -> list[int]:
    """The whole training sequence of a report: findings first, then the words."""
    body = [*report_prefix(tokenizer, language, findings), *tokenizer.encode(text).ids]
    return [*body[: length - 1], token_id(tokenizer, END)]
