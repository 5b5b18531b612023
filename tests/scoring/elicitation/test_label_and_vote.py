"""Bare labels: recognised whatever their case, never guessed; votes counted and smoothed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring import stated_scores
from lf_lightning.scoring.elicitation.label import Label, stated_keys
from lf_lightning.scoring.elicitation.vote import Vote
from lf_lightning.scoring.requests import Reply
from lf_lightning.store import Status

KEYS = ("sport", "sports car", "Tech")


@pytest.mark.parametrize("text", ["Tech", "tech", " TECH.\n", '"tech"', "**Tech**", "Label: tech", "label:\nTech", "Ｔｅｃｈ"])
def test_a_label_is_recognised_whatever_its_case_and_dress(text: str) -> None:
    assert stated_keys(text, KEYS, "multiclass") == [2]


@pytest.mark.parametrize(
    "text", ["", "...", "technology", "sport, tech", "sport or tech", "The label is tech", "none", "tech\nsport"]
)
def test_anything_else_is_no_label(text: str) -> None:
    assert stated_keys(text, KEYS, "multiclass") is None
    assert Label().read(KEYS, "multiclass", [Reply(text, "stop")]).status == Status.UNPARSED


def test_one_label_may_begin_another() -> None:
    assert [stated_keys(text, KEYS, "multiclass") for text in ("sport", "Sports car")] == [[0], [1]]


def test_multilabel_names_any_number() -> None:
    for text, chosen in {"tech, sport": [0, 2], "Sport\nTech": [0, 2], "none": [], "None.": [], "sport|sport": [0]}.items():
        assert stated_keys(text, KEYS, "multilabel") == chosen
    assert stated_keys("tech, lorry", KEYS, "multilabel") is None
    assert stated_keys("tech, none", KEYS, "multilabel") is None


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_confidence_is_spread_as_for_stated_labels(task: Any) -> None:
    expected = stated_scores(["tech"], KEYS, task, default_confidence=0.7).probabilities[0]
    np.testing.assert_allclose(Label(0.7).read(KEYS, task, [Reply("tech", "stop")]).probabilities, expected, rtol=1e-6)
    none = Label(0.7).read(KEYS, "multilabel", [Reply("none", "stop")]).probabilities
    np.testing.assert_allclose(none, 0.3, rtol=1e-6)


def test_a_reason_before_the_label_is_kept() -> None:
    reading = Label(reason=True).read(KEYS, "multiclass", [Reply("Reason: It names a chip.\nLabel: tech", "stop")])
    assert (reading.rationale, reading.probabilities[2]) == ("It names a chip.", pytest.approx(0.85))
    two = Label(reason=True).read(
        KEYS, "multiclass", [Reply("Reason: Not label: sport.\nLabel: sport\n**Label:** tech", "stop")]
    )
    assert two.probabilities[2] == pytest.approx(0.85)
    assert Label(reason=True).read(KEYS, "multiclass", [Reply("It names a chip.", "stop")]).status == Status.UNPARSED


def test_answers_about_one_of_several_texts() -> None:
    mode = Label(texts_per_request=4)
    assert mode.read_item(KEYS, "multiclass", {"label": "TECH"}).probabilities[2] == pytest.approx(0.85)
    assert mode.read_item(KEYS, "multilabel", {"labels": []}).probabilities == pytest.approx((0.15, 0.15, 0.15))
    assert mode.read_item(KEYS, "multilabel", {"labels": ["sport", "tech"]}).probabilities == pytest.approx((0.85, 0.15, 0.85))
    for item in ({"label": "x"}, {"label": 3}, {"label": ["sport", "tech"]}, {}, {"label": "tech", "more": 1}):
        assert mode.read_item(KEYS, "multiclass", item).status == Status.UNPARSED


def test_votes_are_counted_and_smoothed() -> None:
    replies = [Reply(text, "stop") for text in ("tech", "Tech", "sport", "nonsense", "tech")]
    reading = Vote(5, smoothing=0.5).read(KEYS, "multiclass", replies)
    np.testing.assert_allclose(reading.probabilities, np.array([1.5, 0.5, 3.5]) / 5.5)
    several = [Reply(text, "stop") for text in ("tech, sport", "none", "tech", "tech")]
    reading = Vote(4, smoothing=1.0).read(KEYS, "multilabel", several)
    np.testing.assert_allclose(reading.probabilities, np.array([2, 1, 4]) / 6)


def test_votes_that_mostly_fail_give_no_score() -> None:
    bad, no, good = Reply("what", "stop"), Reply("", "refused"), Reply("tech", "stop")
    assert Vote(5).read(KEYS, "multiclass", [bad, bad, bad, good, good]).status == Status.UNPARSED
    assert Vote(5).read(KEYS, "multiclass", [no, no, bad, good, good]).status == Status.REFUSED
    assert Vote(5).read(KEYS, "multiclass", [no, bad, good, good, good]).status == Status.SCORED
    assert Vote(2).read(KEYS, "multiclass", [Reply("tech", "length"), Reply("tech", "length")]).status == Status.UNPARSED


def test_each_vote_is_a_question_of_its_own() -> None:
    assert [question.sample for question in Vote(3).questions(2, "multiclass")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("mode", "arguments"),
    [(Vote, {"samples": 1}), (Vote, {"temperature": 0.0}), (Vote, {"smoothing": 0.0}), (Label, {"confidence": 1.0})],
)
def test_arguments_out_of_range(mode: Any, arguments: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        mode(**arguments)
