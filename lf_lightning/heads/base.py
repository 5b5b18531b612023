"""What every fusion head is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor, nn

from lf_lightning.contract import Task


class Evidence(NamedTuple):
    """What the members said of n labelled rows that none of them was fitted on.

    Attributes:
        members: (n, M + 1, K) opinions; the encoder first.
        present: (n, M + 1) bool.
        labels: (n,) int64 or (n, K) float32, all labelled.
        representation: (n, d) the encoder's vectors, or None.
        shift: (n, K), added to a head's logits before they are compared with the labels; None: zeros. It is how much more
            often, as a logarithm, a class is met among rows like this one than among the texts that the head is for.
    """

    members: Tensor
    present: Tensor
    labels: Tensor
    representation: Tensor | None = None
    shift: Tensor | None = None

    def of(self, rows: Tensor) -> Evidence:
        """Returns the evidence of some rows, a mask (n,) or numbers."""
        return self._each(lambda part: part[rows])

    def cpu(self) -> Evidence:
        """Returns the evidence on the CPU."""
        return self._each(Tensor.cpu)

    def shifted(self) -> Tensor:
        """Returns each member's opinions (n, M + 1, K) as it would give them of rows drawn like these (see `shift`)."""
        return self.members if self.shift is None else (self.members + self.shift.unsqueeze(1)).log_softmax(-1)

    def _each(self, act: Callable[[Tensor], Tensor]) -> Evidence:
        vectors, shift = (None if part is None else act(part) for part in (self.representation, self.shift))
        return Evidence(act(self.members), act(self.present), act(self.labels), vectors, shift)


class FusionHead(nn.Module, ABC):
    """Combines the encoder's and the scorers' opinions of a text into K logits.

    Subclass it, name the subclass by `class_path` in the YAML, and it trains, calibrates and reports like ours.
    A subclass takes these four positions, then its own keyword arguments.

    Args:
        num_labels: K.
        num_members: M + 1: the encoder and M scorers.
        dim: Width d of the encoder's vectors.
        task: Multi-class or multi-label.
    """

    def __init__(self, num_labels: int, num_members: int, dim: int, task: Task) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.num_members = num_members
        self.dim = dim
        self.task: Task = task

    @abstractmethod
    def forward(
        self, members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"], representation: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b k"]:
        """Returns fused logits (B, K).

        Args:
            members: (B, M + 1, K) opinions: log-probabilities (multi-class) or log-odds (multi-label); the encoder first.
            present: (B, M + 1), which members have an opinion of the row; the encoder always has.
            representation: (B, d) the encoder's vectors.
        """

    def start(self, evidence: Evidence) -> Tensor | None:
        """Fits what has a closed or convex solution before the head's epochs begin; by default nothing.

        Args:
            evidence: Out-of-sample opinions with labels.

        Returns:
            (n, K) logits of the evidence, each row's as the head would give them (without `evidence.shift`) had it not been
            fitted on that row, so that the calibrator can learn from these rows, too; None where nobody knows them: then it is
            called again, with the train rows alone, and validation rows are left to the calibrator.
        """
        return None
