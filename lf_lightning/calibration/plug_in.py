"""Decisions of multi-class classification that do not forget rare classes, derived from calibrated probabilities."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lf_lightning.calibration.fitted import FittedModule
from lf_lightning.calibration.rows import usable_rows
from lf_lightning.errors import ConfigurationError

_STEPS = 50
_STEP = 0.5


class PlugInDecision(FittedModule):
    r"""Decides by :math:`\arg\max_k s_k p_k - o_k`, the rule with the greatest expected sum of accuracy and macro-F1.

    Expected over the labels that the probabilities promise, not counted on the labels that the rows happen to have: the F1 of a
    class of ten rows is mostly luck. Expected F-measures: Lewis, 1995; Ye et al., 2012. Linear rules are optimal for functions
    of the confusion matrix: Narasimhan et al., 2015. Were it for the F1 of one of two classes alone, the rule would be Lipton's
    threshold F / 2 (2014). Probabilities stay as they are.

    Args:
        num_labels: K.
        min_rows: With fewer rows the rule is the plain arg max.
    """

    _witness = "scale"
    scale: Tensor
    offset: Tensor

    def __init__(self, num_labels: int, min_rows: int = 50) -> None:
        super().__init__()
        if num_labels < 2:
            raise ConfigurationError(f"num_labels={num_labels!r}: a multi-class decision needs 2 or more.")
        self.num_labels, self.min_rows = num_labels, min_rows
        self.register_buffer("scale", torch.full((num_labels,), torch.nan))
        self.register_buffer("offset", torch.full((num_labels,), torch.nan))

    @torch.no_grad()
    def fit(self, probabilities: Tensor, labels: Tensor) -> None:
        """Fits on rows that no weight was fitted on; unlabelled rows, and rows of NaN probabilities, are ignored.

        Args:
            probabilities: (n, K), calibrated, as `decide` will get them.
            labels: (n,) int64, negative where unlabelled.

        Raises:
            ConfigurationError: Shapes that do not fit.
            NotFiniteError: A probability is infinite, or NaN in a row that has others.
            DataError: A label that is not one of the K.
        """
        rows = usable_rows(probabilities.float(), labels, self.num_labels, "multiclass", name="probabilities")
        scale, offset = np.ones(self.num_labels), np.zeros(self.num_labels)
        if len(rows.labels) >= self.min_rows:
            scale, offset = _rule(rows.values.astype(np.float64))
        self.scale.copy_(torch.from_numpy(scale))
        self.offset.copy_(torch.from_numpy(offset))
        spread = float(scale.max() / scale.min())
        self.report = {"rows": len(rows.labels), "ignored_rows": rows.ignored, "scale_spread": spread}
        self._seen_fitted = False

    def decide(self, probabilities: Float[Tensor, "rows labels"]) -> Int[Tensor, " rows"]:
        """Class numbers (B,) int64 of probabilities (B, K); -1 where they are NaN (no opinion).

        Raises:
            NotFittedError: Before `fit`.
        """
        self._require_fitted()
        p = probabilities.float()
        missing = torch.isnan(p).any(-1)
        return (p * self.scale - self.offset).nan_to_num(0.0).argmax(-1).masked_fill(missing, -1)


def expected_utility(probabilities: NDArray[np.float64], decisions: NDArray[np.int64]) -> float:
    """Returns the expected accuracy plus the macro-F1 of expected counts, in [0, 2], if the labels are as probable as told.

    Args:
        probabilities: (n, K).
        decisions: (n,) class numbers.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.2, 0.8]])
        >>> round(expected_utility(p, np.array([0, 1])), 4)  # .85 + (1.8 / 2.1 + 1.6 / 1.9) / 2
        1.6996
    """
    hits, sizes = _counts(probabilities, decisions)
    return float(hits.sum() / len(decisions) + (2 * hits / sizes).mean())


def _counts(p: NDArray[np.float64], decisions: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Expected hits (K,), and rows of a class plus decisions for it (K,), the two parts of its F1."""
    decided = np.eye(p.shape[1])[decisions]
    return (p * decided).sum(0), np.maximum(p.sum(0) + decided.sum(0), 1e-12)


def _rule(p: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Climbs by the utility's gradient with respect to each row's decision, in half steps; returns the best rule on the way."""
    n, classes = p.shape
    scale, offset = np.ones(classes), np.zeros(classes)
    best, found = -np.inf, (scale, offset)
    for _ in range(_STEPS):
        decisions = (p * scale - offset).argmax(1)
        utility = expected_utility(p, decisions)
        if utility > best + 1e-9:
            best, found = utility, (scale, offset)
        hits, sizes = _counts(p, decisions)
        # d/d(row i decides k) of hits/n + 2 hits/sizes/K, in units in which the arg max has scale 1
        steepness = 1 + 2 * n / classes / sizes
        unit = steepness.max()
        scale = (1 - _STEP) * scale / scale.max() + _STEP * steepness / unit
        offset = (1 - _STEP) * offset + _STEP * 2 * n / classes * hits / sizes**2 / unit
    return found
