"""What the store noted beside the scores: reasons and costs, by split."""

from __future__ import annotations

import pytest

from lf_lightning.data.scores import ScoreSource
from lf_lightning.store import ScorerCard, ScoreStore

TEXTS = ["one", "two", "three"]


@pytest.fixture
def source(tmp_path):
    """A store of two scorers: the first gave reasons and noted what it took, of the last text without its cost."""
    store = ScoreStore(tmp_path / "scores", create=True)
    first, second = (ScorerCard(name, ("a", "b"), "multiclass", {"model": name}) for name in ("gpt", "local"))
    notes = [{"input_tokens": 10, "output_tokens": 1, "cost_usd": 0.25}] * 2 + [{"input_tokens": 5, "output_tokens": 1}]
    store.append(first, TEXTS, [[0.5, 0.5]] * 3, rationales=["because", None, "so"], usage=notes)
    store.append(second, TEXTS[:2], [[0.5, 0.5]] * 2)
    return ScoreSource(str(tmp_path / "scores"), None, "mask")


def test_reasons_stand_beside_their_texts_and_silent_scorers_are_left_out(source):
    assert source.rationales(["three", "four", "one", "one"]) == {"gpt": ["so", None, "because", "because"]}


def test_costs_count_equal_texts_once_and_are_none_unless_every_one_is_noted(source):
    assert source.costs(["one", "two", "one", "four"]) == {
        "gpt": {"texts": 2, "input_tokens": 20, "output_tokens": 2, "cost_usd": 0.5},
        "local": {"texts": 2, "input_tokens": None, "output_tokens": None, "cost_usd": None},
    }
    costs = source.costs(TEXTS)["gpt"]
    assert (costs["input_tokens"], costs["cost_usd"]) == (25, None)
    assert source.costs(["four"])["gpt"]["cost_usd"] is None
