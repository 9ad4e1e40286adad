"""The writer: cached decoding equals the full pass, absent modalities change nothing, and what it learns is
what it was shown."""

from __future__ import annotations

import pytest
import torch

from medfuse.drafting.local_llm import write_locally
from medfuse.errors import UserError
from medfuse.models.tokens import Tokens
from medfuse.models.writer import (
    ANSWER,
    END,
    Writer,
    WriterConfig,
    question_prefix,
    report_ids,
    report_prefix,
    token_id,
    train_writer_tokenizer,
)
from medfuse.task import load_task

TASK = load_task("upper-abdomen")
TEXTS = [
    "FINDINGS: Ascites is present. IMPRESSION: Ascites.",
    "影像發現：可見腹水。診斷意見：腹水。",
    "FINDINGS: No ascites. IMPRESSION: Normal.",
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_writer_tokenizer(TEXTS * 3, TASK, ["en", "zh-TW"], vocabulary=400)


@pytest.fixture
def writer(tokenizer):
    torch.manual_seed(0)
    config = WriterConfig(
        tokenizer.get_vocab_size(),
        24,
        len(TASK.findings),
        TASK.senses,
        width=32,
        layers=2,
        heads=4,
        length=96,
        dropout=0.0,
    )
    return Writer(config).eval()


def memory_of(writer, batch=2, seed=1, absent=()):
    g = torch.Generator().manual_seed(seed)
    fused = {}
    for m in TASK.senses:
        mask = torch.full((batch, 5), m not in absent)
        fused[m] = Tokens(torch.randn(batch, 5, 24, generator=g), mask)
    return writer.memory(fused, torch.randn(batch, len(TASK.findings), generator=g)), fused


def test_text_in_any_language_comes_back(tokenizer):
    for text in [*TEXTS, "Ünïcode – 23 mm, 肝右葉。"]:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_cached_steps_equal_the_whole_pass(writer, tokenizer):
    memory, _ = memory_of(writer)
    ids = torch.randint(10, tokenizer.get_vocab_size(), (2, 17), generator=torch.Generator().manual_seed(3))
    whole, _ = writer(ids, memory)
    cache = writer.start(memory)
    parts = [writer.extend(ids[:, :5], cache)[0], writer.extend(ids[:, 5:9], cache)[0]]
    parts += [writer.extend(ids[:, i : i + 1], cache)[0] for i in range(9, 17)]
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5)


def test_greedy_equals_a_loop_without_cache(writer, tokenizer):
    memory, _ = memory_of(writer)
    prefix = torch.tensor([report_prefix(tokenizer, "en")] * 2)
    got = writer.generate(prefix, memory, end=token_id(tokenizer, END), length=12)
    ids = prefix
    for _ in range(12):
        ids = torch.cat([ids, writer(ids, memory)[0][:, -1].argmax(-1, keepdim=True)], 1)
    for row, expected in zip(got, ids[:, prefix.shape[1] :].tolist(), strict=True):
        end = expected.index(token_id(tokenizer, END)) if token_id(tokenizer, END) in expected else 12
        assert row == expected[:end]


def test_beams_are_at_least_as_likely_and_sampling_repeats(writer, tokenizer):
    memory, _ = memory_of(writer, batch=1)
    prefix = torch.tensor([report_prefix(tokenizer, "en")])
    end = token_id(tokenizer, END)

    @torch.no_grad()
    def logp(ids):
        full = torch.cat([prefix, torch.tensor([ids])], 1)
        lp = writer(full[:, :-1], memory)[0].log_softmax(-1)
        return sum(float(lp[0, prefix.shape[1] - 1 + i, t]) for i, t in enumerate(ids)) / len(ids)

    greedy, beam = (writer.generate(prefix, memory, end=end, length=8, beams=b)[0] for b in (1, 6))
    assert logp(beam) >= logp(greedy) - 1e-6
    one, two = (
        writer.generate(
            prefix,
            memory,
            end=end,
            length=8,
            temperature=1.0,
            top=20,
            generator=torch.Generator().manual_seed(5),
        )
        for _ in range(2)
    )
    assert one == two


def test_noise_in_an_absent_slot_changes_nothing(writer, tokenizer):
    memory, fused = memory_of(writer, absent=("CT",))
    noisy = {**fused, "CT": Tokens((fused["CT"].x + 100).requires_grad_(), fused["CT"].mask)}
    logits = torch.zeros(2, len(TASK.findings))
    ids = torch.tensor([report_prefix(tokenizer, "en")] * 2)
    a = writer(ids, writer.memory(fused, logits))[0]
    b = writer(ids, writer.memory(noisy, logits))[0]
    assert torch.equal(a, b)
    b.sum().backward()
    assert float(noisy["CT"].x.grad.abs().sum()) == 0.0


def test_it_learns_to_say_what_the_findings_say(tokenizer):
    """Two cases that differ in one finding's logit: after a minute of steps the words differ as they
    should."""
    torch.manual_seed(0)
    config = WriterConfig(
        tokenizer.get_vocab_size(),
        24,
        len(TASK.findings),
        TASK.senses,
        width=48,
        layers=2,
        heads=4,
        length=96,
        dropout=0.0,
    )
    writer = Writer(config)
    at = [f.id for f in TASK.findings].index("ascites")
    logits = torch.full((2, len(TASK.findings)), -4.0)
    logits[0, at] = 4.0
    nothing = {m: Tokens(torch.zeros(2, 1, 24), torch.zeros(2, 1, dtype=torch.bool)) for m in TASK.senses}
    rows = [
        report_ids(tokenizer, "en", ["ascites"], TEXTS[0], 96),
        report_ids(tokenizer, "en", [], TEXTS[2], 96),
    ]
    ids = torch.zeros(2, max(map(len, rows)), dtype=torch.long)
    for b, row in enumerate(rows):
        ids[b, : len(row)] = torch.tensor(row)
    optimiser = torch.optim.AdamW(writer.parameters(), 3e-3)
    for _ in range(120):
        out, _ = writer(ids[:, :-1], writer.memory(nothing, logits))
        loss = torch.nn.functional.cross_entropy(out.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    prefix = torch.tensor([report_prefix(tokenizer, "en")] * 2)
    with torch.no_grad():
        said = [
            tokenizer.decode(x, skip_special_tokens=True).strip()
            for x in writer.generate(prefix, writer.memory(nothing, logits), end=token_id(tokenizer, END))
        ]
    assert said == [TEXTS[0], TEXTS[2]]


def test_a_question_ends_with_the_answer_mark_and_too_long_is_refused(writer, tokenizer):
    ids = question_prefix(tokenizer, "zh-TW", "有腹水嗎？" * 50)
    assert ids[-1] == token_id(tokenizer, ANSWER)
    assert len(ids) <= 90
    memory, _ = memory_of(writer, batch=1)
    with pytest.raises(ValueError, match="at most 96"):
        writer(torch.zeros(1, 97, dtype=torch.long), memory)


def test_a_local_language_model_writes_and_a_missing_tokenizer_is_named(tmp_path, tokenizer):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "llm"
    config = transformers.GPT2Config(
        vocab_size=tokenizer.get_vocab_size(), n_positions=128, n_embd=16, n_layer=1, n_head=2
    )
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    with pytest.raises(UserError, match="tokenizer is missing"):
        write_locally(folder, "FINDINGS:")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="[END]"
    )
    fast.save_pretrained(folder)
    once, twice = (write_locally(folder, "FINDINGS:", tokens=12) for _ in range(2))
    assert once == twice
    with pytest.raises(UserError, match="longer context"):
        write_locally(folder, "a b c d " * 100)
    with pytest.raises(UserError, match=r"no config\.json"):
        write_locally(tmp_path, "x")
    (folder / "model.safetensors").unlink()
    torch.save(transformers.GPT2LMHeadModel(config).state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded"):  # a pickle was read
        write_locally(folder, "FINDINGS:")
