"""Answering only where the error stays under a promise, with a stated confidence."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from lf_lightning.errors import ConfigurationError, NotFittedError

_FIRST_ERRORS = (0, 1, 2, 4)
_STEPS = 40


def error_upper_bound(errors: int, rows: int, delta: float) -> float:
    """Returns the one-sided upper bound of an error rate (Clopper and Pearson, 1934): a greater one is missed with `delta`.

    Args:
        errors: Wrong rows among those seen.
        rows: Rows seen, at least 1.
        delta: In (0, 1).

    Example:
        >>> round(error_upper_bound(0, 59, 0.05), 4)
        0.0495
    """
    return float(_upper_bounds(np.array([errors]), np.array([rows]), delta)[0])


def least_confidence(
    confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_], error: float, certainty: float = 0.95
) -> float:
    """Returns the least confidence from which on answers may be given, so that the error stays under the promise.

    Learn then Test (Angelopoulos et al., 2021) by fixed-sequence tests from several starting points: for each number of errors
    e in 0, 1, 2, 4 the first candidate is the smallest number of surest rows among which e errors would pass; from there the
    rows are widened step by step as long as `error_upper_bound` at (1 - certainty) / 4 stays under the promise. The widest of
    the four counts. Which rows are candidates depends on the confidences alone, never on who is right.

    Args:
        confidence: (n,) of rows that are exchangeable with those to come.
        right: (n,) whether the answer was right.
        error: Promised share of wrong answers among those given, in (0, 1).
        certainty: Probability, over fitted rows, that the promise holds; in (0, 1).

    Returns:
        The threshold; infinity where no answer can be given.
    """
    for name, value in {"error": error, "certainty": certainty}.items():
        if not 0 < value < 1:
            raise ConfigurationError(f"{name}={value} is not within 0 and 1.")
    order = np.argsort(-np.asarray(confidence, dtype=np.float64), kind="stable")
    c, wrong = np.asarray(confidence, dtype=np.float64)[order], (~right[order]).cumsum()
    # Rows of equal confidence are accepted together.
    last = np.searchsorted(-c, -c, side="right")
    delta, widest = (1 - certainty) / len(_FIRST_ERRORS), 0
    for errors in _FIRST_ERRORS:
        start = _rows_for(errors, error, delta)
        if start > len(c):
            continue
        rows = np.unique(last[np.linspace(start, len(c), _STEPS).astype(int) - 1])
        passed = _upper_bounds(wrong[rows - 1], rows, delta) <= error
        if passed[0]:
            widest = max(widest, int(rows[-1] if passed.all() else rows[passed.argmin() - 1]))
    return float(c[widest - 1]) if widest else math.inf


class Abstention:
    """A selective classifier (Geifman and El-Yaniv, 2017): answers where it is sure enough, by `least_confidence`.

    Args:
        error: Promised share of wrong answers among those given, in (0, 1).
        certainty: Probability that the promise holds, in (0, 1).
    """

    def __init__(self, error: float, certainty: float = 0.95) -> None:
        self.error, self.certainty = error, certainty
        self.threshold: float | None = None
        self.answered_share = 0.0
        """Of the fitted rows."""

    def fit(self, confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> Abstention:
        """Fits the threshold, and returns itself.

        Args:
            confidence: (n,), see `confidence_of`.
            right: (n,).

        Raises:
            ConfigurationError: Promise or certainty out of range.
        """
        self.threshold = least_confidence(confidence, right, self.error, self.certainty)
        self.answered_share = float((np.asarray(confidence) >= self.threshold).mean()) if len(right) else 0.0
        return self

    def answers(self, confidence: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Returns which of n texts are answered, of their confidences (n,).

        Raises:
            NotFittedError: Before `fit`.
        """
        if self.threshold is None:
            raise NotFittedError("Abstention was used before fit(confidence, right) on validation rows.")
        return np.asarray(np.asarray(confidence, dtype=np.float64) >= self.threshold, dtype=np.bool_)


def confidence_of(probabilities: NDArray[np.floating[Any]], decisions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the probability (n,) of decisions (n,) or (n, K); multi-label: that all K are right, labels independent.

    Example:
        >>> confidence_of(np.array([[0.9, 0.5]]), np.array([[1, 0]]))
        array([0.45])
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if decisions.ndim == 1:
        return np.asarray(p[np.arange(len(p)), decisions])
    return np.asarray(np.where(decisions > 0, p, 1 - p).prod(1))


def _upper_bounds(errors: NDArray[np.int64], rows: NDArray[np.int64], delta: float) -> NDArray[np.float64]:
    bounds = beta.ppf(1 - delta, errors + 1, np.maximum(rows - errors, 1))
    return np.where(errors >= rows, 1.0, bounds)


@lru_cache(maxsize=256)
def _rows_for(errors: int, error: float, delta: float) -> int:
    """The smallest number of rows of which so many may be wrong."""
    rows = errors + 1
    while error_upper_bound(errors, rows, delta) > error:
        rows += max(1, rows // 64)
    return rows
