"""Deferral without learning: by how unsure the answer so far is, or at random."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lf_lightning.contract import Task
from lf_lightning.deferral.base import Deferral, Fuse
from lf_lightning.errors import ConfigurationError


class Uncertainty(Deferral):
    """Asks where the answer so far is unsure, whatever the scorer knows about such texts.

    Args:
        num_labels: K.
        num_scorers: M.
        task: Multi-class or multi-label.
        by: margin (between the two likeliest labels; multi-label: distance from 0.5) or entropy (multi-label: their mean).
    """

    def __init__(self, num_labels: int, num_scorers: int, task: Task, by: Literal["margin", "entropy"] = "margin") -> None:
        super().__init__(num_labels, num_scorers, task)
        if by not in ("margin", "entropy"):
            raise ConfigurationError(f"by={by!r} is neither margin nor entropy.")
        self.by = by

    def _values(self, asked: int, members: Tensor, known: Tensor, fuse: Fuse) -> Tensor:
        p = fuse(members, known)
        return entropy(p, self.task) if self.by == "entropy" else 1 - margin(p, self.task)


class RandomDeferral(Deferral):
    """Asks at random, a text always the same: the line that any other deferral has to beat."""

    def _values(self, asked: int, members: Tensor, known: Tensor, fuse: Fuse) -> Tensor:
        digits = torch.arange(1, self.num_labels + 1, device=members.device, dtype=torch.float64).sqrt() * (1e4 + asked)
        value: Tensor = (members[:, 0].double().cpu() @ digits.cpu()).frac().abs().float().to(members.device)
        return value


def margin(p: Float[Tensor, "n k"], task: Task) -> Float[Tensor, " n"]:
    """Returns the likeliest label's probability less the next one's; multi-label: the least |2 p - 1|. In [0, 1].

    >>> margin(torch.tensor([[0.5, 0.25, 0.25]]), "multiclass")
    tensor([0.2500])
    """
    if task == "multilabel":
        return (2 * p.float() - 1).abs().amin(-1)
    top = p.float().topk(2, -1).values
    return top[:, 0] - top[:, 1]


def entropy(p: Float[Tensor, "n k"], task: Task) -> Float[Tensor, " n"]:
    """Returns the entropy in nats; multi-label: the mean over labels.

    >>> entropy(torch.tensor([[0.5, 0.5]]), "multiclass")
    tensor([0.6931])
    """
    p = p.float()
    own = -torch.xlogy(p, p)
    return own.sum(-1) if task == "multiclass" else (own - torch.xlogy(1 - p, 1 - p)).mean(-1)
