"""Label likelihoods against one plain pass a label; the tree behind the prefix changes the cost and nothing else."""

from __future__ import annotations

from itertools import pairwise
from time import perf_counter

import pytest
import torch
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from lf_lightning.likelihood import Candidates, label_log_likelihood, merge, split_at_label

SIZES = {"vocab_size": 60, "max_position_embeddings": 64}
LLAMA = {
    **SIZES,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
LABELS = [[5], [7, 8, 9], [7, 8, 3], [7], [11, 12, 13, 14]]  # shared beginnings; one label begins another


def llama(attention: str = "sdpa") -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(**LLAMA, initializer_range=0.3, attn_implementation=attention)
    return LlamaForCausalLM(config).eval()


def prefixes(lengths: list[int]) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, 60, (length,), generator=generator).tolist() for length in lengths]


@torch.inference_mode()
def brute_force(model: PreTrainedModel, prefix: list[int], continuation: list[int], context: int = 0) -> float:
    """One plain pass, no mask, no padding, in float64 after the logits."""
    sequence = torch.tensor([[*prefix, *continuation]])
    logs = model(input_ids=sequence).logits[0].double().log_softmax(-1)
    first = len(prefix) + context
    return float(sum(logs[i - 1, sequence[0, i]] for i in range(first, sequence.shape[1])))


@pytest.mark.parametrize("passes", ["auto", "packed", "separate"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_equals_one_pass_a_label(attention: str, passes: str) -> None:
    model = llama(attention)
    texts = prefixes([3, 17, 1, 9])
    with torch.inference_mode():
        found = label_log_likelihood(model, [Candidates(text, LABELS) for text in texts], passes=passes)  # type: ignore[arg-type]
    expected = torch.tensor([[brute_force(model, text, label) for label in LABELS] for text in texts])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_batch_equals_single_texts() -> None:
    model = llama()
    rows = [Candidates(text, LABELS) for text in prefixes([2, 30, 11])]
    with torch.inference_mode():
        together = label_log_likelihood(model, rows)
        alone = torch.cat([label_log_likelihood(model, [row]) for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", ["left", "right"])
@torch.inference_mode()
def test_equals_a_padded_batch_of_transformers(side: str) -> None:
    model = llama()
    texts = prefixes([4, 12])
    sequences = [[*text, *LABELS[1]] for text in texts]
    width = max(map(len, sequences))
    pads = [[0] * (width - len(sequence)) for sequence in sequences]
    ids = torch.tensor([p + s if side == "left" else s + p for s, p in zip(sequences, pads, strict=True)])
    mask = torch.tensor(
        [
            [0] * len(p) + [1] * len(s) if side == "left" else [1] * len(s) + [0] * len(p)
            for s, p in zip(sequences, pads, strict=True)
        ]
    )
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logs = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits.log_softmax(-1)
    found = label_log_likelihood(model, [Candidates(text, [LABELS[1]]) for text in texts])
    for row, (text, pad) in enumerate(zip(texts, pads, strict=True)):
        shift = len(pad) if side == "left" else 0
        expected = sum(logs[row, shift + len(text) + j - 1, token] for j, token in enumerate(LABELS[1]))
        torch.testing.assert_close(found[row, 0], expected, atol=1e-4, rtol=0)


def test_normalised_by_the_number_of_scored_tokens() -> None:
    model = llama()
    row = Candidates(prefixes([6])[0], LABELS, context=[0, 1, 2, 0, 3])
    with torch.inference_mode():
        total = label_log_likelihood(model, [row])
        mean = label_log_likelihood(model, [row], normalise=True)
    torch.testing.assert_close(mean * torch.tensor([1, 2, 1, 1, 1]), total)


@pytest.mark.parametrize("passes", ["packed", "separate"])
def test_context_is_conditioned_on_but_not_scored(passes: str) -> None:
    model = llama()
    prefix = prefixes([5])[0]
    with torch.inference_mode():
        found = label_log_likelihood(model, [Candidates(prefix, [[1, 2, 3], [1, 2, 4]], [2, 1])], passes=passes)  # type: ignore[arg-type]
    expected = [brute_force(model, prefix, [1, 2, 3], 2), brute_force(model, prefix, [1, 2, 4], 1)]
    torch.testing.assert_close(found, torch.tensor([expected]), atol=1e-4, rtol=0)


def test_all_one_token_continuations_are_a_distribution() -> None:
    model = llama()
    with torch.inference_mode():
        found = label_log_likelihood(model, [Candidates([1, 2, 3], [[token] for token in range(60)])])
    torch.testing.assert_close(found.exp().sum(), torch.tensor(1.0))


def test_learned_positions_and_a_model_that_cannot_be_packed() -> None:
    torch.manual_seed(0)
    gpt = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=60, n_positions=64, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, bos_token_id=0, eos_token_id=0
        )
    ).eval()
    mistral = MistralForCausalLM(MistralConfig(**LLAMA, sliding_window=4, initializer_range=0.3)).eval()
    for model in (gpt, mistral):  # the window of 4 is shorter than the texts, so that auto must not pack
        texts = prefixes([8, 13])
        with torch.inference_mode():
            found = label_log_likelihood(model, [Candidates(text, LABELS) for text in texts])
        expected = torch.tensor([[brute_force(model, text, label) for label in LABELS] for text in texts])
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    with torch.inference_mode():
        packed = label_log_likelihood(mistral, [Candidates(texts[0], LABELS)], passes="packed")
    assert (packed - expected[0]).abs().max() > 1e-3


def test_a_gradient_flows_in_the_callers_mode() -> None:
    model = llama()
    label_log_likelihood(model, [Candidates([1, 2], LABELS)]).sum().backward()
    gradients = [p.grad for p in model.parameters() if isinstance(p.grad, Tensor)]
    assert all(bool(g.isfinite().all()) for g in gradients)
    assert any(bool(g.abs().sum() > 0) for g in gradients)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [Candidates([], [[1]])],
        [Candidates([1], [])],
        [Candidates([1], [[]])],
        [Candidates([1], [[2]], [1])],
        [Candidates([1], [[2]]), Candidates([1], [[2], [3]])],
    ],
)
def test_impossible_rows_are_refused(rows: list[Candidates]) -> None:
    with pytest.raises(ValueError, match="rows:"):
        label_log_likelihood(llama(), rows)


def greedy(texts: list[str]) -> list[list[int]]:
    """A tokenizer with merges: a space joins the word behind it, and `ab` is one token."""
    out: list[list[int]] = []
    for text in texts:
        ids: list[int] = [1]
        position = 0
        while position < len(text):
            piece = text[position : position + 2]
            step = 2 if piece == "ab" or (piece[0] == " " and len(piece) == 2) else 1
            ids.append(sum(ord(c) * 256**i for i, c in enumerate(text[position : position + step])))
            position += step
        out.append(ids)
    return out


def test_white_space_before_the_label_belongs_to_the_label() -> None:
    row = split_at_label(greedy, ["x: "], [["yes", "no"]])[0]
    assert row.prefix == greedy(["x:"])[0]
    assert [[*row.prefix, *label] for label in row.continuations] == greedy(["x: yes", "x: no"])


def test_a_boundary_inside_a_token_backs_off_for_all_labels() -> None:
    row = split_at_label(greedy, ["xa"], [["b", "c"]])[0]
    assert row.prefix == greedy(["x"])[0]
    assert [[*row.prefix, *label] for label in row.continuations] == greedy(["xab", "xac"])
    assert [len(label) for label in row.continuations] == [1, 2]


def test_one_label_that_begins_another_keeps_a_token() -> None:
    row = split_at_label(greedy, ["x"], [["y", "yz"]])[0]
    assert row.continuations == [greedy(["y"])[0][1:], greedy(["yz"])[0][1:]]


def test_nothing_before_the_label_or_no_label() -> None:
    with pytest.raises(ValueError, match="empty"):
        split_at_label(greedy, ["x"], [["", "y"]])
    with pytest.raises(ValueError, match="precedes"):
        split_at_label(lambda texts: [ids[1:] for ids in greedy(texts)], [""], [["y", "z"]])


def test_merged_questions_equal_each_question_alone() -> None:
    model = llama()
    text = prefixes([7])[0]
    questions = [Candidates([*text, *statement], [[5], [6]]) for statement in ([20, 21], [20, 22, 23], [24])]
    merged = merge(questions)
    assert merged.prefix == text
    with torch.inference_mode():
        together = label_log_likelihood(model, [merged]).view(3, 2)
        alone = label_log_likelihood(model, questions)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert all(a.prefix != b.prefix for a, b in pairwise(questions))


@pytest.mark.slow
def test_a_cached_prefix_is_at_least_three_times_faster_than_passes_for_each_of_28_labels() -> None:
    torch.manual_seed(0)
    sizes = {**LLAMA, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "max_position_embeddings": 256}
    model = LlamaForCausalLM(LlamaConfig(**sizes)).eval()
    prefix, generator = prefixes([128])[0], torch.Generator().manual_seed(2)
    labels = [torch.randint(1, 60, (2,), generator=generator).tolist() for _ in range(28)]
    ratios = []
    with torch.inference_mode():
        for _ in range(7):  # in turns, so that what else runs on the machine slows both
            start = perf_counter()
            together = label_log_likelihood(model, [Candidates(prefix, labels)])
            between = perf_counter()
            alone = [label_log_likelihood(model, [Candidates(prefix, [label])], passes="separate") for label in labels]
            ratios.append((perf_counter() - between) / (between - start))
    torch.testing.assert_close(together, torch.cat(alone, 1), atol=1e-4, rtol=0)
    assert sorted(ratios)[3] > 3
