"""Decision thresholds of multi-label classification, tuned label by label on validation rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lf_lightning.calibration.fitted import FittedModule
from lf_lightning.calibration.rows import usable_rows
from lf_lightning.errors import ConfigurationError, DataError


def best_threshold(probabilities: NDArray[np.float32], positive: NDArray[Any]) -> tuple[float, float]:
    """The threshold t for which the decisions p >= t have the greatest F1, by an exact sweep.

    Candidates are the midpoints between neighbouring probabilities, and 0.5. Of equally good ones the nearest to 0.5 is taken
    (the lower of two equally near), so 0.5 stays unless another is better.

    Args:
        probabilities: (n,) float32 in [0, 1], n >= 1.
        positive: (n,) of 0 and 1, at least one 1.

    Returns:
        The threshold in [0, 1], and its F1 on these rows.

    Example:
        >>> best_threshold(np.array([0.1, 0.2, 0.4], dtype=np.float32), np.array([0, 1, 1]))
        (0.15..., 1.0)
    """
    values, place = np.unique(probabilities.astype(np.float32), return_inverse=True)
    positives = np.bincount(place, weights=positive, minlength=len(values))
    rows = np.bincount(place, minlength=len(values)).astype(np.float64)
    # Deciding p >= t with t in (values[i-1], values[i]] takes values[i:] in; from the end of the sorted values, a running sum.
    hits, taken = positives[::-1].cumsum()[::-1], rows[::-1].cumsum()[::-1]
    below = np.concatenate([np.zeros(1, dtype=np.float32), values[:-1]])
    middle = ((below + values) / 2).astype(np.float32)
    # Neighbouring float32 have no midpoint; the upper one itself then parts them, and 0 cannot be parted from below.
    thresholds = np.where(middle > below, middle, values)
    at_half = int(np.searchsorted(values, np.float32(0.5), side="left"))
    thresholds = np.append(thresholds, np.float32(0.5))
    hits = np.append(hits, hits[at_half] if at_half < len(values) else 0.0)
    taken = np.append(taken, taken[at_half] if at_half < len(values) else 0.0)
    f1 = 2.0 * hits / (taken + positives.sum())
    best = np.flatnonzero(f1 == f1.max())
    chosen = best[np.lexsort((thresholds[best], np.abs(thresholds[best].astype(np.float64) - 0.5)))[0]]
    return float(thresholds[chosen]), float(f1[chosen])


class Thresholds(FittedModule):
    """One threshold for each label, the one with the greatest F1 on validation rows.

    A label with fewer than `min_positives` positive rows takes the pooled threshold, the one with the greatest micro-F1 when
    all labels share it; where all labels together have fewer, 0.5.

    Args:
        num_labels: K, the number of labels.
        min_positives: A label needs as many rows with it to get its own threshold.
    """

    _witness = "thresholds"
    thresholds: Tensor

    def __init__(self, num_labels: int, min_positives: int = 10) -> None:
        super().__init__()
        if num_labels < 1 or min_positives < 1:
            raise ConfigurationError(f"num_labels={num_labels!r} and min_positives={min_positives!r} must be at least 1.")
        self.num_labels = num_labels
        self.min_positives = min_positives
        self.register_buffer("thresholds", torch.full((num_labels,), torch.nan))

    @torch.no_grad()
    def fit(self, probabilities: Tensor, labels: Tensor) -> None:
        """Fits on validation rows; unlabelled rows, and rows of NaN probabilities, are ignored.

        Args:
            probabilities: (n, K) in [0, 1], calibrated or not, but as `decide` will get them.
            labels: (n, K) of 0 and 1, rows of NaN where unlabelled.

        Raises:
            ConfigurationError: Shapes that do not fit.
            NotFiniteError: A probability is infinite, or NaN in a row that has others.
            DataError: A probability outside [0, 1], or a label that is not 0 or 1.
        """
        rows = usable_rows(probabilities.float(), labels, self.num_labels, "multilabel", name="probabilities")
        if len(rows.values) and (rows.values.min() < 0 or rows.values.max() > 1):
            raise DataError("probabilities lie outside [0, 1]. Way out: pass probabilities(logits, 'multilabel'), not logits.")
        p, y = rows.values.astype(np.float32), rows.labels
        pooled = best_threshold(p.ravel(), y.ravel())[0] if y.sum() >= self.min_positives else 0.5
        tuned = np.flatnonzero(y.sum(0) >= self.min_positives)
        self.thresholds.fill_(pooled)
        for label in tuned:
            self.thresholds[label] = best_threshold(p[:, label], y[:, label])[0]
        self.report = {"rows": len(p), "ignored_rows": rows.ignored, "tuned_labels": len(tuned), "pooled_threshold": pooled}
        self._seen_fitted = False

    def decide(self, probabilities: Float[Tensor, "rows labels"]) -> Int[Tensor, "rows labels"]:
        """Decisions (B, K) int64 of probabilities (B, K): 1 where p >= threshold, 0 below, -1 where p is NaN (no opinion).

        Raises:
            NotFittedError: Before `fit`.
        """
        self._require_fitted()
        p = probabilities.float()
        return (p >= self.thresholds).long().masked_fill(torch.isnan(p), -1)
