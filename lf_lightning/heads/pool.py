"""Heads without hidden layers: the untrained average, the logarithmic pool and the linear stack."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lf_lightning.contract import Task
from lf_lightning.heads.base import Evidence, FusionHead
from lf_lightning.heads.functional import (
    choose_ridge,
    fit_linear,
    fit_pool,
    hold_out,
    hold_out_pool,
    inverse_temperatures,
    linear_average,
    log_linear_pool,
)


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
        self.linear = _zero_linear(num_members * num_labels, num_labels)

    def forward(
        self, members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"], representation: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b k"]:
        """See `FusionHead.forward`."""
        logits: Tensor = self.linear(flat_opinions(members, present))
        return logits

    def start(self, evidence: Evidence) -> Tensor:
        """Fits the regression."""
        features, labels = flat_opinions(evidence.members, evidence.present), evidence.labels
        shift = torch.zeros(len(features), self.num_labels) if evidence.shift is None else evidence.shift
        fitted = fit_linear(features, labels, self.task, 1 / self.c, offset=shift, num_labels=self.num_labels)
        _set(self.linear, *fitted)
        return next(hold_out(features, labels, self.task, [1 / self.c], offset=shift))[1] - shift


class PooledFusion(FusionHead):
    """A logarithmic opinion pool of calibrated members, and per-class corrections as far as the evidence carries them.

    The weights have the mean of the calibrated members as their prior. The correction, zero at first, is linear in the
    opinions and in where two members agree; its penalty is chosen by cross-validation, in which leaving the pool as it is
    competes. Where one member alone has an opinion, it is that opinion, as sharp as the member is right.

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
        self.sharpness: Tensor
        self.register_buffer("sharpness", torch.ones(num_members))  # fitted, not trained: few rows have one opinion alone
        self.bias = nn.Parameter(torch.zeros(num_labels))
        width = agreements(torch.zeros(1, num_members, num_labels), task).shape[1] + num_members * num_labels
        self.correction = _zero_linear(width, num_labels) if correction else None

    def forward(
        self, members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"], representation: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b k"]:
        """See `FusionHead.forward`."""
        several = present.sum(-1, keepdim=True) > 1
        alone = torch.einsum("bm,bmk->bk", present * self.sharpness, torch.where(present[..., None], members, 0.0))
        pooled = log_linear_pool(members, present, self.weights.clamp(min=0), self.bias)
        if self.correction is not None:
            pooled = pooled + self.correction(self._features(members, present))
        return torch.where(several, pooled, alone)

    def start(self, evidence: Evidence) -> Tensor:
        """Fits the weights and the bias, then the correction."""
        members, present, labels, _, shift = evidence.cpu()
        weights, bias = fit_pool(members, present, labels, self.task, shift=shift)
        with torch.no_grad():
            self.weights.copy_(weights)
            self.bias.copy_(bias)
            self.sharpness.copy_(inverse_temperatures(members, present, labels, self.task, shift=shift))
        held = hold_out_pool(members, present, labels, self.task, shift=shift)
        if self.correction is None or len(labels) < self.correction_rows:
            return held
        features, moved = self._features(members, present), 0.0 if shift is None else shift
        ridge, held = choose_ridge(features, labels, self.task, offset=held + moved)
        if math.isfinite(ridge):
            pooled = log_linear_pool(members, present, weights, bias) + moved
            _set(self.correction, *fit_linear(features, labels, self.task, ridge, offset=pooled, num_labels=self.num_labels))
        return held - moved

    def _features(self, members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b f"]:
        # A third, because opinions range over several units and products of probabilities over one: one penalty for both.
        opinions = flat_opinions(members, present)
        return torch.cat([opinions / 3, agreements(opinions.view_as(members), self.task)], 1)


def flat_opinions(members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b mk"]:
    """Returns the opinions side by side (B, M * K), a member without an opinion as the mean of those present."""
    seen = present.unsqueeze(-1)
    kept = torch.where(seen, members, 0.0)
    mean = kept.sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
    return torch.where(seen, members, mean).flatten(1)


def agreements(members: Float[Tensor, "b m k"], task: Task) -> Float[Tensor, "b f"]:
    """Returns the products of two members' probabilities, for each pair of members.

    Multi-class, up to 12 labels: for each pair of labels, P(first says i) P(second says j): what both say together tells more
    than what each says for itself. More labels, or multi-label: for each label only, for K squared columns would be too many.

    >>> agreements(torch.log(torch.tensor([[[0.8, 0.2], [0.5, 0.5]]])), "multiclass")
    tensor([[0.4000, 0.4000, 0.1000, 0.1000]])
    """
    p = members.softmax(-1) if task == "multiclass" else members.sigmoid()
    first, second = torch.triu_indices(p.shape[1], p.shape[1], 1)
    if task == "multiclass" and p.shape[2] <= _LABELS_IN_PAIRS:
        return torch.einsum("bpi,bpj->bpij", p[:, first], p[:, second]).flatten(1)
    return (p[:, first] * p[:, second]).flatten(1)


_LABELS_IN_PAIRS = 12


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _set(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
