"""A regression of the gain that asking brought, on what was known before."""

from __future__ import annotations

import torch
from torch import Tensor

from lf_lightning.contract import Task
from lf_lightning.deferral.base import Deferral, Fuse, known_before
from lf_lightning.deferral.expected_gain import one_hot
from lf_lightning.deferral.uncertainty import entropy, margin
from lf_lightning.errors import ConfigurationError

_FLOOR = 1e-3


class LearnedGain(Deferral):
    r"""Ridge regression of the gain in log-likelihood on margin, entropy and probabilities before the call.

    :math:`V(x) = \bar g + w^T z(x)` with :math:`w = (Z^T Z + \lambda I)^{-1} Z^T (g - \bar g)`, features standardised.
    Learns what `ExpectedGain` assumes, and needs rows for it.

    Args:
        num_labels: K.
        num_scorers: M.
        task: Multi-class or multi-label.
        strength: The penalty lambda, in rows.
    """

    weights: Tensor
    scales: Tensor

    def __init__(self, num_labels: int, num_scorers: int, task: Task, strength: float = 100.0) -> None:
        super().__init__(num_labels, num_scorers, task)
        if strength < 0:
            raise ConfigurationError(f"strength={strength}: give 0 or more.")
        self.strength = strength
        self.register_buffer("weights", torch.full((num_scorers, num_labels + 3), torch.nan))
        self.register_buffer("scales", torch.full((num_scorers, 2, num_labels + 2), torch.nan))

    def _fit(self, members: Tensor, present: Tensor, labels: Tensor, fuse: Fuse) -> None:
        y = one_hot(labels, self.num_labels)
        for m in range(self.num_scorers):
            before, after = (fuse(members, known_before(present, asked)) for asked in (m, m + 1))
            gain = (self._log_likelihood(after, y) - self._log_likelihood(before, y)).double()
            z = self._features(before)
            centre, spread = z.mean(0), z.std(0, correction=0) + 1e-6
            z = ((z - centre) / spread).double()
            penalty = max(self.strength, 1e-6) * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
            slope = torch.linalg.solve(z.T @ z + penalty, z.T @ (gain - gain.mean()))
            self.weights[m] = torch.cat([slope, gain.mean()[None]]).float()
            self.scales[m] = torch.stack([centre, spread])

    def _values(self, asked: int, members: Tensor, known: Tensor, fuse: Fuse) -> Tensor:
        z = (self._features(fuse(members, known)) - self.scales[asked, 0]) / self.scales[asked, 1]
        found: Tensor = z @ self.weights[asked, :-1] + self.weights[asked, -1]
        return found

    def _features(self, p: Tensor) -> Tensor:
        return torch.cat([margin(p, self.task)[:, None], entropy(p, self.task)[:, None], p.float()], 1)

    def _log_likelihood(self, p: Tensor, y: Tensor) -> Tensor:
        right = torch.where(y > 0.5, p.float(), 1 - p.float()).clamp(min=_FLOOR).log()
        return right.mean(-1) if self.task == "multilabel" else (y * right).sum(-1)
