"""Stated labels as scores: the rule, and what is no answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lf_lightning.errors import ConfigurationError, DataError
from lf_lightning.scoring import StatedLabelScorer, stated_scores
from lf_lightning.store import ScoreStore, Status

LABELS = ["calm", "help wanted", "damage"]


def test_the_confidence_stays_on_its_label_and_the_rest_is_shared() -> None:
    scores = stated_scores(
        ["damage", " Help Wanted", "calm", "calm", "calm"], LABELS, confidences=["0.9", "70%", "", "0.1", "1.0"]
    )
    expected = [[0.05, 0.05, 0.9], [0.15, 0.7, 0.15], [0.85, 0.075, 0.075], [1 / 3, 1 / 3, 1 / 3], [0.99, 0.005, 0.005]]
    np.testing.assert_allclose(scores.probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(scores.probabilities.sum(1), 1, atol=1e-6)
    assert (scores.status == Status.SCORED).all()
    assert scores.probabilities.dtype == np.float32


def test_multilabel_labels_are_joined_by_a_bar() -> None:
    scores = stated_scores(["calm|damage", "damage", "calm"], LABELS, "multilabel", ["0.9", "", "0.2"])
    np.testing.assert_allclose(scores.probabilities, [[0.9, 0.1, 0.9], [0.15, 0.15, 0.85], [0.5, 0.5, 0.5]], atol=1e-6)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("empty", ["absent", "refused"])
def test_what_is_no_answer_is_never_a_label(task: Any, empty: Any) -> None:
    stated = ["", "  ", "not damage, calm", "flood", "calm", "calm", "calm", "calm", "calm"]
    confidences = ["0.9", "", "0.9", "0.9", "nan", "-0.1", "7", "high", "90% or so"]
    scores = stated_scores(stated, LABELS, task, confidences, empty=empty)
    nothing = Status.ABSENT if empty == "absent" else Status.REFUSED
    assert scores.status.tolist() == [nothing] * 2 + [Status.UNPARSED] * 7
    assert not scores.probabilities.any()


def test_two_labels_in_a_multiclass_row_are_unparsed_and_one_unknown_label_spoils_a_multilabel_row() -> None:
    assert stated_scores(["calm|damage"], LABELS).status.tolist() == [Status.UNPARSED]
    assert stated_scores(["calm|flood"], LABELS, "multilabel").status.tolist() == [Status.UNPARSED]


@pytest.mark.parametrize(
    ("labels", "confidence", "message"),
    [(["a", "A "], 0.85, "differ"), (["a"], 0.85, "two"), (["a", "b"], 1.0, "default_confidence")],
)
def test_wrong_arguments(labels: list[str], confidence: float, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        stated_scores([], labels, default_confidence=confidence)


@pytest.fixture
def table(tmp_path: Path) -> str:
    rows = {
        "text": ["NA", "two\nlines", "three", "four", "NA"],
        "llm": ["calm", "damage", "", "flood", "calm"],
        "sure": ["0.9", "", "", "0.8", "0.9"],
        "why": ["quiet", "", "", "wet", "quiet"],
    }
    pd.DataFrame(rows).to_csv(tmp_path / "answers.csv", index=False)
    return str(tmp_path / "answers.csv")


def scorer(table: str, **changes: Any) -> StatedLabelScorer:
    arguments: dict[str, Any] = {"label_column": "llm", "confidence_column": "sure", "rationale_column": "why"}
    return StatedLabelScorer("llm", [table], LABELS, **(arguments | changes))


def test_texts_are_found_by_their_content(table: str) -> None:
    scores = scorer(table).score(["four", "nowhere", "two\nlines", "NA", "three"])
    assert scores.status.tolist() == [Status.UNPARSED, Status.ABSENT, Status.SCORED, Status.SCORED, Status.ABSENT]
    np.testing.assert_allclose(scores.probabilities[2:4], [[0.075, 0.075, 0.85], [0.9, 0.05, 0.05]], atol=1e-6)
    assert scores.rationales == ["wet", None, None, "quiet", None]
    refused = scorer(table, empty="refused").score(["three", "nowhere"])
    assert refused.status.tolist() == [Status.REFUSED, Status.ABSENT]


def test_scores_go_into_a_store(table: str, tmp_path: Path) -> None:
    stated, store = scorer(table), ScoreStore(tmp_path / "store", create=True)
    scores = stated.score(["NA", "four"])
    store.append(stated.card, ["NA", "four"], scores.probabilities, scores.status, scores.rationales)
    joined = store.join(["four", "NA"], ["llm"], LABELS)
    np.testing.assert_array_equal(joined.scores[1, 0], scores.probabilities[0])
    assert joined.scored[:, 0].tolist() == [False, True]
    assert store.rationales("llm", ["NA"]) == ["quiet"]


def test_other_answers_or_another_rule_are_another_scorer(table: str, tmp_path: Path) -> None:
    edited = tmp_path / "edited.csv"
    edited.write_text(Path(table).read_text().replace("flood", "damage"))
    moved = tmp_path / "moved.csv"
    rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    rows[::-1].to_csv(moved, index=False)
    first = scorer(table).card.fingerprint
    assert scorer(str(moved)).card.fingerprint == first
    changed = [
        scorer(str(edited)),
        scorer(table, default_confidence=0.8),
        scorer(table, empty="refused"),
        scorer(table, confidence_column=None),
    ]
    assert first not in {other.card.fingerprint for other in changed}


def test_contradictions_and_missing_columns(table: str, tmp_path: Path) -> None:
    twice = tmp_path / "twice.csv"
    twice.write_text("text,llm,sure,why\na,calm,,\na,damage,,\n")
    with pytest.raises(DataError, match="twice"):
        scorer(str(twice)).score(["a"])
    with pytest.raises(ConfigurationError, match="no column 'gpt'"):
        scorer(table, label_column="gpt").score(["a"])
    with pytest.raises(ConfigurationError, match="cannot be read"):
        scorer(str(tmp_path / "none.csv")).card  # noqa: B018
