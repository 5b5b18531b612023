from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lf_lightning.errors import ConfigurationError, DataError, StoreError
from lf_lightning.store import ScorerCard, ScoreStore, Status

Rows = Callable[..., Any]


def shards(store: ScoreStore, card: ScorerCard) -> list[str]:
    return sorted(path.name for path in (store.path / card.fingerprint).glob("*.arrow"))


def test_what_is_appended_is_read_again(store: ScoreStore, card: ScorerCard, distributions: Rows) -> None:
    texts, values = ["a", "b", "", "d\0", "\ud800"], distributions(5)
    reasons = ["because\ud83d", None, "", "\0", "é"]
    usage = [{"tokens": 3, "note": "\ud800"}, None, {}, {"cost": 0.1}, {"a": [1, None]}]
    assert store.append(card, texts, values, rationales=reasons, usage=usage) == 5
    again = ScoreStore(store.path)
    table = again.table("gpt")
    assert table.probabilities.tobytes() == values.tobytes()
    assert table.status.tolist() == [1] * 5
    assert table.card == card
    assert again.rationales("gpt", [*texts, "unknown"]) == [*reasons, None]
    assert again.usage("gpt", ["unknown", *texts]) == [None, *usage]
    assert again.missing(card, ["x", *texts, "y", "x"]) == [0, 6]
    assert again.missing("gpt", texts) == []
    with pytest.raises(ValueError, match="read-only"):
        table.probabilities[0] = 0


def test_a_scorer_that_is_not_there_misses_every_text_once(store: ScoreStore, card: ScorerCard) -> None:
    assert store.missing(card, ["b", "a", "b", "c", "a"]) == [0, 1, 3]


def test_one_store_object_sees_what_another_wrote(store: ScoreStore, card: ScorerCard, distributions: Rows) -> None:
    reader, values = ScoreStore(store.path), distributions(4)
    store.append(card, ["a", "b"], values[:2])
    assert reader.missing(card, ["a", "b", "c"]) == [2]
    store.append(card, ["c", "d"], values[2:])
    assert reader.table("gpt").probabilities.tolist() == values.tolist()
    assert shards(store, card) == ["000000.arrow", "000001.arrow"]


def test_the_same_rows_again_are_no_news(store: ScoreStore, card: ScorerCard, distributions: Rows) -> None:
    values = distributions(3)
    assert store.append(card, ["a", "b", "c"], values) == 3
    before = (store.path / "manifest.json").read_bytes()
    assert store.append(card, ["c", "a"], values[[2, 0]], rationales=["later", None]) == 0
    assert (store.path / "manifest.json").read_bytes() == before
    assert store.rationales("gpt", ["c"]) == [None]
    assert store.append(card, ["c", "d", "d"], values[[2, 0, 0]]) == 1
    assert store.append(card, [], np.empty((0, 3))) == 0


def test_other_values_for_the_same_text_are_refused_with_counts(
    store: ScoreStore, card: ScorerCard, distributions: Rows
) -> None:
    values = distributions(4)
    store.append(card, ["a", "b", "c"], values[:3])
    next_float = np.nextafter(values[1], np.float32(1))
    with pytest.raises(StoreError, match=r"2 of 4 rows .* 1 with other values, 1 with another status. The first is position 1"):
        store.append(card, ["new", "b", "c", "a"], [values[3], next_float, values[2], values[0]], status=[1, 1, 2, 1])
    assert store.missing(card, ["new"]) == [0]
    assert store.table("gpt").probabilities.tolist() == values[:3].tolist()


def test_rows_of_one_call_may_not_contradict_each_other(store: ScoreStore, card: ScorerCard, distributions: Rows) -> None:
    values = distributions(2)
    with pytest.raises(StoreError, match=r"1 of 3 rows .* position 2"):
        store.append(card, ["a", "b", "a"], values[[0, 1, 1]])
    assert store.cards == {}


def test_only_a_score_supersedes_and_only_what_was_no_score(store: ScoreStore, card: ScorerCard, distributions: Rows) -> None:
    scored, refused, unparsed = Status.SCORED, Status.REFUSED, Status.UNPARSED
    values = distributions(3)
    nan = np.full(3, np.nan)
    assert store.append(card, ["r", "u", "s"], [nan, nan, values[2]], status=[refused, unparsed, scored]) == 3
    assert store.counts("gpt") == {scored: 1, refused: 1, unparsed: 1}
    assert store.append(card, ["r", "u"], [nan, values[0]], status=[refused, unparsed]) == 0
    assert store.append(card, ["r", "u"], values[:2], rationales=["at last", None]) == 2
    for text, status in (("s", refused), ("r", unparsed)):
        with pytest.raises(StoreError, match="1 with another status"):
            store.append(card, [text], nan[None], status=[status])
    again = ScoreStore(store.path)
    assert again.counts("gpt") == {scored: 3, refused: 0, unparsed: 0}
    assert len(again.table("gpt").keys) == 3
    assert again.rationales("gpt", ["r"]) == ["at last"]
    assert again.join(["r", "u", "s"], ["gpt"], card.labels).scores[:, 0].tolist() == values.tolist()
    # Within one call the same rules hold, row by row.
    assert again.append(card, ["x", "x", "x"], [nan, nan, values[0]], status=[refused, refused, scored]) == 1
    with pytest.raises(StoreError, match="another status"):
        again.append(card, ["y", "y"], [values[0], nan], status=[scored, refused])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.5, 0.5, np.nan], "not in .0, 1."),
        ([0.5, 0.5, np.inf], "not in .0, 1."),
        ([1.5, -0.25, -0.25], "not in .0, 1."),
        ([0.5, 0.25, 0.2], "sum to 1 .* sum 0.95"),
        ([0.0, 0.0, 0.0], "sum to 1"),
    ],
)
def test_rows_that_are_no_probabilities(store: ScoreStore, card: ScorerCard, row: list[float], message: str) -> None:
    with pytest.raises(DataError, match=f"1 of 2 rows .*{message}"):
        store.append(card, ["a", "b"], [[0.2, 0.3, 0.5], row])
    assert store.cards == {}


def test_multilabel_rows_need_not_sum_to_one(store: ScoreStore) -> None:
    card = ScorerCard("m", ("a", "b"), "multilabel", {})
    assert store.append(card, ["x", "y"], [[0.9, 0.8], [0.0, 0.0]]) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probabilities": [[0.5, 0.5]]}, r"\(1, 2\); 1 texts and 3 labels .* need \(1, 3\)"),
        ({"probabilities": [[1, 0, 0], [1, 0, 0]]}, r"\(2, 3\)"),
        ({"status": [0]}, "Leave out"),
        ({"status": [1, 1]}, r"shape \(2,\)"),
        ({"status": [7]}, r"\[7\]"),
        ({"rationales": []}, "rationales has 0 items for 1 texts"),
        ({"rationales": [float("nan")]}, r"rationales\[0\] is nan"),
        ({"usage": [{"cost": float("nan")}]}, r"usage\[0\], 'cost': nan"),
        ({"usage": [{}, {}]}, "usage has 2 items"),
    ],
)
def test_arguments_that_do_not_fit(store: ScoreStore, card: ScorerCard, changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"probabilities": [[1, 0, 0]]} | changes
    with pytest.raises(ConfigurationError, match=message):
        store.append(card, ["a"], **arguments)
    assert store.cards == {}


def test_a_scorer_keeps_the_name_it_came_with(store: ScoreStore, card: ScorerCard, distributions: Rows) -> None:
    store.append(card, ["a"], distributions(1))
    store.append(ScorerCard("renamed", card.labels, card.task, card.spec), ["b"], distributions(1, seed=1))
    assert [known.name for known in store.cards.values()] == ["gpt"]
    assert len(store.table("gpt").keys) == 2


operation = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(1, 3)), max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.lists(operation, max_size=5))
def test_appends_follow_the_rules_of_a_dict(tmp_path_factory: pytest.TempPathFactory, batches: list[Any]) -> None:
    """Against a plain model: each row one by one, a batch undone as a whole if one of its rows is refused."""
    card = ScorerCard("m", ("a", "b"), "multilabel", {})
    choices = np.array([[0.25, 0.5], [0.25, 0.75], [1, 0]], dtype=np.float32)
    store = ScoreStore(tmp_path_factory.mktemp("model"), create=True)
    model: dict[str, tuple[int, tuple[float, ...]]] = {}
    for batch in batches:
        changed = dict(model)
        allowed = True
        for text, choice, status in batch:
            row = (status, tuple(choices[choice].tolist()) if status == Status.SCORED else (0.0, 0.0))
            before = changed.get(str(text), row)
            allowed = allowed and (before == row or (before[0] != Status.SCORED and status == Status.SCORED))
            changed[str(text)] = row
        texts = [str(text) for text, _, _ in batch]
        values = choices[[choice for _, choice, _ in batch]]
        statuses = [status for _, _, status in batch]
        if allowed:
            written = store.append(card, texts, values, status=statuses)
            assert written == sum(model.get(text) != row for text, row in changed.items())
            model = changed
        else:
            with pytest.raises(StoreError, match="contradict"):
                store.append(card, texts, values, status=statuses)
    if model:
        joined = ScoreStore(store.path).join(list(model), ["m"], ["a", "b"])
        assert joined.status[:, 0].tolist() == [status for status, _ in model.values()]
        assert joined.scores[:, 0].tolist() == [list(values) for _, values in model.values()]
