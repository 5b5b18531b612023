"""From a split to batches: padded to the longest text of the batch, without a Python loop over rows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lf_lightning.contract import Batch
from lf_lightning.data.sampling import LengthGroupedBatchSampler, OrderSampler
from lf_lightning.errors import ConfigurationError


class TokenizedRows(Dataset[Batch]):
    """A split of n rows in memory; an item is a whole batch.

    Args:
        ids: (total,) int32, the token ids of all rows, one after the other.
        offsets: (n + 1,) int64, where each row begins.
        labels: Labels of the n rows, as in `Batch`.
        scores: (n, M, K) float32.
        scored: (n, M) bool.
        pad: The id that fills up a batch.
        multiple_of: Batches are padded to a multiple of so many tokens.
    """

    def __init__(
        self,
        ids: NDArray[np.int32],
        offsets: NDArray[np.int64],
        labels: Tensor,
        scores: Tensor,
        scored: Tensor,
        pad: int,
        multiple_of: int = 1,
    ) -> None:
        self.ids = ids
        self.starts = offsets[:-1]
        self.lengths = np.diff(offsets)
        self.labels = labels
        self.scores = scores
        self.scored = scored
        self.pad = pad
        self.multiple_of = multiple_of

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, rows: int | Sequence[int] | NDArray[np.int64]) -> Batch:
        """Returns the batch of `rows`."""
        index = np.atleast_1d(np.asarray(rows, dtype=np.int64))
        lengths = self.lengths[index]
        width = max(-(-int(lengths.max()) // self.multiple_of) * self.multiple_of, 1)
        places = np.arange(width)
        real = places < lengths[:, None]
        input_ids = np.full(real.shape, self.pad, dtype=np.int64)
        input_ids[real] = self.ids[(self.starts[index, None] + places)[real]]
        number = torch.from_numpy(index)
        return {
            "index": number,
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(real.astype(np.int64)),
            "labels": self.labels[number],
            "scores": self.scores[number],
            "scored": self.scored[number],
        }

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        """Returns the batch of `rows`; a `DataLoader` calls this one once a batch."""
        return self[rows]


class TrainLoader(DataLoader[Batch]):
    """A loader whose sampler is a function of seed and epoch and leaves out what a resumed epoch has consumed.

    So it has no state to save; that it offers the two methods tells Lightning that resuming within an epoch is exact.
    """

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing: the trainer's own progress says where to go on."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Does nothing."""


def train_loader(rows: TokenizedRows, sampler: LengthGroupedBatchSampler, num_workers: int) -> TrainLoader:
    """Returns a loader of the sampler's batches."""
    return TrainLoader(rows, batch_size=None, sampler=sampler, **_options(num_workers))


def evaluation_loader(rows: TokenizedRows, order: NDArray[np.int64], batch_size: int, num_workers: int) -> DataLoader[Batch]:
    """Returns a loader over `order`, `batch_size` rows at a time."""
    return DataLoader(rows, batch_size=batch_size, sampler=OrderSampler(order), **_options(num_workers))


def _options(num_workers: int) -> dict[str, Any]:
    return {
        "num_workers": num_workers,
        "collate_fn": _as_it_is,
        "pin_memory": torch.cuda.is_available(),
        # Without its own generator every new iterator draws a seed from torch's global one, and a resumed run would differ.
        "generator": torch.Generator().manual_seed(0),
    }


def _as_it_is(batch: Batch) -> Batch:
    return batch


def resume_point(fit_loop: Any) -> tuple[int, int]:
    """Returns the epoch whose batches Lightning asks for next, and how many of them were consumed before a restart.

    Lightning asks for the loader before it corrects its counters, so this follows `_FitLoop.reset` and
    `_TrainingEpochLoop.reset` (lightning 2.6): a batch counts as consumed once its step is done (`processed`), also when the
    checkpoint was written in its `on_train_batch_end` (`completed` lags then); one that was interrupted is served again.

    If that was the last batch of its epoch, Lightning begins the next one only if this has no more batches than the finished
    one, and otherwise leaves its first batches out. So its counter is moved to where the comparison comes out right.

    Args:
        fit_loop: The trainer's fit loop.
    """
    epochs, batches = fit_loop.epoch_progress.current, fit_loop.epoch_loop.batch_progress
    epoch = int(epochs.processed)
    if not fit_loop.restarting:
        return epoch, 0
    current = batches.current
    in_batch_end = current.processed == current.ready and current.completed == current.processed - 1
    if in_batch_end and batches.is_last_batch:
        current.completed = sys.maxsize
        return (epoch + 1 if epochs.started > epoch else epoch), 0
    if epochs.started <= epoch:
        return epoch, 0
    return epoch, int(current.ready if in_batch_end else current.completed)


def ranks(trainer: Any) -> tuple[int, int]:
    """Returns this process's rank and the number of processes.

    Args:
        trainer: The Lightning trainer, or None outside of one.

    Raises:
        ConfigurationError: The trainer would put its own sampler in the place of ours.
    """
    if trainer is not None:
        if trainer.world_size > 1 and trainer._accelerator_connector.use_distributed_sampler:
            raise ConfigurationError(
                "trainer.use_distributed_sampler=True would replace the data module's sampler, which shares the rows among the "
                "processes itself. Way out: trainer.use_distributed_sampler: false."
            )
        return trainer.global_rank, trainer.world_size
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
