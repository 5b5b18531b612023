"""Numbers of probabilities: likelihood, Brier score, calibration error, reliability, ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from lf_lightning.errors import ConfigurationError
from lf_lightning.metrics.checks import Values, check_probabilities

if TYPE_CHECKING:
    from lf_lightning.contract import Task

Binning: TypeAlias = Literal["equal_mass", "equal_width"]
_EPS = float(np.finfo(np.float64).eps)


def nll(probabilities: Values, labels: Values, task: Task) -> float:
    """Negative log-likelihood in nats, at least 0, lower is better.

    Multi-class: mean over rows of -log p_y. Multi-label: mean over all cells of the binary cross-entropy. Probabilities are
    clipped to [2.2e-16, 1 - 2.2e-16], as in `sklearn.metrics.log_loss`, so a certain error costs 36 nats.

    Args:
        probabilities: (n, K) in [0, 1].
        labels: (n,) class numbers, or (n, K) of 0 and 1.
        task: `multiclass` or `multilabel`.

    Raises:
        NotFiniteError: A NaN.
        ConfigurationError: Shapes that do not fit.
        DataError: Values that are not probabilities or labels.

    Example:
        >>> round(nll([[0.5, 0.5]], [1], "multiclass"), 4)
        0.6931
    """
    p, y = check_probabilities(probabilities, labels, task)
    if task == "multiclass":
        return float(-np.log(p[np.arange(len(y)), y].clip(_EPS, 1 - _EPS)).mean())
    return float(-np.log(np.where(y == 1, p, 1 - p).clip(_EPS, 1 - _EPS)).mean())


def brier(probabilities: Values, labels: Values, task: Task) -> float:
    """Brier score (1950), lower is better.

    Multi-class: mean over rows of sum_k (p_k - y_k)^2, in [0, 2]. Multi-label: mean over all cells of (p - y)^2, in [0, 1].

    Args:
        probabilities: (n, K) in [0, 1].
        labels: (n,) class numbers, or (n, K) of 0 and 1.
        task: `multiclass` or `multilabel`.

    Raises:
        NotFiniteError: A NaN.
        ConfigurationError: Shapes that do not fit.
        DataError: Values that are not probabilities or labels.

    Example:
        >>> brier([[0.5, 0.5]], [1], "multiclass")
        0.5
    """
    p, y = check_probabilities(probabilities, labels, task)
    squares = (p - _table(y, p.shape[1])) ** 2
    return float(squares.sum(1).mean() if task == "multiclass" else squares.mean())


def ece(probabilities: Values, labels: Values, task: Task, mode: Binning = "equal_mass", bins: int = 15) -> float:
    """Expected calibration error, sum over bins of (rows / n) |share right - mean confidence|, in [0, 1], lower is better.

    Multi-class: of the top label (Guo et al. 2017). Multi-label: of all cells pooled, probability against label. See
    `reliability_curve` for the bins. Biased upwards on few rows: compare at equal n, and with `ece_floor`.

    Args:
        probabilities: (n, K) in [0, 1].
        labels: (n,) class numbers, or (n, K) of 0 and 1.
        task: `multiclass` or `multilabel`.
        mode: `equal_mass`: bins of equally many rows; `equal_width`: bins of equal length.
        bins: Number of bins, at least 1.

    Raises:
        NotFiniteError: A NaN.
        ConfigurationError: Shapes that do not fit, or an unknown mode.
        DataError: Values that are not probabilities or labels.

    Example:
        >>> round(ece([[0.9, 0.1], [0.9, 0.1]], [0, 1], "multiclass"), 3)
        0.4
    """
    curve = reliability_curve(probabilities, labels, task, mode, bins)
    gap = np.abs(curve["accuracy"] - curve["confidence"])
    return float((gap * curve["count"]).sum() / curve["count"].sum())


def reliability_curve(
    probabilities: Values, labels: Values, task: Task, mode: Binning = "equal_mass", bins: int = 15
) -> dict[str, NDArray[np.float64]]:
    """Mean confidence and share right in each non-empty bin, for plots.

    Confidence and right as in `ece`. Equal mass: a confidence goes to the bin of its mean rank, so equal ones share a bin and
    the order of rows does not matter. Equal width: bins ((i-1)/bins, i/bins], the first with 0.

    Args:
        probabilities: (n, K) in [0, 1].
        labels: (n,) class numbers, or (n, K) of 0 and 1.
        task: `multiclass` or `multilabel`.
        mode: `equal_mass` or `equal_width`.
        bins: Number of bins, at least 1.

    Returns:
        Columns `confidence`, `accuracy`, `count`, `low`, `high` (least and greatest confidence), each (b,) with b <= bins, by
        rising confidence.

    Raises:
        NotFiniteError: A NaN.
        ConfigurationError: Shapes that do not fit, or an unknown mode.
        DataError: Values that are not probabilities or labels.

    Example:
        >>> reliability_curve([[0.9, 0.1], [0.6, 0.4]], [0, 1], "multiclass", bins=2)["accuracy"]
        array([0., 1.])
    """
    p, y = check_probabilities(probabilities, labels, task)
    confidence = _confidence(p, task)
    right = (p.argmax(1) == y if task == "multiclass" else y.ravel()).astype(np.float64)
    seen, place, count = np.unique(_bins(confidence, mode, bins), return_inverse=True, return_counts=True)
    low, high = np.ones(len(seen)), np.zeros(len(seen))
    np.minimum.at(low, place, confidence)
    np.maximum.at(high, place, confidence)
    return {
        "confidence": np.bincount(place, weights=confidence) / count,
        "accuracy": np.bincount(place, weights=right) / count,
        "count": count.astype(np.float64),
        "low": low,
        "high": high,
    }


def ece_floor(probabilities: Values, task: Task, mode: Binning = "equal_mass", bins: int = 15) -> float:
    r"""The `ece` that these very probabilities would have on average if they were perfectly calibrated, in [0, 1].

    Not 0, because few rows fall into a bin: a bin's hits scatter around the sum of its confidences c with variance
    :math:`v = \sum c (1 - c)`, and the mean of a normal's absolute value is :math:`\sqrt{2 v / \pi}`. An ECE near its floor
    tells nothing against a calibration.

    Args:
        probabilities: (n, K) in [0, 1].
        task: `multiclass` or `multilabel`, whose cells are taken to be independent.
        mode: As in `ece`.
        bins: As in `ece`.

    Raises:
        NotFiniteError: A NaN.
        ConfigurationError: A shape that does not fit, or an unknown mode.
        DataError: Values that are not probabilities.

    Example:
        >>> round(ece_floor([[0.9, 0.1]] * 100, "multiclass"), 4)  # sqrt(2 * 9 / pi) of 100 rows
        0.0239
    """
    table = np.asarray(probabilities)
    labels = np.zeros(table.shape[: 1 if task == "multiclass" else 2], dtype=np.int64)
    p, _ = check_probabilities(probabilities, labels, task)
    confidence = _confidence(p, task)
    variance = np.bincount(_bins(confidence, mode, bins), weights=confidence * (1 - confidence))
    return float(np.sqrt(2 * variance / np.pi).sum() / len(confidence))


def _confidence(p: NDArray[np.float64], task: Task) -> NDArray[np.float64]:
    return np.asarray(p.max(1) if task == "multiclass" else p.ravel())


def _bins(confidence: NDArray[np.float64], mode: Binning, bins: int) -> NDArray[np.int64]:
    """The number of each confidence's bin."""
    if bins < 1:
        raise ConfigurationError(f"bins={bins!r} must be at least 1.")
    if mode == "equal_mass":
        places = (rankdata(confidence) - 0.5) * bins / len(confidence)
    elif mode == "equal_width":
        places = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
    else:
        raise ConfigurationError(f"mode={mode!r} is neither 'equal_mass' nor 'equal_width'.")
    return np.asarray(places, dtype=np.int64)


def roc_auc(probabilities: Values, labels: Values, task: Task) -> float | None:
    """Area under the ROC curve, one label against the rest, mean over labels; None where it has no value for some label.

    Args:
        probabilities: (n, K) in [0, 1].
        labels: (n,) class numbers, or (n, K) of 0 and 1.
        task: `multiclass` or `multilabel`.

    Returns:
        In [0, 1], or None: no number is made up, and no mean over fewer labels passes for the mean over all.

    Raises:
        NotFiniteError: A NaN.
        ConfigurationError: Shapes that do not fit.
        DataError: Values that are not probabilities or labels.

    Example:
        >>> roc_auc([[0.9, 0.1], [0.2, 0.8]], [0, 1], "multiclass"), roc_auc([[0.9, 0.1]], [0], "multiclass")
        (1.0, None)
    """
    p, y = check_probabilities(probabilities, labels, task)
    table = _table(y, p.shape[1])
    positives = table.sum(0)
    negatives = len(table) - positives
    if (positives == 0).any() or (negatives == 0).any():
        return None
    # Mann-Whitney: the share of (positive, negative) pairs in the right order, ties counting half.
    ranks = (rankdata(p, axis=0) * table).sum(0)
    return float(((ranks - positives * (positives + 1) / 2) / (positives * negatives)).mean())


def _table(labels: NDArray[np.int64], num_labels: int) -> NDArray[np.float64]:
    return np.eye(num_labels)[labels] if labels.ndim == 1 else labels.astype(np.float64)
