"""Heads without hidden layers: the untrained average, the logarithmic pool and the linear stack."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lf_lightning.contract import Task
from lf_lightning.heads.base import Evidence, FusionHead
from lf_lightning.heads.functional import choose_ridge, fit_linear, fit_pool, linear_average, log_linear_pool


class AverageFusion(FusionHead):
    """The mean of the members' probabilities: untrained, hard to beat with few labels."""

    def forward(
        self, members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"], representation: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b k"]:
        """See `FusionHead.forward`."""
        return linear_average(members, present, self.task)


class LinearStack(FusionHead):
    """Logistic regression on all members' opinions (stacked generalisation; Wolpert, 1992), fitted exactly on the evidence.

    Args:
        num_labels: K.
        num_members: M + 1.
        dim: Width d of the encoder's vectors (not used).
        task: Multi-class or multi-label.
        c: Inverse strength of the L2 penalty, as in scikit-learn.
    """

    def __init__(self, num_labels: int, num_members: int, dim: int, task: Task, c: float = 0.1) -> None:
        super().__init__(num_labels, num_members, dim, task)
        self.c = c
        self.linear = nn.Linear(num_members * num_labels, num_labels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self, members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"], representation: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b k"]:
        """See `FusionHead.forward`."""
        logits: Tensor = self.linear(flat_opinions(members, present))
        return logits

    def start(self, evidence: Evidence) -> None:
        """Fits the regression."""
        features = flat_opinions(evidence.members, evidence.present)
        weight, bias = fit_linear(features, evidence.labels, self.task, 1 / self.c, num_labels=self.num_labels)
        _set(self.linear, weight, bias)


class PooledFusion(FusionHead):
    """A logarithmic opinion pool of calibrated members, and per-class corrections as far as the evidence carries them.

    The weights have the mean of the calibrated members as their prior; the correction (K x (M + 1) K weights, zero at
    first) has its penalty chosen by cross-validation, in which leaving the pool as it is competes.

    Args:
        num_labels: K.
        num_members: M + 1.
        dim: Width d of the encoder's vectors (not used).
        task: Multi-class or multi-label.
        correction: Whether to fit the per-class correction.
        correction_rows: With fewer rows of evidence it stays zero: cross-validation cannot tell luck from knowledge there.
    """

    def __init__(
        self, num_labels: int, num_members: int, dim: int, task: Task, correction: bool = True, correction_rows: int = 100
    ) -> None:
        super().__init__(num_labels, num_members, dim, task)
        self.correction_rows = correction_rows
        self.weights = nn.Parameter(torch.full((num_members,), 1.0 / num_members))
        self.bias = nn.Parameter(torch.zeros(num_labels))
        self.correction = nn.Linear(num_members * num_labels, num_labels) if correction else None
        if self.correction is not None:
            nn.init.zeros_(self.correction.weight)
            nn.init.zeros_(self.correction.bias)

    def forward(
        self, members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"], representation: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b k"]:
        """See `FusionHead.forward`."""
        pooled = log_linear_pool(members, present, self.weights.clamp(min=0), self.bias)
        return pooled if self.correction is None else pooled + self.correction(flat_opinions(members, present))

    def start(self, evidence: Evidence) -> None:
        """Fits the weights and the bias, then the correction."""
        weights, bias = fit_pool(evidence.members, evidence.present, evidence.labels, self.task)
        with torch.no_grad():
            self.weights.copy_(weights)
            self.bias.copy_(bias)
        if self.correction is None or len(evidence.labels) < self.correction_rows:
            return
        features = flat_opinions(evidence.members, evidence.present).cpu()
        pooled = log_linear_pool(evidence.members.cpu(), evidence.present.cpu(), weights, bias)
        labels = evidence.labels.cpu()
        ridge = choose_ridge(features, labels, self.task, offset=pooled)
        if math.isfinite(ridge):
            _set(self.correction, *fit_linear(features, labels, self.task, ridge, offset=pooled, num_labels=self.num_labels))


def flat_opinions(members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b mk"]:
    """Returns the opinions side by side (B, M * K), a member without an opinion as the mean of those present."""
    seen = present.unsqueeze(-1)
    kept = torch.where(seen, members, 0.0)
    mean = kept.sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
    return torch.where(seen, members, mean).flatten(1)


def _set(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
