"""Label sets of multi-label systems that miss no more of the true labels than promised."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lf_lightning.errors import ConfigurationError, DataError, NotFittedError


class RecallSets:
    r"""Conformal risk control of the false-negative rate (Angelopoulos et al., 2024).

    A set holds the labels with :math:`p_k \ge \lambda`; a text's loss is the share of its true labels that are not in its set,
    0 for a text without labels. :math:`\hat\lambda` is the greatest :math:`\lambda` with
    :math:`\frac{n}{n + 1} \hat R_n(\lambda) + \frac{1}{n + 1} \le 1 - coverage`, so that the expected loss of a new text that
    is exchangeable with the n fitted ones is at most 1 - coverage.

    Args:
        coverage: Share of its true labels, in (0, 1), that a text's set is to hold on average.
    """

    def __init__(self, coverage: float) -> None:
        if not 0 < coverage < 1:
            raise ConfigurationError(f"coverage={coverage} is not within 0 and 1. Way out: 0.9.")
        self.coverage = coverage
        self.threshold: float | None = None

    def fit(self, probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> RecallSets:
        """Fits the threshold, and returns itself; where rows are too few for the promise it is 0, and every label is in.

        Args:
            probabilities: (n, K) in [0, 1].
            labels: (n, K) of 0 and 1.

        Raises:
            ConfigurationError: Shapes that do not fit.
            DataError: No row.
        """
        p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels) > 0
        if p.ndim != 2 or y.shape != p.shape:
            raise ConfigurationError(f"probabilities {p.shape} and labels {y.shape} do not fit (n, K) and (n, K).")
        if not len(p):
            raise DataError("label sets need labelled rows.")
        # A true label is missed by every threshold above its probability, which costs 1 / (labels of its row).
        at = p[y]
        loss = (y / np.maximum(y.sum(1, keepdims=True), 1))[y]
        order = np.argsort(at, kind="stable")
        at, missed = at[order], loss[order].cumsum()
        allowed = (1 - self.coverage) * (len(p) + 1) - 1
        if allowed < 0:
            self.threshold = 0.0
            return self
        # The first label whose miss, with all others of equal or smaller probability, would be too much.
        upto = np.searchsorted(at, at, side="right") - 1
        too_much = np.flatnonzero(missed[upto] > allowed + 1e-9) if len(at) else np.zeros(0, dtype=np.int64)
        self.threshold = float(at[too_much[0]]) if len(too_much) else 1.0
        return self

    def sets(self, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Returns which labels are in the set of each text, (n, K), of probabilities (n, K).

        Raises:
            NotFittedError: Before `fit`.
        """
        if self.threshold is None:
            raise NotFittedError("RecallSets was used before fit(probabilities, labels) on validation rows.")
        return np.asarray(np.asarray(probabilities, dtype=np.float64) >= self.threshold, dtype=np.bool_)
