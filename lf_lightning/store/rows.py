"""All the rows of one scorer: its shards, one after the other, and the index over their keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lf_lightning.store.cards import ScorerCard, Status
from lf_lightning.store.keys import KeyIndex, Keys
from lf_lightning.store.manifest import ScorerEntry
from lf_lightning.store.shards import Shard, ShardEntry, read_shard

Probabilities = NDArray[np.float32]
Statuses = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """All n rows of one scorer in the order of writing, one for each text. Read-only views of the mapped file where it is one.

    Attributes:
        card: The scorer.
        keys: (n,) S32, as `text_keys` gives them.
        probabilities: (n, K) float32 in [0, 1]; 0 in rows that are not `SCORED`.
        status: (n,) uint8, values of `Status`.
    """

    card: ScorerCard
    keys: Keys
    probabilities: NDArray[np.float32]
    status: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ScorerRows:
    """The rows of a scorer, numbered through all of its shards; immutable.

    Attributes:
        card: Whose they are.
        entries: The shards as the manifest lists them.
        shards: The same, mapped into memory.
        starts: (number of shards + 1,) int64, where each shard's rows begin, and how many there are in all.
        index: From key to row; where a key has two rows, the later one.
    """

    card: ScorerCard
    entries: tuple[ShardEntry, ...]
    shards: tuple[Shard, ...]
    starts: NDArray[np.int64]
    index: KeyIndex

    @classmethod
    def none_of(cls, card: ScorerCard) -> ScorerRows:
        """Returns the rows of a scorer that has none yet."""
        return cls(card, (), (), np.zeros(1, dtype=np.int64), KeyIndex())

    def brought_up_to(self, entry: ScorerEntry, folder: Path) -> ScorerRows:
        """Returns the rows that the manifest now lists, reading only shards that are new.

        Raises:
            StoreError: A shard is missing or damaged.
        """
        if entry.shards == self.entries:
            return self
        if entry.shards[: len(self.entries)] != self.entries:
            return ScorerRows.none_of(entry.card).brought_up_to(entry, folder)
        fresh = [read_shard(folder, shard, self.card) for shard in entry.shards[len(self.entries) :]]
        shards = (*self.shards, *fresh)
        starts = np.cumsum([0, *(len(shard.keys) for shard in shards)], dtype=np.int64)
        index = self.index.extended(np.concatenate([shard.keys for shard in fresh]), int(self.starts[-1]))
        return ScorerRows(self.card, entry.shards, shards, starts, index)

    def by_shard(self, rows: NDArray[np.int64]) -> Iterator[tuple[Shard, NDArray[np.int64], NDArray[np.int64]]]:
        """Yields each shard that holds some of `rows` (n,), the positions in `rows` it answers, and its own rows for them."""
        order = np.argsort(rows, kind="stable")
        edges = np.searchsorted(rows[order], self.starts)
        for number in np.flatnonzero(np.diff(edges)):
            positions = order[edges[number] : edges[number + 1]]
            yield self.shards[number], positions, rows[positions] - self.starts[number]

    def read(self, rows: NDArray[np.int64]) -> tuple[Probabilities, Statuses]:
        """Returns probabilities (n, K) and status (n,) of `rows` (n,)."""
        probabilities = np.empty((len(rows), len(self.card.labels)), dtype=np.float32)
        status = np.empty(len(rows), dtype=np.uint8)
        for shard, positions, own in self.by_shard(rows):
            probabilities[positions] = shard.probabilities[own]
            status[positions] = shard.status[own]
        return probabilities, status

    def counts(self) -> dict[Status, int]:
        """Returns how many texts there are of each status."""
        counts = np.zeros(len(Status), dtype=np.int64)
        for shard, _, own in self.by_shard(self.index.rows):
            counts += np.bincount(shard.status[own], minlength=len(Status))
        return {status: int(counts[status]) for status in Status if status is not Status.ABSENT}

    def table(self) -> ScoreTable:
        """Returns all rows that count, in the order of writing."""
        if len(self.shards) == 1 and len(self.index) == self.starts[-1]:
            shard = self.shards[0]
            return ScoreTable(self.card, shard.keys, shard.probabilities, shard.status)
        order = np.argsort(self.index.rows, kind="stable")
        probabilities, status = self.read(self.index.rows[order])
        table = ScoreTable(self.card, self.index.keys[order], probabilities, status)
        for array in (table.keys, probabilities, status):
            array.flags.writeable = False
        return table
