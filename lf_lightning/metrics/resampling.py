"""Intervals by bootstrap, and paired tests of two classifiers on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from lf_lightning.errors import ConfigurationError
from lf_lightning.metrics.checks import Values, check_decisions, check_labels, finite
from lf_lightning.metrics.decisions import f1_of_counts, right_rows

Metric: TypeAlias = "Literal['accuracy', 'macro_f1', 'micro_f1', 'weighted_f1'] | Callable[[Any, Any], float]"
"""A number of decisions by name (fast), or any function of predictions and labels (called once for each resample)."""

_CELLS = 4_000_000
"""Weights held at once, 32 MB."""


def bootstrap_interval(
    metric: Metric,
    predictions: Values,
    labels: Values,
    *,
    num_labels: int | None = None,
    seed: int = 0,
    n: int = 1000,
    level: float = 0.95,
) -> dict[str, float]:
    """Percentile bootstrap interval over rows (Efron 1979) of a metric.

    Rows are drawn with replacement. For the named metrics equal rows are drawn together, as multinomial counts of the distinct
    (label, decision) pairs: the same distribution, without a loop.

    Args:
        metric: A name, or a function such as `lambda p, y: nll(p, y, "multiclass")`.
        predictions: Decisions, as `labels`; for a function whatever it takes, with n rows.
        labels: (n,) class numbers, or (n, K) of 0 and 1.
        num_labels: K of multi-class rows; None: the classes that occur (in all rows, also where a resample lacks one).
        seed: Of the resamples.
        n: Number of resamples.
        level: Share of resamples within the interval, in (0, 1).

    Returns:
        `value` (on the rows themselves), `low` and `high`.

    Raises:
        NotFiniteError: A NaN.
        ConfigurationError: Shapes that differ, an unknown metric, or `n` or `level` out of range.
        DataError: No row, or values that are not labels.

    Example:
        >>> bootstrap_interval("accuracy", [1] * 90 + [0] * 10, [1] * 100)["value"]
        0.9
    """
    values, resampled = _resample(metric, [predictions], labels, num_labels, seed, n, level)
    low, high = _percentiles(resampled[:, 0], level)
    return {"value": float(values[0]), "low": low, "high": high}


def paired_bootstrap(
    predictions_a: Values,
    predictions_b: Values,
    labels: Values,
    metric: Metric = "accuracy",
    *,
    num_labels: int | None = None,
    seed: int = 0,
    n: int = 1000,
    level: float = 0.95,
) -> dict[str, float]:
    """Difference of a metric between two classifiers on the same rows, with interval and test; rows are drawn for both at once.

    p = 2 min(share of resamples with difference <= 0, share with >= 0), each share (count + 1) / (n + 1), at most 1.

    Args:
        predictions_a: As in `bootstrap_interval`.
        predictions_b: As `predictions_a`.
        labels: (n,) class numbers, or (n, K) of 0 and 1.
        metric: A name, or a function of predictions and labels.
        num_labels: K of multi-class rows; None: the classes that occur in any of the three.
        seed: Of the resamples.
        n: Number of resamples.
        level: Share of resamples within the interval, in (0, 1).

    Returns:
        `difference` (a minus b, on the rows themselves), `low`, `high`, and the two-sided `p` in (0, 1].

    Raises:
        NotFiniteError: A NaN.
        ConfigurationError: Shapes that differ, an unknown metric, or `n` or `level` out of range.
        DataError: No row, or values that are not labels.

    Example:
        >>> paired_bootstrap([1] * 100, [1] * 90 + [0] * 10, [1] * 100)["difference"].__round__(3)
        0.1
    """
    values, resampled = _resample(metric, [predictions_a, predictions_b], labels, num_labels, seed, n, level)
    difference = resampled[:, 0] - resampled[:, 1]
    low, high = _percentiles(difference, level)
    # Sums in another order leave differences of 1e-17 between equal metrics: those are ties.
    tie = 1e-12
    p = 2 * (min(int((difference <= tie).sum()), int((difference >= -tie).sum())) + 1) / (n + 1)
    return {"difference": float(values[0] - values[1]), "low": low, "high": high, "p": min(1.0, p)}


def mcnemar(decisions_a: Values, decisions_b: Values, labels: Values) -> dict[str, float]:
    """McNemar's (1947) exact test of two classifiers' accuracy (multi-label: subset accuracy) on the same rows.

    Of the rows that only one of them has right, either would have half by chance: a two-sided binomial test.

    Args:
        decisions_a: (n,) class numbers, or (n, K) of 0 and 1.
        decisions_b: As `decisions_a`.
        labels: As `decisions_a`.

    Returns:
        `a_only` and `b_only`, the numbers of rows that only a, only b has right; and `p` in (0, 1], 1 where there is no such
        row.

    Raises:
        NotFiniteError: A NaN.
        ConfigurationError: Shapes that differ.
        DataError: No row, or values that are not labels.

    Example:
        >>> mcnemar([1] * 10, [0] * 10, [1] * 10)["p"]
        0.001953125
    """
    (a, y), (b, _) = check_decisions(decisions_a, labels), check_decisions(decisions_b, labels)
    right_a, right_b = right_rows(a, y), right_rows(b, y)
    a_only, b_only = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = float(binomtest(a_only, a_only + b_only).pvalue) if a_only + b_only else 1.0
    return {"a_only": float(a_only), "b_only": float(b_only), "p": p}


def _resample(
    metric: Metric, predictions: list[Values], labels: Values, num_labels: int | None, seed: int, n: int, level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The metric of each of S predictions on all rows (S,), and on each resample (n, S)."""
    if n < 1 or not 0 < level < 1:
        raise ConfigurationError(f"n={n!r} must be at least 1 and level={level!r} between 0 and 1.")
    rng = np.random.default_rng(seed)
    if callable(metric):
        return _by_calls(metric, [finite(p, "predictions") for p in predictions], check_labels(labels), rng, n)
    checked = [check_decisions(p, labels, num_labels) for p in predictions]
    y, made = checked[0][1], [m for m, _ in checked]
    groups, count = np.unique(np.concatenate([_columns(x) for x in (y, *made)], axis=1), axis=0, return_counts=True)
    width = groups.shape[1] // (len(made) + 1)
    truth, *answers = (groups[:, i * width : (i + 1) * width] for i in range(len(made) + 1))
    k = num_labels
    if y.ndim == 1:
        seen, codes = np.unique(groups, return_inverse=True)
        # Classes that no row has do not count, unless K says that they exist.
        k = num_labels or len(seen)
        codes = groups if num_labels else codes.reshape(groups.shape)
        truth, *answers = (np.eye(k)[codes[:, i]] for i in range(len(made) + 1))
    weights_at_once = max(1, _CELLS // len(groups))
    share = count / count.sum()
    right = [(a == truth).all(1, keepdims=True) for a in answers]
    statistics = [np.concatenate([a * truth, a, truth, r], axis=1).astype(float) for a, r in zip(answers, right, strict=True)]
    values = np.array([_of_sums(metric, count @ s, len(y)) for s in statistics])
    resampled = np.empty((n, len(made)))
    for start in range(0, n, weights_at_once):
        rows = slice(start, min(start + weights_at_once, n))
        weights = rng.multinomial(count.sum(), share, size=rows.stop - rows.start).astype(float)
        for i, s in enumerate(statistics):
            resampled[rows, i] = _of_sums(metric, weights @ s, len(y))
    return values, resampled


def _by_calls(
    metric: Callable[[Any, Any], float], predictions: list[NDArray[Any]], y: NDArray[np.int64], rng: np.random.Generator, n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    for p in predictions:
        if len(p) != len(y):
            raise ConfigurationError(f"predictions of shape {p.shape} and labels of shape {y.shape} differ in rows.")
    resampled = np.empty((n, len(predictions)))
    for i in range(n):
        rows = rng.integers(len(y), size=len(y))
        resampled[i] = [metric(p[rows], y[rows]) for p in predictions]
    return np.array([metric(p, y) for p in predictions], dtype=float), resampled


def _of_sums(metric: str, sums: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """(...) the metric of statistics (..., 3K + 1) summed over rows: found, decided, true rows of each label, right rows."""
    k = (sums.shape[-1] - 1) // 3
    hits, decided, actual, right = np.split(sums, [k, 2 * k, 3 * k], axis=-1)
    if metric == "accuracy":
        return right[..., 0] / rows
    if metric in ("macro_f1", "micro_f1", "weighted_f1"):
        return f1_of_counts(hits, decided, actual, metric.removesuffix("_f1"))  # type: ignore[arg-type]
    raise ConfigurationError(f"metric={metric!r} is none of 'accuracy', 'macro_f1', 'micro_f1', 'weighted_f1', nor a function.")


def _columns(x: NDArray[np.int64]) -> NDArray[np.int64]:
    return x[:, None] if x.ndim == 1 else x


def _percentiles(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
