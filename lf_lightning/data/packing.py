"""Which rows share a sequence: bins of at most so many tokens, filled anew in each epoch; a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from lf_lightning.data.sampling import Rows

_WINDOW = 512
"""Shuffled rows among which those that fit together are looked for: short rows meet long ones, and others in each epoch."""


def pack(lengths: NDArray[Any], rows: Rows, capacity: int) -> list[list[int]]:
    """Returns bins of rows with at most `capacity` tokens each: longest first, a row goes into the first bin with room for it.

    >>> pack(np.array([3, 5, 2, 6]), np.arange(4), 8)
    [[3, 2], [1, 0]]

    Args:
        lengths: (N,) tokens of every row, none above the capacity.
        rows: (n,) the rows to pack.
        capacity: Tokens of a bin.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for row in rows[np.argsort(-lengths[rows], kind="stable")].tolist():
        need = int(lengths[row])
        place = next((number for number, left in enumerate(room) if left >= need), len(bins))
        if place == len(bins):
            bins.append([])
            room.append(capacity)
        bins[place].append(row)
        room[place] -= need
    return bins


def packed_batches(
    lengths: NDArray[Any],
    capacity: int | None,
    batch_size: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
) -> list[list[list[int]]]:
    """Returns one rank's batches of one epoch, each a list of bins of rows: equal in number on all ranks.

    Bins lie beside bins of a similar number of tokens, so that batches need little padding. Where the bins do not divide by
    the ranks, some come twice.

    Args:
        lengths: (n,) tokens of every row.
        capacity: Tokens of a bin; None: one row in each.
        batch_size: Bins in a batch of one rank; one batch may have fewer.
        seed: Seeds the order.
        epoch: Each epoch has its own order.
        rank: This process, from 0.
        world: Number of processes.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    if capacity is None:
        bins = [[row] for row in order.tolist()]
    else:
        windows = [order[start : start + _WINDOW] for start in range(0, len(order), _WINDOW)]
        bins = [packed for window in windows for packed in pack(lengths, window, capacity)]
        bins = [bins[number] for number in generator.permutation(len(bins))]
    step = batch_size * world
    mega = 50 * step
    sizes = [int(lengths[packed].sum()) for packed in bins]
    places = sorted(range(len(bins)), key=lambda place: (place // mega, -sizes[place]))
    places += [places[number % len(bins)] for number in range(-len(places) % world)]
    starts = generator.permutation(np.arange(0, len(places), step)).tolist()
    return [[bins[place] for place in places[start : start + step][rank::world]] for start in starts]


class PackedBatchSampler(Sampler[Any]):
    """Serves `packed_batches`, without the first ones of an epoch that is resumed; its length is that of the whole epoch.

    Args:
        lengths: (n,) tokens of every row.
        capacity: Tokens of a bin; None: one row in each.
        batch_size: Bins in a batch of one rank.
        seed: Seeds the order.
        epoch: The epoch to serve.
        skip: Batches of it that were consumed before a restart.
        rank: This process, from 0.
        world: Number of processes.
    """

    def __init__(
        self,
        lengths: NDArray[Any],
        capacity: int | None,
        batch_size: int,
        seed: int,
        epoch: int = 0,
        skip: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.batches: Sequence[Any] = packed_batches(lengths, capacity, batch_size, seed, epoch, rank, world)
        self.skip = skip

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        yield from self.batches[self.skip :]
