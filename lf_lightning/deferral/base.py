"""What every deferral is: the value of asking one more scorer about a text, from what is known before."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from lf_lightning.calibration.fitted import FittedModule
from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError

Fuse: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""A fitted fusion: opinions (n, M + 1, K), the encoder's first, and who has one (n, M + 1), to calibrated probabilities."""


class Deferral(FittedModule):
    """Base of deferrals. Scorers are asked in their order, which should be that of their prices, each knowing those before.

    A subclass takes these three positions, then its own keyword arguments, and writes `_fit` and `_values`.

    Args:
        num_labels: K.
        num_scorers: M.
        task: Multi-class or multi-label.
    """

    _witness = "rows"
    rows: Tensor

    def __init__(self, num_labels: int, num_scorers: int, task: Task) -> None:
        super().__init__()
        if num_labels < 1 or num_scorers < 1:
            raise ConfigurationError(f"num_labels={num_labels!r} and num_scorers={num_scorers!r} must be at least 1.")
        self.num_labels, self.num_scorers = num_labels, num_scorers
        self.task: Task = task
        self.register_buffer("rows", torch.tensor(torch.nan))

    @torch.no_grad()
    def fit(self, members: Tensor, present: Tensor, labels: Tensor, fuse: Fuse) -> None:
        """Fits on rows that no member was fitted on; all are labelled.

        Args:
            members: (n, M + 1, K) opinions, the encoder's first; finite, also where absent.
            present: (n, M + 1) bool, who has an opinion.
            labels: (n,) int64 or (n, K) of 0 and 1.
            fuse: The fitted fusion.

        Raises:
            ConfigurationError: Shapes that do not fit.
        """
        self._check(members, present)
        self._fit(members, present, labels, fuse)
        self.rows.fill_(float(len(members)))
        self._seen_fitted = False

    @torch.no_grad()
    def values(self, asked: int, members: Tensor, present: Tensor, fuse: Fuse) -> Tensor:
        """Returns what an opinion of scorer number `asked` (from 0) is worth for each text, (n,); only their order matters.

        Args:
            asked: How many scorers were asked before; what later ones say in `members` is not read.
            members: (n, M + 1, K) opinions.
            present: (n, M + 1) bool.
            fuse: The fitted fusion.

        Raises:
            NotFittedError: Before `fit`.
            ConfigurationError: Shapes that do not fit.
        """
        self._require_fitted()
        self._check(members, present)
        if not 0 <= asked < self.num_scorers:
            raise ConfigurationError(
                f"asked={asked}: there are {self.num_scorers} scorers, so one of 0..{self.num_scorers - 1}."
            )
        return self._values(asked, members, known_before(present, asked), fuse)

    def _fit(self, members: Tensor, present: Tensor, labels: Tensor, fuse: Fuse) -> None:
        """Fills buffers; by default there are none."""

    @abstractmethod
    def _values(self, asked: int, members: Tensor, known: Tensor, fuse: Fuse) -> Tensor:
        """As `values`; `known` (n, M + 1) is true for the encoder and the scorers asked before that have an opinion."""

    def _check(self, members: Tensor, present: Tensor) -> None:
        wanted = (self.num_scorers + 1, self.num_labels)
        if members.ndim != 3 or tuple(members.shape[1:]) != wanted or present.shape != members.shape[:2]:
            raise ConfigurationError(
                f"members of shape {tuple(members.shape)} and present of shape {tuple(present.shape)} do not fit "
                f"(n, {wanted[0]}, {wanted[1]}) and (n, {wanted[0]})."
            )


def known_before(present: Tensor, asked: int) -> Tensor:
    """Returns `present` (n, M + 1) with all but the encoder and the first `asked` scorers hidden.

    >>> known_before(torch.ones(1, 3, dtype=torch.bool), 1)
    tensor([[ True,  True, False]])
    """
    known = present.clone()
    known[:, asked + 1 :] = False
    return known
