"""Which rows make which batch: a pure function of seed and epoch in training, a fixed order in evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler, SequentialSampler

Rows = NDArray[np.int64]
_MEGABATCHES = 50


def training_batches(
    lengths: NDArray[Any],
    rows: Rows,
    batch_size: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    grouped: bool = True,
) -> list[Rows]:
    """Returns the batches of one rank in one epoch: disjoint over ranks, equal in number and, batch by batch, in size.

    Rows are shuffled and cut into megabatches of 50 global batches (fewer for short data, so that there are at least 4 where
    the rows suffice); each is sorted by length and cut into global batches of `world * batch_size` rows, which are shuffled and
    dealt to the ranks. So the rows of a batch are of similar length, on every rank, and yet meet others in each epoch.
    When the rows do not divide by `world`, as many as are lacking come twice.

    Args:
        lengths: (N,) tokens of every row of the split.
        rows: (n,) the rows to serve, n > 0.
        batch_size: Rows in a batch of one rank; the one that holds the remainder is smaller.
        seed: Seeds the order.
        epoch: Each epoch has its own order.
        rank: This process, from 0.
        world: Number of processes.
        grouped: Whether rows of similar length meet; if not, the order is a plain shuffle.

    Returns:
        ceil(n / (world * batch_size)) arrays of row numbers.
    """
    generator = np.random.default_rng([seed, epoch])
    order = rows[generator.permutation(len(rows))]
    if len(order) % world:
        order = np.concatenate([order, np.resize(order, world - len(order) % world)])
    step = batch_size * world
    if grouped:
        megabatch = step * max(1, min(_MEGABATCHES, len(order) // (step * 4)))
        order = order[np.lexsort((-lengths[order], np.arange(len(order)) // megabatch))]
    starts = generator.permutation(np.arange(0, len(order), step))
    return [np.array_split(order[start : start + step], world)[rank] for start in starts]


def evaluation_order(lengths: NDArray[Any], rows: Rows, rank: int = 0, world: int = 1, grouped: bool = True) -> Rows:
    """Returns the rows of one rank in evaluation order, equally many on every rank.

    Args:
        lengths: (N,) tokens of every row of the split.
        rows: (n,) the rows to serve, n > 0.
        rank: This process, from 0.
        world: Number of processes.
        grouped: Whether long rows come first, which keeps padding small; if not, rows keep their order.

    Returns:
        (ceil(n / world),) row numbers. When n does not divide by `world` some rows come twice: de-duplicate by `index`.
    """
    order = rows[np.argsort(-lengths[rows], kind="stable")] if grouped else rows
    if len(order) % world:
        order = np.concatenate([order, np.resize(order, world - len(order) % world)])
    return order[rank::world]


class LengthGroupedBatchSampler(Sampler[Any]):
    """Serves `training_batches`, epoch after epoch, and can leave out the first batches of the epoch that it resumes in.

    Its length is that of the whole epoch, also when some batches are left out.

    Args:
        lengths: (N,) tokens of every row of the split.
        rows: (n,) the rows to serve.
        batch_size: Rows in a batch of one rank.
        seed: Seeds the order.
        epoch: The epoch to begin with.
        skip: Batches of that epoch that were consumed before a restart.
        rank: This process, from 0.
        world: Number of processes.
        grouped: Whether rows of similar length meet.
    """

    def __init__(
        self,
        lengths: NDArray[Any],
        rows: Rows,
        batch_size: int,
        seed: int,
        epoch: int = 0,
        skip: int = 0,
        rank: int = 0,
        world: int = 1,
        grouped: bool = True,
    ) -> None:
        self.lengths = lengths
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.skip = skip
        self.rank = rank
        self.world = world
        self.grouped = grouped

    def set_epoch(self, epoch: int) -> None:
        """Moves to `epoch`; Lightning calls it at the start of each. Another epoch than the resumed one is served whole."""
        if epoch != self.epoch:
            self.epoch, self.skip = epoch, 0

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / (self.batch_size * self.world))

    def __iter__(self) -> Iterator[Rows]:
        yield from training_batches(
            self.lengths, self.rows, self.batch_size, self.seed, self.epoch, self.rank, self.world, self.grouped
        )[self.skip :]


class OrderSampler(SequentialSampler):
    """Serves rows in a given order. It never shuffles, which its base class tells Lightning (`overfit_batches` keeps it).

    Args:
        order: (n,) row numbers.
    """

    def __init__(self, order: Rows) -> None:
        super().__init__(order)
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order.tolist())
