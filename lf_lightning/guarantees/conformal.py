"""Prediction sets of multi-class systems: sets of labels that hold the true one as often as promised."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lf_lightning.errors import ConfigurationError, DataError, NotFittedError

FloatArray = NDArray[np.float64]


def conformal_quantile(scores: FloatArray, coverage: float) -> float:
    r"""Returns the :math:`\lceil (n + 1) \, coverage \rceil`-th smallest of n scores; infinity where n is too small for that.

    A new score that is exchangeable with these is at most as great with a probability of `coverage` at least, and,
    without ties, of `coverage` + 1 / (n + 1) at most.

    Args:
        scores: (n,).
        coverage: In (0, 1).

    Example:
        >>> conformal_quantile(np.arange(1.0, 10.0), 0.8), conformal_quantile(np.arange(1.0, 4.0), 0.9)
        (8.0, inf)
    """
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    return float(np.partition(scores, rank - 1)[rank - 1]) if rank <= len(scores) else math.inf


class PredictionSets(ABC):
    """Split-conformal sets: a label belongs to a text's set if it fits it no worse than true labels did on fitted rows.

    The likeliest label is always in the set.

    Args:
        coverage: Share of texts, in (0, 1), whose set is to hold the true label.
        by_label: Promise it of the texts of each label (Mondrian), not only of all; a label with too few rows is in every set.
    """

    def __init__(self, coverage: float, by_label: bool = False) -> None:
        if not 0 < coverage < 1:
            raise ConfigurationError(f"coverage={coverage} is not within 0 and 1. Way out: 0.9.")
        self.coverage, self.by_label = coverage, by_label
        self.limits: FloatArray | None = None

    @abstractmethod
    def scores(self, probabilities: FloatArray) -> FloatArray:
        """Returns how badly each label fits each text, (n, K), of probabilities (n, K)."""

    def fit(self, probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> PredictionSets:
        """Fits the limits on rows that are exchangeable with those to come, and returns itself.

        Args:
            probabilities: (n, K), rows that sum to 1.
            labels: (n,) class numbers.

        Raises:
            ConfigurationError: Shapes that do not fit.
            DataError: No row, or a label that is not one of the K.
        """
        p = np.asarray(probabilities, dtype=np.float64)
        if p.ndim != 2 or labels.shape != p.shape[:1]:
            raise ConfigurationError(f"probabilities {p.shape} and labels {labels.shape} do not fit (n, K) and (n,).")
        if not len(p) or labels.min() < 0 or labels.max() >= p.shape[1]:
            raise DataError(f"prediction sets need labelled rows with labels within 0..{p.shape[1] - 1}.")
        own = self.scores(p)[np.arange(len(p)), labels]
        if self.by_label:
            self.limits = np.array([conformal_quantile(own[labels == k], self.coverage) for k in range(p.shape[1])])
        else:
            self.limits = np.full(p.shape[1], conformal_quantile(own, self.coverage))
        return self

    def sets(self, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Returns which labels are in the set of each text, (n, K), of probabilities (n, K).

        Raises:
            NotFittedError: Before `fit`.
        """
        if self.limits is None:
            raise NotFittedError(f"{type(self).__name__} was used before fit(probabilities, labels) on validation rows.")
        p = np.asarray(probabilities, dtype=np.float64)
        found = self.scores(p) <= self.limits
        if len(p):
            found[np.arange(len(p)), p.argmax(1)] = True
        return np.asarray(found, dtype=np.bool_)


class LeastAmbiguousSets(PredictionSets):
    r"""LAC (Sadinle et al., 2019): the labels with :math:`1 - p_k \le q`; the smallest sets on average."""

    def scores(self, probabilities: FloatArray) -> FloatArray:
        """See `PredictionSets.scores`."""
        return np.asarray(1 - probabilities)


class AdaptiveSets(PredictionSets):
    r"""APS (Romano et al., 2020) and, with a penalty, RAPS (Angelopoulos et al., 2021): sets that grow with difficulty.

    The score of a label is the probability of all labels that are likelier, plus :math:`penalty \cdot (rank - free)^+`. The
    papers add a random share of its own; without it nothing is drawn, no set is empty, and the promise holds as exactly, unless
    the likeliest label alone is right more often than promised.

    Args:
        coverage: See `PredictionSets`.
        by_label: See `PredictionSets`.
        penalty: Of a label for each rank behind `free`; 0: APS.
        free: Ranks without a penalty.
    """

    def __init__(self, coverage: float, by_label: bool = False, penalty: float = 0.0, free: int = 1) -> None:
        super().__init__(coverage, by_label)
        if penalty < 0 or free < 0:
            raise ConfigurationError(f"penalty={penalty}, free={free}: give 0 or more.")
        self.penalty, self.free = penalty, free

    def scores(self, probabilities: FloatArray) -> FloatArray:
        """See `PredictionSets.scores`."""
        order = np.argsort(-probabilities, axis=1, kind="stable")
        ranks = np.arange(1, probabilities.shape[1] + 1)
        ranked = np.take_along_axis(probabilities, order, 1)
        found = np.empty(ranked.shape)
        np.put_along_axis(found, order, ranked.cumsum(1) - ranked + self.penalty * np.maximum(ranks - self.free, 0), 1)
        return found
