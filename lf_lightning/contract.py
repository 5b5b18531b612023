"""The contract between the stages: what a batch holds, what a system returns, and what a phased fit asks of its data.

Data, systems and callbacks meet here and in the YAML only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypedDict, runtime_checkable

from torch import Tensor
from torch.utils.data import DataLoader

Task = Literal["multiclass", "multilabel"]
Split = Literal["train", "validation", "test", "predict"]


class Batch(TypedDict):
    """One batch of B texts, T tokens, M scorers and K labels."""

    index: Tensor
    """(B,) int64: the row's number within its split."""
    input_ids: Tensor
    """(B, T) int64."""
    attention_mask: Tensor
    """(B, T) int64, 1 on real tokens."""
    labels: Tensor
    """Multi-class: (B,) int64, -1 where unlabelled. Multi-label: (B, K) float32 of 0 and 1, a row of NaN where unlabelled."""
    scores: Tensor
    """(B, M, K) float32 in [0, 1]: the scorers' probabilities; 0 where not scored, which `scored` tells from a real 0."""
    scored: Tensor
    """(B, M) bool: whether scorer m gave a score for the row."""


@dataclass
class Outputs:
    """What every system returns for a batch, whichever system it is.

    Attributes:
        index: (B,) int64, the rows' numbers within their split.
        logits: (B, K) float32, before calibration. Softmax (multi-class) or sigmoid (multi-label) gives probabilities.
        labels: As in `Batch`.
        members: Logits (B, K) float32 of the members and reference combinations by name (`encoder`, each scorer's name,
            `average`, `stack`), so that every table can print the baselines beside the system. A row of NaN: no opinion.
        rationales: (B, T) int64, token ids of the system's reasons, -1 behind the end of each; None: it gives none. The
            system's `rationale_texts` has them in words.
    """

    index: Tensor
    logits: Tensor
    labels: Tensor
    members: dict[str, Tensor] = field(default_factory=dict)
    rationales: Tensor | None = None


class Phase(NamedTuple):
    """A stretch of a fit; which train rows it is served, the system says epoch by epoch.

    Attributes:
        name: As it appears in logs: `encoder`, `fold 1/5`, `head`, ...
        epochs: Number of epochs, at least 1.
    """

    name: str
    epochs: int


@runtime_checkable
class PhasedSystem(Protocol):
    """A system that chooses the train rows epoch by epoch (cross-fitting, co-training)."""

    def rows_of_epoch(self, epoch: int) -> Tensor | None:
        """Returns the train rows (n,) int64 to serve in `epoch` (counted from 0 over the whole fit), or None for all."""
        ...


@runtime_checkable
class RowsData(Protocol):
    """What a phased fit asks of a data module beyond Lightning's hooks."""

    def rows_dataloader(self, split: Split, rows: Tensor | None = None) -> DataLoader[Any]:
        """Returns a loader over `rows` of `split` (all when None) in evaluation order.

        Each rank gets its share, equal in number on every rank: short shares repeat rows, so de-duplicate by `index`.
        """
        ...

    def number_of_rows(self, split: Split) -> int:
        """Returns the number of rows of a split, over all ranks."""
        ...

    def folds(self, k: int, seed: int) -> Tensor:
        """Returns (n,) int64, the fold 0..k-1 of each train row; rows with one text share a fold."""
        ...

    def scores_and_labels(self, split: Split) -> tuple[Tensor, Tensor, Tensor]:
        """Returns `scores` (n, M, K), `scored` (n, M) and `labels` of a whole split, as in `Batch`, on the CPU."""
        ...
