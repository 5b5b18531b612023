"""What a fit of co-training found out about the LLM's labels, for callbacks to show."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lf_lightning.contract import Task
from lf_lightning.dynamics import Confidence, Dynamics, History, Weighting
from lf_lightning.losses import labelled
from lf_lightning.systems.pseudo_labels import TrainRows, llm_labels


class LabelReview(NamedTuple):
    """What a fit of co-training says of the LLM's labels of p unlabelled rows.

    Attributes:
        rows: (p,) numbers within the train split.
        labels: (p,) or (p, K), the LLM's.
        stated: (p,) the probability that it gave them.
        probabilities: (p, K), the fitted pair's.
        confidence: (p, nets), mean over epochs of what each net said of the label while it learned.
        variability: (p, nets), its deviation.
    """

    rows: Tensor
    labels: Tensor
    stated: Tensor
    probabilities: Tensor
    confidence: Tensor
    variability: Tensor

    @classmethod
    def of(cls, rows: TrainRows, history: History, probabilities: Tensor) -> LabelReview:
        """Returns it from the train rows, what the nets said of them, and the fitted pair's probabilities (N, K)."""
        pool = rows.pool
        told = (history.confidence[pool].nan_to_num(0.0), history.deviation[pool])
        return cls(pool, rows.labels[pool], rows.stated[pool], probabilities[pool], *told)


def weighed_beside_truth(
    scores: Tensor, scored: Tensor, truth: Tensor, said: Tensor, weighting: Weighting, task: Task
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns how n rows with gold labels would be weighed: whether the LLM is right, what it stated, and the weights.

    Args:
        scores: (n, M, K).
        scored: (n, M).
        truth: (n,) or (n, K) gold labels.
        said: (T, n, nets), what the nets said of the LLM's labels over epochs; NaN where it gave none.
        weighting: Of co-training; for one that needs probabilities the confidence stands in.
        task: Multi-class or multi-label.

    Returns:
        (n,) 1 where the LLM's label is right, 0 where wrong, -1 where it, the truth or all of `said` is lacking; (n,); and
        (n, nets).
    """
    labels, stated = llm_labels(scores, scored, task, soft=False)
    history = History(len(labels), said.shape[-1])
    for epoch in said:
        history.take_in(epoch)
    nothing = torch.full((len(labels),), -1)
    seen = Dynamics(history.confidence, history.deviation, said[-1], stated, nothing, 1.0, labels)
    same = (labels == truth) if labels.ndim == 1 else (labels == truth).all(-1)
    right = torch.where(labelled(labels) & labelled(truth) & said.isfinite().all(-1).any(0), same.long(), -1)
    return right, stated, (Confidence() if weighting.needs_probabilities else weighting)(seen)
