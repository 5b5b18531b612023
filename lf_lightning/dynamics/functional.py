"""What a net says of a label in one epoch, and weights from what two nets said over many, as functions.

Labels are hard or soft. Multi-class: (n,) class numbers, or (n, K) shares that sum to 1. Multi-label: (n, K) in [0, 1].
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (the name that PyTorch's own documentation uses)

from lf_lightning.contract import Task

Clamp = Literal["zero", "rescale", "none"]


def agreement(logits: Tensor, labels: Tensor, task: Task) -> Tensor:
    """Returns (n,) in [0, 1], how far a net agrees with labels: exp(-KL(label || net)).

    For a hard multi-class label y this is p(y | x), the P of LG-CoTrain (algorithm 1). Soft labels have 1 where the net says
    the same shares; multi-label rows the geometric mean over the labels.

    Args:
        logits: (n, K) of the net.
        labels: (n,) or (n, K), see the module.
        task: Multi-class or multi-label.

    >>> agreement(torch.tensor([[0.0, 0.0]]), torch.tensor([1]), "multiclass")
    tensor([0.5000])
    """
    z = logits.float()
    if task == "multilabel":
        q = labels.to(z)
        cells = q * F.logsigmoid(z) + (1 - q) * F.logsigmoid(-z)
        return (cells - torch.xlogy(q, q) - torch.xlogy(1 - q, 1 - q)).mean(-1).clamp(max=0.0).exp()
    log_p = z.log_softmax(-1)
    if labels.ndim == 1:
        return log_p.gather(-1, labels.long().unsqueeze(-1)).squeeze(-1).exp()
    q = labels.to(z)
    return (q * log_p - torch.xlogy(q, q)).sum(-1).clamp(max=0.0).exp()


def margin(logits: Tensor, labels: Tensor, task: Task) -> Tensor:
    """Returns (n,), by how much the label's logit exceeds the largest other (Pleiss et al. 2020, arXiv 2001.10528, eq. 1).

    Soft labels count as their most probable one. Multi-label: the mean over labels of z where the label applies, else of -z.

    Args:
        logits: (n, K) of the net.
        labels: (n,) or (n, K), see the module.
        task: Multi-class or multi-label.

    >>> margin(torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([1]), "multiclass")
    tensor([-2.])
    """
    z = logits.float()
    if task == "multilabel":
        return torch.where(labels >= 0.5, z, -z).mean(-1)
    y = (labels if labels.ndim == 1 else labels.argmax(-1)).long().unsqueeze(-1)
    return z.gather(-1, y).squeeze(-1) - z.scatter(-1, y, -torch.inf).amax(-1)


def even_by_label(weights: Tensor, labels: Tensor) -> Tensor:
    """Returns weights divided by their mean over the rows with the same label, so that each label has mean weight 1.

    Nets that have seen few gold rows are less sure of rare labels; weights that follow from them would make these rarer still.

    Args:
        weights: (n, nets), at least 0; NaN stays NaN and is left out of the means.
        labels: (n,) class numbers, negative where there is none, or (n, K) shares, which count as their most probable label.

    >>> even_by_label(torch.tensor([[1.0], [0.5], [0.25]]), torch.tensor([0, 0, 1])).flatten()
    tensor([1.3333, 0.6667, 1.0000])
    """
    y = labels if labels.ndim == 1 else labels.nan_to_num(-1.0).argmax(-1)
    out = weights.clone()
    for label in range(int(y.max()) + 1):
        rows = y == label
        if rows.any():
            out[rows] = weights[rows] / weights[rows].nanmean(0).clamp(min=1e-6)
    return out


def swapped_weights(confidence: Tensor, variability: Tensor, clamp: Clamp = "zero") -> Tensor:
    """Returns (n, 2), the weights of LG-CoTrain's eq. 3 to 6: net 1 learns with c2 - v2, net 2 with c1 + v1.

    c - v falls to -0.207 at the least, where a label's probability is 0 in most epochs and 1 in a few; a negative weight would
    turn the cross-entropy into an ascent without bound.

    Args:
        confidence: (n, 2), c: the mean over epochs of each net's agreement; NaN stays NaN.
        variability: (n, 2), v: its population standard deviation.
        clamp: Negative weights become 0 (zero), each column is stretched to [0, 1] (rescale), or they stay (none).

    >>> swapped_weights(torch.tensor([[0.75, 0.5]]), torch.tensor([[0.25, 0.125]]))
    tensor([[0.3750, 1.0000]])
    """
    weights = torch.stack([confidence[:, 1] - variability[:, 1], confidence[:, 0] + variability[:, 0]], -1)
    if clamp == "zero":
        return weights.clamp(min=0.0)
    if clamp == "rescale":
        low = weights.nan_to_num(torch.inf).amin(0)
        high = weights.nan_to_num(-torch.inf).amax(0)
        return (weights - low) / (high - low).clamp(min=1e-12)
    return weights
