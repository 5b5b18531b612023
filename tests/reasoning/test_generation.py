"""Sampling: seeded by text, the distribution that the model gives, and greedy as transformers has it."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from lf_lightning.generation import sample


@pytest.fixture(scope="module")
def model(lm: str) -> PreTrainedModel:
    found: PreTrainedModel = AutoModelForCausalLM.from_pretrained(lm)
    return found


PREFIXES = [[0, 30, 31, 32], [0, 40], [0, 50, 51, 52, 53, 54, 55]]


def test_greedy_is_that_of_transformers(model: PreTrainedModel) -> None:
    found = sample(model, PREFIXES, [1], max_tokens=10, temperature=0)
    for prefix, (drawn,) in zip(PREFIXES, found, strict=True):
        ids = torch.tensor([prefix])
        whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False, pad_token_id=1)
        expected = whole[0, len(prefix) :].tolist()
        assert drawn == expected[: expected.index(1) if 1 in expected else None]


def test_neither_neighbours_nor_torchs_generator_change_a_draw(model: PreTrainedModel) -> None:
    together = sample(model, PREFIXES, [1], 8, samples=3, seed=4)
    torch.manual_seed(1)
    assert [sample(model, [prefix], [1], 8, samples=3, seed=4)[0] for prefix in PREFIXES] == together
    assert [rows[:1] for rows in together] == sample(model, PREFIXES, [1], 8, seed=4)
    assert together != sample(model, PREFIXES, [1], 8, samples=3, seed=5)
    assert model.training is False or model.train(False)


def test_first_tokens_are_drawn_as_often_as_they_are_likely(model: PreTrainedModel) -> None:
    n = 4000
    drawn = sample(model, [[0, 30]], [], 1, temperature=0.5, samples=n)[0]
    counts = torch.bincount(torch.tensor(drawn)[:, 0], minlength=model.config.vocab_size) / n
    with torch.no_grad():
        p = (model(torch.tensor([[0, 30]])).logits[0, -1] / 0.5).softmax(-1)
    assert float((counts - p).abs().max()) < 5 * 0.5 / n**0.5


def test_a_stop_ends_and_is_left_out(model: PreTrainedModel) -> None:
    (greedy,) = sample(model, [[0, 30]], [], 6, temperature=0)[0]
    stopped = sample(model, [[0, 30]], [greedy[3]], 6, temperature=0)[0][0]
    assert stopped == greedy[: greedy.index(greedy[3])]


def test_a_model_goes_on_as_it_was(model: PreTrainedModel) -> None:
    model.train()
    sample(model, [[0]], [1], 1)
    assert model.training
    model.eval()


def test_what_cannot_be_drawn_is_refused(model: PreTrainedModel) -> None:
    assert sample(model, [], [1]) == []
    with pytest.raises(ValueError, match="one is empty"):
        sample(model, [[0], []], [1])
    with pytest.raises(ValueError, match="temperature=-1"):
        sample(model, [[0]], [1], temperature=-1)
