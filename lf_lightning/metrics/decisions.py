"""Numbers of decisions: accuracy, F1, and the table of each label."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lf_lightning.errors import ConfigurationError
from lf_lightning.metrics.checks import Values, check_decisions

Average: TypeAlias = Literal["macro", "micro", "weighted"]


def accuracy(decisions: Values, labels: Values) -> float:
    """Share of rows that are right, in [0, 1]; a multi-label row is right if all its labels are (subset accuracy).

    Args:
        decisions: (n,) class numbers, or (n, K) of 0 and 1.
        labels: As `decisions`.

    Raises:
        NotFiniteError: A NaN.
        ConfigurationError: Shapes that differ.
        DataError: No row, or values that are not labels.

    Example:
        >>> accuracy([0, 1, 1, 1], [0, 1, 1, 0])
        0.75
    """
    made, true = check_decisions(decisions, labels)
    return float(right_rows(made, true).mean())


def f1(decisions: Values, labels: Values, average: Average = "macro", num_labels: int | None = None) -> float:
    """F1 = 2 tp / (2 tp + fp + fn), averaged over labels as `sklearn.metrics.f1_score(..., zero_division=0)` does.

    A label that is neither true nor decided in any row has F1 = 0 and counts in the macro average. (torchmetrics leaves it
    out.)

    Args:
        decisions: (n,) class numbers, or (n, K) of 0 and 1.
        labels: As `decisions`.
        average: `macro`: mean over labels; `micro`: of the pooled counts; `weighted`: mean weighted by true rows.
        num_labels: K of multi-class rows, so that absent classes count (scikit-learn's `labels=range(K)`); None: the classes
            that occur in decisions or labels (scikit-learn's default).

    Returns:
        In [0, 1].

    Raises:
        NotFiniteError: A NaN.
        ConfigurationError: Shapes that differ, or an unknown average.
        DataError: No row, or values that are not labels.

    Example:
        >>> f1([0, 0, 1], [0, 1, 1]), f1([0, 0, 1], [0, 1, 1], num_labels=3)
        (0.6666666666666666, 0.4444444444444444)
    """
    made, true = check_decisions(decisions, labels, num_labels)
    hits, decided, actual = counts(made, true, num_labels)
    if made.ndim == 1 and num_labels is None:
        seen = (decided + actual) > 0
        hits, decided, actual = hits[seen], decided[seen], actual[seen]
    return float(f1_of_counts(hits, decided, actual, average))


def per_label(decisions: Values, labels: Values, num_labels: int | None = None) -> dict[str, NDArray[Any]]:
    """Precision, recall, F1 (float64; 0 where undefined) and support (int64, true rows) of each label.

    Args:
        decisions: (n,) class numbers, or (n, K) of 0 and 1.
        labels: As `decisions`.
        num_labels: K of multi-class rows; None: up to the largest class that occurs.

    Returns:
        Columns `precision`, `recall`, `f1`, `support`, each (K,).

    Raises:
        NotFiniteError: A NaN.
        ConfigurationError: Shapes that differ.
        DataError: No row, or values that are not labels.

    Example:
        >>> per_label([0, 0, 1], [0, 1, 1])["precision"]
        array([0.5, 1. ])
    """
    made, true = check_decisions(decisions, labels, num_labels)
    hits, decided, actual = counts(made, true, num_labels)
    return {
        "precision": ratio(hits, decided),
        "recall": ratio(hits, actual),
        "f1": ratio(2 * hits, decided + actual),
        "support": actual.astype(np.int64),
    }


def counts(made: NDArray[np.int64], true: NDArray[np.int64], num_labels: int | None) -> tuple[NDArray[np.float64], ...]:
    """(K,) float64 each: rows with a label that were found, rows decided for it, rows that have it."""
    if made.ndim == 2:
        return (made * true).sum(0).astype(float), made.sum(0).astype(float), true.sum(0).astype(float)
    k = num_labels if num_labels is not None else int(max(made.max(), true.max())) + 1
    hits, decided, actual = (np.bincount(x, minlength=k).astype(float) for x in (true[made == true], made, true))
    return hits, decided, actual


def f1_of_counts(
    hits: NDArray[np.float64], decided: NDArray[np.float64], actual: NDArray[np.float64], average: Average
) -> NDArray[np.float64]:
    """(...) averaged F1 of counts (..., K)."""
    if average == "micro":
        return ratio(2 * hits.sum(-1), (decided + actual).sum(-1))
    each = ratio(2 * hits, decided + actual)
    if average == "weighted":
        return ratio((each * actual).sum(-1), actual.sum(-1))
    if average == "macro":
        mean: NDArray[np.float64] = each.mean(-1)
        return mean
    raise ConfigurationError(f"average={average!r} is none of 'macro', 'micro', 'weighted'.")


def ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns above / below, 0 where both are 0."""
    return np.divide(above, below, out=np.zeros(np.shape(above)), where=np.asarray(below) > 0)


def right_rows(made: NDArray[np.int64], true: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) which rows are right; a multi-label row if all its labels are."""
    same: NDArray[np.bool_] = (made == true).reshape(len(made), -1).all(axis=1)
    return same
