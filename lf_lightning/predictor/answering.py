"""What answers for texts: one opinion of them, read as probabilities or as decisions."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lf_lightning.callbacks.judging import Opinion
from lf_lightning.contract import Task

ScoresOf = str | os.PathLike[str] | ArrayLike | None
"""Folder of a score store (`package:` allowed), (n, M, K) probabilities in the order of `scorers` and `labels` with NaN where a
scorer gave none, or None: nobody was asked."""


class Answering(ABC):
    """Base of what answers for texts: a subclass gives the opinion.

    Attributes:
        labels: The K label names, in the order of the probabilities.
        task: Multi-class or multi-label.
        scorers: Names of the M scorers whose scores it reads.
    """

    labels: list[str]
    task: Task
    scorers: list[str]

    @abstractmethod
    def opinion(self, texts: Sequence[str], scores: ScoresOf = None) -> Opinion:
        """Returns probabilities and decisions of n texts."""

    def predict_proba(self, texts: Sequence[str], scores: ScoresOf = None) -> NDArray[np.float64]:
        """Returns the calibrated probabilities (n, K) of n texts.

        Args:
            texts: Any strings; several text columns joined by a newline, as in training.
            scores: What the scorers said of them: the folder of a store with all of `scorers`; (n, M, K) probabilities in the
                order of `scorers` and `labels`, NaN where a scorer gave none; or None.

        Raises:
            DataError: A text is no string, or the scores are no probabilities.
            ConfigurationError: Scores of another shape.
            StoreError: The store is damaged, or lacks a scorer.
            NotFittedError: Something in it has to be fitted first.
        """
        return self.opinion(texts, scores).probabilities

    def predict(self, texts: Sequence[str], scores: ScoresOf = None) -> NDArray[np.int64]:
        """Returns the decisions by the tuned rule, if there is one: numbers of labels (n,), or multi-label (n, K) of 0 and 1.

        Args:
            texts: As for `predict_proba`.
            scores: As for `predict_proba`.
        """
        return self.opinion(texts, scores).decisions
