"""Losses, one number for each row: pure functions, and modules that a YAML names by `class_path`.

Every loss is computed in float32 (float64 stays), is 0 with a zero gradient on unlabelled rows, and averages a multi-label row
over its K labels, so that its size does not grow with their number. The weight of label k counts where label k is present: on
the rows of class k (multi-class), on the positive cells of column k (multi-label, `pos_weight` of PyTorch).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the name that PyTorch's own documentation uses)
from torch.nn.functional import logsigmoid

from lf_lightning.errors import ConfigurationError


def labelled(labels: Tensor) -> Tensor:
    """(B,) bool, which rows have a label: not negative (multi-class (B,)), or without NaN (multi-label (B, K)).

    Example:
        >>> labelled(torch.tensor([2, -1]))
        tensor([ True, False])
    """
    return labels >= 0 if labels.ndim == 1 else ~torch.isnan(labels).any(-1)


def mean_over_labelled(losses: Tensor, labels: Tensor) -> Tensor:
    """Mean of row losses (B,) over the labelled rows, a scalar; 0, still attached to the graph, where there is none.

    Class weights do not enter the divisor (in `torch.nn.CrossEntropyLoss` they do).

    Example:
        >>> mean_over_labelled(torch.tensor([3.0, 0.0]), torch.tensor([1, -1]))
        tensor(3.)
    """
    rows = labelled(labels)
    return losses.where(rows, 0.0).sum() / rows.sum().clamp(min=1)


def cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor | None = None, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each row, (B,): -sum_k t_k w_k log softmax(z)_k with t = (1 - e) onehot(y) + e / K.

    Args:
        logits: (B, K).
        labels: (B,) integers, negative where unlabelled.
        weight: (K,) class weights, or None.
        label_smoothing: e in [0, 1).

    Raises:
        ConfigurationError: Multi-label labels.

    Example:
        >>> cross_entropy(torch.zeros(2, 2), torch.tensor([0, -1]))
        tensor([0.6931, 0.0000])
    """
    _want(labels, 1, "cross_entropy")
    z = _float32_or_better(logits)
    target = labels.long().where(labels >= 0, -100)
    return F.cross_entropy(z, target, _like(weight, z), reduction="none", ignore_index=-100, label_smoothing=label_smoothing)


def binary_cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of each row, (B,): mean over labels of -w_k y_k log p_k - (1 - y_k) log(1 - p_k), p = sigmoid(z).

    Args:
        logits: (B, K).
        labels: (B, K) of 0 and 1, rows of NaN where unlabelled.
        weight: (K,) weights of positives, or None.

    Raises:
        ConfigurationError: Multi-class labels.

    Example:
        >>> binary_cross_entropy(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
        tensor([0.6931])
    """
    _want(labels, 2, "binary_cross_entropy")
    z = _float32_or_better(logits)
    rows, y = labelled(labels), torch.nan_to_num(labels).to(z)
    cells = F.binary_cross_entropy_with_logits(z, y, pos_weight=_like(weight, z), reduction="none")
    return cells.mean(-1).where(rows, 0.0)


def focal(logits: Tensor, labels: Tensor, weight: Tensor | None = None, gamma: float = 2.0) -> Tensor:
    """Focal loss of each row, (B,): -(1 - p_t)^gamma log p_t (Lin et al. 2017, eq. 4), p_t the probability of the truth.

    Multi-class: p = softmax(z). Multi-label: p = sigmoid(z), mean over labels. The paper's alpha is left to `weight`.

    Args:
        logits: (B, K).
        labels: (B,) integers or (B, K) of 0 and 1; negative, or rows of NaN, where unlabelled.
        weight: (K,) class weights, or None.
        gamma: At least 0; 0 gives the plain cross-entropy.

    Example:
        >>> focal(torch.zeros(1, 2), torch.tensor([0]))  # (1/2)^2 log 2
        tensor([0.1733])
    """
    z = _float32_or_better(logits)
    rows = labelled(labels)
    w = torch.ones_like(z[0]) if weight is None else weight.to(z)
    # (1 - p)^gamma is taken as exp(gamma log(1 - p)): its gradient stays finite where p rounds to 1, for every gamma.
    if labels.ndim == 1:
        y = labels.long().clamp(min=0)
        log_p = z.log_softmax(-1).gather(-1, y[:, None]).squeeze(-1)
        log_rest = z.scatter(-1, y[:, None], -torch.inf).logsumexp(-1) - z.logsumexp(-1)
        return (-w[y] * (gamma * log_rest).exp() * log_p).where(rows, 0.0)
    y = torch.nan_to_num(labels).to(z)
    signed = torch.where(y > 0, z, -z)
    cells = -torch.where(y > 0, w, 1.0) * (gamma * logsigmoid(-signed)).exp() * logsigmoid(signed)
    return cells.mean(-1).where(rows, 0.0)


def asymmetric(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None = None,
    gamma_positive: float = 0.0,
    gamma_negative: float = 4.0,
    margin: float = 0.05,
) -> Tensor:
    """Asymmetric loss of each row, (B,), for multi-label rows with few positives (Ridnik et al. 2021, eq. 7).

    The mean over labels (the paper sums) of -y (1 - p)^g+ log p - (1 - y) q^g- log(1 - q), with q = max(p - margin, 0).

    Args:
        logits: (B, K).
        labels: (B, K) of 0 and 1, rows of NaN where unlabelled.
        weight: (K,) weights of positives, or None.
        gamma_positive: g+, at least 0.
        gamma_negative: g-, at least 0.
        margin: Negatives with p up to it cost nothing, in [0, 1).

    Raises:
        ConfigurationError: Multi-class labels.

    Example:
        >>> asymmetric(torch.tensor([[0.0, -4.0]]), torch.tensor([[1.0, 0.0]]))  # log 2 / 2: the easy negative is dropped
        tensor([0.3466])
    """
    _want(labels, 2, "asymmetric")
    z = _float32_or_better(logits)
    rows, y = labelled(labels), torch.nan_to_num(labels).to(z)
    w = torch.ones_like(z[0]) if weight is None else weight.to(z)
    positive = -w * (gamma_positive * logsigmoid(-z)).exp() * logsigmoid(z)
    q = (z.sigmoid() - margin).clamp(min=0.0)
    # Where q = 0 the cell is 0 whatever its weight, and 0^g has no finite gradient for g < 1.
    focus = q.where(q > 0, 1.0) ** gamma_negative
    log_rest = logsigmoid(-z) if margin == 0.0 else ((-z).sigmoid() + margin).clamp(max=1.0).log()
    return torch.where(y > 0, positive, -focus * log_rest).mean(-1).where(rows, 0.0)


class RowLoss(nn.Module, ABC):
    """Base of losses that a system takes as `loss` and a YAML names by `class_path`. A subclass writes `forward`."""

    @abstractmethod
    def forward(
        self,
        logits: Float[Tensor, "rows labels"],
        labels: Shaped[Tensor, "rows ..."],
        class_weight: Float[Tensor, " labels"] | None = None,
    ) -> Float[Tensor, " rows"]:
        """Losses (B,), float32 or better, of logits (B, K), labels (B,) or (B, K), class weights (K,); 0 where unlabelled."""

    def labelled(self, labels: Shaped[Tensor, "rows ..."]) -> Bool[Tensor, " rows"]:
        """(B,) which rows the loss counts."""
        return labelled(labels)


class CrossEntropy(RowLoss):
    """Cross-entropy, for multi-class.

    Args:
        label_smoothing: Share of the target that is spread evenly over all classes, in [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = _within("label_smoothing", label_smoothing, 1.0)

    def forward(self, logits: Tensor, labels: Tensor, class_weight: Tensor | None = None) -> Tensor:
        """See `cross_entropy`."""
        return cross_entropy(logits, labels, class_weight, self.label_smoothing)


class BinaryCrossEntropy(RowLoss):
    """Binary cross-entropy, for multi-label."""

    def forward(self, logits: Tensor, labels: Tensor, class_weight: Tensor | None = None) -> Tensor:
        """See `binary_cross_entropy`."""
        return binary_cross_entropy(logits, labels, class_weight)


class Focal(RowLoss):
    """Focal loss: rows that are already right count less; multi-class and multi-label.

    Args:
        gamma: How much less, at least 0; 0 gives the cross-entropy.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = _within("gamma", gamma)

    def forward(self, logits: Tensor, labels: Tensor, class_weight: Tensor | None = None) -> Tensor:
        """See `focal`."""
        return focal(logits, labels, class_weight, self.gamma)


class Asymmetric(RowLoss):
    """Asymmetric loss: easy negatives count less than easy positives; multi-label with few positives a row.

    Args:
        gamma_positive: How much less right positives count, at least 0.
        gamma_negative: How much less right negatives count, at least 0.
        margin: Negatives with a probability up to it cost nothing, in [0, 1).
    """

    def __init__(self, gamma_positive: float = 0.0, gamma_negative: float = 4.0, margin: float = 0.05) -> None:
        super().__init__()
        self.gamma_positive = _within("gamma_positive", gamma_positive)
        self.gamma_negative = _within("gamma_negative", gamma_negative)
        self.margin = _within("margin", margin, 1.0)

    def forward(self, logits: Tensor, labels: Tensor, class_weight: Tensor | None = None) -> Tensor:
        """See `asymmetric`."""
        return asymmetric(logits, labels, class_weight, self.gamma_positive, self.gamma_negative, self.margin)


def _float32_or_better(logits: Tensor) -> Tensor:
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def _like(weight: Tensor | None, logits: Tensor) -> Tensor | None:
    return None if weight is None else weight.to(logits)


def _want(labels: Tensor, ndim: int, name: str) -> None:
    if labels.ndim != ndim:
        shape, other = ("(B,)", "BinaryCrossEntropy, Focal or Asymmetric") if ndim == 1 else ("(B, K)", "CrossEntropy or Focal")
        raise ConfigurationError(f"{name} takes labels of shape {shape}, not {tuple(labels.shape)}. Way out: {other}.")


def _within(name: str, value: float, below: float = float("inf")) -> float:
    if not 0.0 <= value < below:
        raise ConfigurationError(f"{name}={value!r} must be at least 0 and below {below:g}.")
    return value
