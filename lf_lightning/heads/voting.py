"""Heads of few numbers, for members that are good by themselves: a vote, fixed shares, and the best member for each label."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lf_lightning.contract import Task
from lf_lightning.heads.base import Evidence, FusionHead
from lf_lightning.heads.functional import fit_mixture, linear_average, opinions

_FOLDS = 5


class MajorityFusion(FusionHead):
    """Hard voting: each member votes for its most probable label (multi-label: for every label from 0.5 on).

    The fused probability of a label is its share of the votes. Ties are broken by the mean probability of the members, which
    counts as one voter more that splits its vote; so it never turns a majority.
    """

    def forward(
        self, members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"], representation: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b k"]:
        """See `FusionHead.forward`."""
        seen = present.unsqueeze(-1)
        known = torch.where(seen, members, 0.0)
        if self.task == "multiclass":
            votes, p = torch.nn.functional.one_hot(known.argmax(-1), known.shape[-1]).to(known.dtype), known.softmax(-1)
        else:
            votes, p = (known >= 0).to(known.dtype), known.sigmoid()
        voters = seen.sum(1).clamp(min=1)
        mean = (p * seen).sum(1) / voters
        return opinions(((votes * seen).sum(1) + mean) / (voters + 1), self.task, floor=1e-6)


class MixtureFusion(FusionHead):
    """The weighted mean of the members' probabilities, with one share for each member; the shares sum to 1.

    They are fitted by maximum likelihood and shrunk to equal shares (see `functional.fit_mixture`), and not trained afterwards.

    Args:
        num_labels: K.
        num_members: M + 1.
        dim: Width d of the encoder's vectors (not used).
        task: Multi-class or multi-label.
        prior_rows: Equal shares count as much as so many rows.
    """

    shares: Tensor

    def __init__(self, num_labels: int, num_members: int, dim: int, task: Task, prior_rows: float = 10.0) -> None:
        super().__init__(num_labels, num_members, dim, task)
        self.prior_rows = prior_rows
        self.register_buffer("shares", torch.full((num_members,), 1.0 / num_members))

    def forward(
        self, members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"], representation: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b k"]:
        """See `FusionHead.forward`."""
        return linear_average(members, present, self.task, self.shares.expand(present.shape))

    def start(self, evidence: Evidence) -> Tensor:
        """Fits the shares."""

        def fit(rows: Evidence) -> None:
            shares = fit_mixture(rows.shifted(), rows.present, rows.labels, self.task, prior_rows=self.prior_rows)
            self.shares.copy_(shares)

        return _held_out(self, fit, evidence)


class RoutedFusion(FusionHead):
    """Each label's probability is that of the member that is best on it.

    `experts` says which member that is; where it has no opinion of a row, the best member on all labels speaks. See `route`.
    """

    experts: Tensor
    best: Tensor

    def __init__(self, num_labels: int, num_members: int, dim: int, task: Task) -> None:
        super().__init__(num_labels, num_members, dim, task)
        self.register_buffer("experts", torch.zeros(num_labels, dtype=torch.long))
        self.register_buffer("best", torch.tensor(0))

    def forward(
        self, members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"], representation: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b k"]:
        """See `FusionHead.forward`."""
        chosen = self.experts.expand(len(members), 1, -1)
        heard = present.gather(1, chosen[:, 0])
        known = torch.where(present.unsqueeze(-1), members, 0.0)
        mean = known.sum(1) / present.sum(1, keepdim=True).clamp(min=1)
        fallback = torch.where(present[:, self.best, None], known[:, self.best], mean)
        return torch.where(heard, known.gather(1, chosen)[:, 0], fallback)

    def start(self, evidence: Evidence) -> Tensor:
        """Chooses the experts."""

        def fit(rows: Evidence) -> None:
            experts, best = route(rows.shifted(), rows.present, rows.labels, self.task)
            self.experts.copy_(experts)
            self.best.fill_(best)

        return _held_out(self, fit, evidence)


def route(
    members: Float[Tensor, "n m k"], present: Bool[Tensor, "n m"], labels: Tensor, task: Task
) -> tuple[Int[Tensor, " k"], int]:
    r"""Returns the expert of each label (K,), and the best member on all labels.

    A member's quality on label k is the mean over rows of :math:`y_k \log p_k + (1 - y_k) \log (1 - p_k)`. The member that is
    best on all labels is the expert of each, unless another's gain over it exceeds the gain's standard error: on few rows luck
    would choose.

    Args:
        members: (n, M, K) opinions on rows that no member was fitted on.
        present: (n, M). Quality is measured on the rows of which all members have an opinion.
        labels: (n,) int64 or (n, K) float, all labelled.
        task: Multi-class or multi-label.

    >>> sure = torch.tensor([[[0.9, 0.1], [0.6, 0.4]], [[0.1, 0.9], [0.4, 0.6]]]).log().repeat(5, 1, 1)
    >>> route(sure, torch.ones(10, 2, dtype=torch.bool), torch.tensor([0, 1]).repeat(5), "multiclass")
    (tensor([0, 0]), 0)
    """
    rows = present.all(1)
    p = (members.softmax(-1) if task == "multiclass" else members.sigmoid())[rows].double().clamp(1e-6, 1 - 1e-6)
    k = members.shape[2]
    if not len(p):
        return torch.zeros(k, dtype=torch.long), 0
    truth = (torch.nn.functional.one_hot(labels, k) if labels.ndim == 1 else labels)[rows].unsqueeze(1)
    quality = torch.where(truth > 0, p.log(), (1 - p).log())
    best = int(quality.mean((0, 2)).argmax())
    gain = quality - quality[:, best : best + 1]
    error = gain.std(0, correction=0) / max(len(gain) - 1, 1) ** 0.5
    worthwhile = torch.where(gain.mean(0) > error, gain.mean(0), -torch.inf)
    worthwhile[best] = 0.0
    return worthwhile.argmax(0), best


def decided_by(p: NDArray[np.float64], decisions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns probabilities whose most probable label (multi-label: those from 0.5 on) are the decisions.

    Where a decision was tuned, and is not the most probable label, it changes places with that label; in multi-label p becomes
    1 - p.

    >>> decided_by(np.array([[0.5, 0.3, 0.2]]), np.array([2])).tolist()
    [[0.2, 0.3, 0.5]]
    """
    p = p.copy()
    if decisions.ndim == 2:
        turned = (p >= 0.5) != (decisions > 0)
        # Beyond 0.5 by a little, because log-odds of exactly 0 are a vote.
        return np.where(turned, np.where(decisions > 0, np.maximum(1 - p, 0.5), np.minimum(1 - p, 0.4999)), p)
    rows, top = np.arange(len(p)), p.argmax(1)
    p[rows, decisions], p[rows, top] = p[rows, top], p[rows, decisions]
    return p


@torch.no_grad()
def _held_out(head: FusionHead, fit: Callable[[Evidence], None], evidence: Evidence) -> Tensor:
    """Fits the head on the evidence, and returns its logits (n, K) of rows that it was not fitted on, on the CPU."""
    device = next(head.buffers()).device
    head.cpu()
    rows = evidence.cpu()
    held = torch.empty(rows.members.shape[0], rows.members.shape[2])
    nothing = torch.zeros(len(held), 0)
    fold = torch.arange(len(held)) % _FOLDS
    for f in range(min(_FOLDS, len(held)) if len(held) > 1 else 0):
        out = fold == f
        fit(rows.of(~out))
        held[out] = head(rows.members[out], rows.present[out], nothing[out])
    fit(rows)
    if len(held) < 2:
        held = head(rows.members, rows.present, nothing)
    head.to(device)
    return held
