"""The value of information: what a fitted fusion expects of an opinion before it is known."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from lf_lightning.contract import Task
from lf_lightning.deferral.base import Deferral, Fuse
from lf_lightning.errors import ConfigurationError

Measure: TypeAlias = Literal["log", "brier", "accuracy"]

_FLOOR = 1e-3
_CELLS_AT_ONCE = 1 << 22


class ExpectedGain(Deferral):
    r"""The gain that the fusion itself expects of a scorer's opinion (value of information; Howard, 1966).

    .. math:: V(x) = \frac{\sum_j w_j \, [u(q_{x,j}, y_j) - u(p_x, y_j)]}{\sum_j w_j}, \quad w_j = P(y_j \mid p_x) / n(y_j)

    :math:`p_x` is what is known of the text, as calibrated probabilities; :math:`(s_j, y_j)` are opinions that the scorer gave
    of labelled rows, kept as a bank; :math:`q_{x,j}` is what the fusion would say of this text if the scorer said
    :math:`s_j`, and :math:`n(y_j)` is how many rows of the bank have that label. So a scorer is worth most where it may change
    the answer and knows the labels in question: given the label, its opinion is taken to be independent of the encoder's. All
    is multiplied by the share of texts on which the scorer has an opinion at all.

    Args:
        num_labels: K.
        num_scorers: M.
        task: Multi-class or multi-label.
        measure: What is to gain: log (likelihood of the label), brier (less squared error), accuracy (of the likeliest label).
        bank: Rows kept of each scorer, evenly over the labels.
    """

    opinions: Tensor
    labels: Tensor
    answered: Tensor
    sizes: Tensor

    def __init__(self, num_labels: int, num_scorers: int, task: Task, measure: Measure = "log", bank: int = 256) -> None:
        super().__init__(num_labels, num_scorers, task)
        if bank < 1 or measure not in ("log", "brier", "accuracy"):
            raise ConfigurationError(f"bank={bank}, measure={measure!r}: 1 row or more, and log, brier or accuracy.")
        self.measure, self.bank = measure, bank
        self.register_buffer("opinions", torch.full((num_scorers, bank, num_labels), torch.nan))
        self.register_buffer("labels", torch.full((num_scorers, bank, num_labels), torch.nan))
        self.register_buffer("answered", torch.full((num_scorers,), torch.nan))
        self.register_buffer("sizes", torch.full((num_scorers,), torch.nan))

    def _fit(self, members: Tensor, present: Tensor, labels: Tensor, fuse: Fuse) -> None:
        vectors = one_hot(labels, self.num_labels)
        self.opinions.zero_()
        self.labels.zero_()
        for m in range(self.num_scorers):
            said = present[:, m + 1].nonzero().flatten()
            self.answered[m] = len(said) / max(len(present), 1)
            rows = said[_even(vectors[said])[: self.bank]]
            self.opinions[m, : len(rows)] = members[rows, m + 1]
            self.labels[m, : len(rows)] = vectors[rows]
            self.sizes[m] = len(rows)

    def _values(self, asked: int, members: Tensor, known: Tensor, fuse: Fuse) -> Tensor:
        size = int(self.sizes[asked])
        said, y = self.opinions[asked, :size], self.labels[asked, :size]
        p = fuse(members, known).float()
        if not len(said):  # nothing is known of this scorer
            return torch.zeros(len(p), device=p.device)
        same = (y.unsqueeze(0) == y.unsqueeze(1)).all(-1).sum(1)
        weights = (self._log_likelihood(p, y) - same.log()).softmax(1)
        now = self._scores(p.unsqueeze(1), y)
        block = max(1, _CELLS_AT_ONCE // (len(said) * members[0].numel()))
        later = torch.cat([self._imagined(m, k, asked, said, y, fuse) for m, k in _blocks(members, known, block)])
        gain: Tensor = (weights * (later - now)).sum(1) * self.answered[asked]
        return gain

    def _imagined(self, members: Tensor, known: Tensor, asked: int, said: Tensor, labels: Tensor, fuse: Fuse) -> Tensor:
        """The measure (n, B) of n texts, were scorer `asked` to say each of B opinions and their labels to be true."""
        n, b = len(members), len(said)
        each = members.unsqueeze(1).repeat(1, b, 1, 1)
        each[:, :, asked + 1] = said
        then = known.clone()
        then[:, asked + 1] = True
        q = fuse(each.flatten(0, 1), then.repeat_interleave(b, 0)).float()
        return self._scores(q.view(n, b, -1), labels)

    def _scores(self, p: Tensor, y: Tensor) -> Tensor:
        """The measure (n, B) of probabilities (n, B or 1, K) on labels (B, K)."""
        if self.measure == "accuracy":
            if self.task == "multiclass":
                return y.expand(len(p), *y.shape).gather(-1, p.argmax(-1, keepdim=True).expand(len(p), len(y), 1)).squeeze(-1)
            return ((p > 0.5) == (y > 0.5)).all(-1).float()
        if self.measure == "brier":
            return -((p - y) ** 2).mean(-1) if self.task == "multilabel" else -((p - y) ** 2).sum(-1)
        right = torch.where(y > 0.5, p, 1 - p).clamp(min=_FLOOR).log()
        return right.mean(-1) if self.task == "multilabel" else (y * right).sum(-1)

    def _log_likelihood(self, p: Tensor, y: Tensor) -> Tensor:
        """Log-likelihoods (n, B) of labels (B, K) by probabilities (n, K)."""
        p = p.clamp(1e-6, 1 - 1e-6)
        found = p.log() @ y.T
        return found if self.task == "multiclass" else found + (1 - p).log() @ (1 - y).T


def one_hot(labels: Tensor, num_labels: int) -> Tensor:
    """Returns labels (n,) or (n, K) as float32 (n, K) of 0 and 1."""
    return labels.float() if labels.ndim == 2 else torch.nn.functional.one_hot(labels.long(), num_labels).float()


def _even(labels: Tensor) -> Tensor:
    """An order (n,) of rows in which any beginning holds the label sets (n, K) as evenly as they allow; random within a set."""
    n = len(labels)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    kind = torch.from_numpy(np.unique(labels.cpu().numpy(), axis=0, return_inverse=True)[1].ravel())
    shuffled = kind[order]
    by_kind = torch.argsort(shuffled, stable=True)
    first = torch.searchsorted(shuffled[by_kind], shuffled[by_kind])
    turn = torch.empty(n, dtype=torch.int64)
    turn[by_kind] = torch.arange(n) - first
    return order[torch.argsort(turn, stable=True)].to(labels.device)


def _blocks(members: Tensor, known: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return [(members[i : i + size], known[i : i + size]) for i in range(0, len(members), size)]
