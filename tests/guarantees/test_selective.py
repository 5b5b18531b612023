"""Answers are given as far as the promise holds, and no further: against scipy, and by simulation where it nearly fails."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from lf_lightning.errors import ConfigurationError, NotFittedError
from lf_lightning.guarantees import Abstention, confidence_of, error_upper_bound, least_confidence


@pytest.mark.parametrize(("errors", "rows"), [(0, 1), (0, 59), (3, 80), (80, 80)])
def test_the_bound_is_clopper_and_pearsons(errors: int, rows: int) -> None:
    expected = binomtest(errors, rows, alternative="less").proportion_ci(0.95, method="exact").high
    assert error_upper_bound(errors, rows, 0.05) == pytest.approx(expected)


def drawn(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Confidences that are right as often as they say."""
    confidence = 1 - 0.5 * rng.random(n) ** 1.5
    return confidence, rng.random(n) < confidence


@pytest.mark.parametrize("error", [0.05, 0.1])
def test_the_promise_is_broken_in_no_more_than_one_of_twenty_fits(error: float) -> None:
    rng, broken, answered = np.random.default_rng(0), 0, []
    for _ in range(300):
        confidence, right = drawn(400, rng)
        threshold = least_confidence(confidence, right, error)
        # The true error above a threshold t is (1 - mean confidence there).
        grid = 1 - 0.5 * np.linspace(0, 1, 2001) ** 1.5
        given = grid >= threshold
        answered.append(given.mean())
        broken += bool(given.any() and 1 - grid[given].mean() > error)
    assert broken <= binom.ppf(0.99, 300, 0.05)
    assert np.mean(answered) > (0.03 if error == 0.05 else 0.15)  # it is no promise to say nothing


def test_perfect_answers_are_all_given_and_bad_ones_never() -> None:
    confidence = np.linspace(0.5, 1, 200)
    assert least_confidence(confidence, np.ones(200, dtype=bool), 0.05) == 0.5
    assert least_confidence(confidence, np.zeros(200, dtype=bool), 0.05) == math.inf
    assert least_confidence(confidence[:30], np.ones(30, dtype=bool), 0.05) == math.inf  # too few rows to know


def test_equal_confidences_are_answered_together_or_not_at_all() -> None:
    confidence = np.repeat([0.9, 0.6], 200)
    right = np.concatenate([np.ones(200, dtype=bool), np.arange(200) % 2 == 0])
    assert least_confidence(confidence, right, 0.05) == 0.9


def test_abstention() -> None:
    rng = np.random.default_rng(1)
    confidence, right = drawn(1000, rng)
    rule = Abstention(0.1).fit(confidence, right)
    given = rule.answers(confidence)
    assert given.mean() == rule.answered_share > 0.2
    assert (~right[given]).mean() < 0.1
    assert Abstention(0.05).fit(confidence, right).answered_share < rule.answered_share
    with pytest.raises(NotFittedError):
        Abstention(0.1).answers(confidence)
    with pytest.raises(ConfigurationError, match="error=0"):
        Abstention(0.0).fit(confidence, right)


def test_confidence_is_of_the_decision_and_not_of_the_likeliest() -> None:
    p = np.array([[0.7, 0.3], [0.2, 0.8]])
    assert confidence_of(p, np.array([1, 1])).tolist() == [0.3, 0.8]
    assert confidence_of(p, np.array([[1, 1], [0, 0]])) == pytest.approx([0.7 * 0.3, 0.8 * 0.2])
