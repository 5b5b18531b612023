"""Shards: immutable, uncompressed Arrow files of one scorer's rows, memory-mapped on reading."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lf_lightning.errors import StoreError
from lf_lightning.store.cards import ScorerCard
from lf_lightning.store.durable import durable_file
from lf_lightning.store.keys import KEY_BYTES, Keys

CHECKED_BYTES = 64 * 2**20
"""Smaller shards have their checksum verified when they are first read; larger ones when asked (`ScoreStore.verify`)."""


class DamagedShardError(StoreError):
    """A shard that is missing, or whose content is not what was written."""


@dataclass(frozen=True)
class ShardEntry:
    """What the manifest knows of a shard."""

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, eq=False)
class Shard:
    """A shard of n rows; the arrays are views of the mapped file and cannot be written to.

    Attributes:
        keys: (n,) S32.
        probabilities: (n, K) float32 in [0, 1]; 0 in rows that are not `SCORED`.
        status: (n,) uint8, values of `Status`.
    """

    keys: Keys
    probabilities: NDArray[np.float32]
    status: NDArray[np.uint8]
    _batch: pa.RecordBatch

    def rationales(self, rows: NDArray[np.int64]) -> list[str | None]:
        """Returns the rationales of some rows, None where there is none."""
        found = self._batch.column("rationale").take(pa.array(rows)).to_pylist()
        return [None if text is None else text.decode("utf-8", "surrogatepass") for text in found]

    @property
    def has_rationales(self) -> bool:
        """Whether a row has one."""
        column = self._batch.column("rationale")
        return bool(column.null_count < len(column))

    def usage(self, rows: NDArray[np.int64]) -> list[dict[str, Any] | None]:
        """Returns what some rows cost, None where nothing was noted."""
        found = self._batch.column("usage").take(pa.array(rows)).to_pylist()
        return [None if text is None else json.loads(text) for text in found]


def schema(card: ScorerCard) -> pa.Schema:
    """Returns the columns of a scorer's shards.

    A rationale is UTF-8 in a binary column: Arrow's strings cannot hold the lone surrogate of a reply that was cut.
    """
    return pa.schema(
        [
            pa.field("key", pa.binary(KEY_BYTES), nullable=False),
            pa.field(
                "probabilities", pa.list_(pa.field("item", pa.float32(), nullable=False), len(card.labels)), nullable=False
            ),
            pa.field("status", pa.uint8(), nullable=False),
            pa.field("rationale", pa.large_binary()),
            pa.field("usage", pa.large_string()),
        ],
        metadata={"fingerprint": card.fingerprint, "labels": json.dumps(card.labels)},
    )


def write_shard(
    folder: Path,
    file: str,
    card: ScorerCard,
    *,
    keys: Keys,
    probabilities: NDArray[np.float32],
    status: NDArray[np.uint8],
    rationales: Sequence[bytes | None] | None,
    usage: Sequence[str | None] | None,
) -> ShardEntry:
    """Writes n rows to `folder/file` durably and returns its entry for the manifest. Rationales are UTF-8, usage JSON.

    Raises:
        StoreError: The file system refused.
    """
    rows = len(probabilities)
    columns = schema(card)
    values = pa.array(np.ascontiguousarray(probabilities).reshape(-1))
    batch = pa.RecordBatch.from_arrays(
        [
            pa.FixedSizeBinaryArray.from_buffers(pa.binary(KEY_BYTES), rows, [None, pa.py_buffer(np.ascontiguousarray(keys))]),
            pa.FixedSizeListArray.from_arrays(values, type=columns.field("probabilities").type),
            pa.array(status),
            pa.nulls(rows, pa.large_binary()) if rationales is None else pa.array(rationales, pa.large_binary()),
            pa.nulls(rows, pa.large_string()) if usage is None else pa.array(usage, pa.large_string()),
        ],
        schema=columns,
    )
    with durable_file(folder / file) as raw:
        counted = _Counted(raw)
        with pa.ipc.new_file(pa.PythonFile(counted, mode="w"), columns) as writer:
            writer.write_batch(batch)
    return ShardEntry(file, rows, counted.bytes, counted.digest.hexdigest())


def read_shard(folder: Path, entry: ShardEntry, card: ScorerCard, *, thorough: bool = False) -> Shard:
    """Maps a shard into memory and checks it: its size, columns and number of rows, and its checksum if small or `thorough`.

    Raises:
        DamagedShardError: The shard is missing or damaged.
        StoreError: It cannot be read for another reason, such as permissions.
    """
    path = folder / entry.file
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            raise DamagedShardError(_damaged(path, card, f"it has {size} bytes instead of {entry.bytes}"))
        # Closing gives the descriptor back; the mapping lives as long as the arrays that look into it.
        with pa.memory_map(str(path)) as file:
            content = file.read_buffer()
    except FileNotFoundError as error:
        raise DamagedShardError(_damaged(path, card, "it is missing")) from error
    except OSError as error:
        raise StoreError(
            f"The shard {str(path)!r} of scorer {card.title()} cannot be read: {error}. Check the permissions and the disk."
        ) from error
    if (thorough or size < CHECKED_BYTES) and sha256(content).hexdigest() != entry.sha256:
        raise DamagedShardError(_damaged(path, card, "its content has changed (SHA-256)"))
    try:
        reader = pa.ipc.open_file(content)
        batch = reader.get_batch(0)
        same = reader.schema.equals(schema(card), check_metadata=True) and reader.num_record_batches == 1
    except (pa.ArrowException, OSError) as error:
        raise DamagedShardError(_damaged(path, card, f"it is no Arrow file: {error}")) from error
    if not same or batch.num_rows != entry.rows:
        raise DamagedShardError(_damaged(path, card, "its columns or its number of rows are others"))
    keys = np.frombuffer(batch.column("key").buffers()[1], dtype=f"S{KEY_BYTES}", count=entry.rows)
    probabilities = batch.column("probabilities").flatten().to_numpy().reshape(entry.rows, len(card.labels))
    return Shard(keys, probabilities, batch.column("status").to_numpy(), batch)


class _Counted:
    """A file that counts and hashes what is written to it."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes = 0
        self.digest = sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.bytes += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Left to the owner of the file."""


def _damaged(path: Path, card: ScorerCard, problem: str) -> str:
    return (
        f"The shard {str(path)!r} of scorer {card.title()} is damaged: {problem}. Restore that file from a copy, or call "
        "ScoreStore.repair(): it keeps the good shards, and the rows of this one can be scored again (replies that were paid "
        "for are in the response cache)."
    )
