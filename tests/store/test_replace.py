"""Replies that were read anew take the place of the old rows; a scorer can be taken out whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from lf_lightning.errors import StoreError
from lf_lightning.store import ScorerCard, ScoreStore, Status

CARD = ScorerCard("llm", ("a", "b"), "multiclass", {"parser": 1})
OTHER = ScorerCard("llm", ("a", "b"), "multiclass", {"parser": 2})


def test_replace_supersedes_rows_that_differ_and_keeps_the_rest(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path / "store", create=True)
    store.append(CARD, ["x", "y", "z"], [[1, 0], [0.5, 0.5], [0, 1]])
    with pytest.raises(StoreError, match="contradict"):
        store.append(CARD, ["x"], [[0, 1]])
    unparsed = [Status.SCORED, Status.UNPARSED]
    assert store.append(CARD, ["x", "y"], [[1, 0], [0, 0]], unparsed, [None, "why"], replace=True) == 1
    for opened in (store, ScoreStore(tmp_path / "store")):
        joined = opened.join(["x", "y", "z"], ["llm"], ["a", "b"])
        assert joined.status[:, 0].tolist() == [Status.SCORED, Status.UNPARSED, Status.SCORED]
        assert joined.scores[:, 0].tolist() == [[1, 0], [0, 0], [0, 1]]
        assert opened.rationales("llm", ["y"]) == ["why"]
        assert opened.counts("llm") == {Status.SCORED: 2, Status.REFUSED: 0, Status.UNPARSED: 1}
    assert store.append(CARD, ["x", "x"], [[0, 1], [0.2, 0.8]], replace=True) == 1
    assert store.join(["x"], ["llm"], ["a", "b"]).scores[0, 0].tolist() == pytest.approx([0.2, 0.8])
    assert store.verify() == []


def test_a_discarded_scorer_is_gone_and_can_come_again(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path / "store", create=True)
    reader = ScoreStore(tmp_path / "store")
    store.append(CARD, ["x"], [[1, 0]])
    store.append(OTHER, ["x"], [[0, 1]])
    assert len(reader.cards) == 2
    store.discard(CARD.fingerprint)
    for opened in (store, reader):
        assert list(opened.cards) == [OTHER.fingerprint]
        assert opened.join(["x"], ["llm"], ["a", "b"]).scores[0, 0].tolist() == [0, 1]
    assert not list((tmp_path / "store" / CARD.fingerprint).glob("*.arrow"))
    store.append(CARD, ["y"], [[0.5, 0.5]])
    assert store.missing(CARD, ["x", "y"]) == [0]
    with pytest.raises(StoreError, match="no scorer"):
        store.discard("nobody")
