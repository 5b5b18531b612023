"""Tables of any size, part by part: which rows there are, found in one pass of bounded memory, and each part read by itself.

A part is a run of rows of one file. Where a Parquet file's rows lie it tells itself; a CSV, TSV or JSONL file is read once to
find where each part begins, so that any process can then go there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import pandas as pd

from lf_lightning.data.csv_stream import SeparatedRows, count_to
from lf_lightning.data.locations import is_local, opened, reading
from lf_lightning.data.tables import UNREADABLE_PARQUET, parse_jsonl
from lf_lightning.errors import ConfigurationError, DataError

FORMATS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".parquet")
_PARQUET_ROWS = 4096
"""Rows of a Parquet file in memory beside the part."""


class Shard(NamedTuple):
    """A file of a table.

    Attributes:
        file: Path or URL.
        name: Its path below the folder that was named, without the format; unlike that of every other file.
        size: Bytes.
    """

    file: str
    name: str
    size: int


class Part(NamedTuple):
    """A run of rows of one file.

    Attributes:
        shard: The file.
        first: Number of its first row within the file.
        rows: Number of rows.
        offset: Byte at which they begin; 0 in Parquet.
    """

    shard: Shard
    first: int
    rows: int
    offset: int


def shards_of(source: str, argument: str = "source") -> list[Shard]:
    """Returns the files of a table in alphabetical order.

    Args:
        source: A file; a folder, with those of `FORMATS` in it, at any depth, apart from names that begin with `_` or `.`; or a
            pattern such as `folder/*.parquet`. Path or URL.
        argument: The argument that held it, for error messages.

    Raises:
        ConfigurationError: There is none, or two have the same name but for the format.
    """
    fs, path = opened(source, argument)
    try:
        if any(sign in path for sign in "*?["):
            root, found = path.rpartition("/")[0].partition("*")[0], fs.glob(path, detail=True)
        elif fs.isdir(path):
            root, found = path, fs.find(path, detail=True)
        elif fs.isfile(path):
            root, found = path.rpartition("/")[0], {path: fs.info(path)}
        else:
            raise ConfigurationError(f"{argument}={source!r}: there is no such file or folder.")
    except OSError as error:
        raise ConfigurationError(f"{argument}={source!r} cannot be listed: {' '.join(str(error).split())[:200]}.") from error
    shards: dict[str, Shard] = {}
    for file, info in sorted(found.items()):
        inside = file.removeprefix(root).lstrip("/")
        hidden = any(part.startswith(("_", ".")) for part in PurePosixPath(inside).parts)
        suffix = _format_of(file)
        if info["type"] == "directory" or hidden or suffix is None:
            continue
        name = inside[: -len(suffix)]
        if name in shards:
            raise ConfigurationError(f"{argument}={source!r} holds {name!r} in two formats. Way out: a pattern.")
        shards[name] = Shard(file if is_local(fs) else str(fs.unstrip_protocol(file)), name, int(info["size"]))
    if not shards:
        raise ConfigurationError(f"{argument}={source!r} holds no table. Known formats: {', '.join(FORMATS)}.")
    return list(shards.values())


def parts_of(shard: Shard, rows: int) -> Iterator[Part]:
    """Yields the parts of a file, as they are found.

    Args:
        shard: The file.
        rows: Of each part but the last.

    Raises:
        DataError: The file cannot be read as its format.
    """
    with reading(shard.file, "source") as stream:
        if _format_of(shard.file) == ".parquet":
            for first in range(0, total := sum(_parquet(stream, shard)[1]), rows):
                yield Part(shard, first, min(rows, total - first), 0)
            return
        separator = _separator(shard)
        steps = _json_steps(stream, rows) if separator is None else count_to(SeparatedRows(stream, separator, shard.file), rows)
        for first, offset, count in steps:
            yield Part(shard, first, count, offset)


def read_part(part: Part, wanted: Sequence[str]) -> pd.DataFrame:
    """Returns a part's rows; of Parquet the columns asked for, of other formats all.

    Args:
        part: Of `parts_of`.
        wanted: The columns that are needed.

    Raises:
        ConfigurationError: There is no such file any more.
        DataError: It cannot be read as its format, or has fewer rows than before.
    """
    shard = part.shard
    with reading(shard.file, "source") as stream:
        if _format_of(shard.file) == ".parquet":
            table = _parquet_rows(stream, part, wanted)
        elif (separator := _separator(shard)) is None:
            stream.seek(part.offset)
            lines = [line for _, line in zip(range(part.rows), _json_lines(stream), strict=False)]
            table = parse_jsonl(_decoded(b"".join(lines), part), f"{shard.file}, from row {part.first} on")
        else:
            rows = SeparatedRows(stream, separator, shard.file)
            rows.jump(part.offset, part.first)
            cells = zip(*rows.take(part.rows), strict=True)
            columns = {name: pd.Series(list(column), dtype=object) for name, column in zip(rows.columns, cells, strict=True)}
            table = pd.DataFrame(columns)
    if len(table) != part.rows:
        raise DataError(f"{shard.file} has changed: from row {part.first} on it has {len(table)} rows, not {part.rows}.")
    return table


def _format_of(file: str) -> str | None:
    return next((suffix for suffix in sorted(FORMATS, key=len, reverse=True) if file.lower().endswith(suffix)), None)


def _separator(shard: Shard) -> str | None:
    suffix = (_format_of(shard.file) or "").removesuffix(".gz")
    return {".csv": ",", ".tsv": "\t"}.get(suffix)


def _json_lines(stream: BinaryIO) -> Iterator[bytes]:
    return (line for line in stream if line.strip())


def _json_steps(stream: BinaryIO, rows: int) -> Iterator[tuple[int, int, int]]:
    first = offset = place = count = 0
    for line in stream:
        if line.strip():
            if count == rows:
                yield first, offset, count
                first, offset, count = first + count, place, 0
            count += 1
        place += len(line)
    if count:
        yield first, offset, count


def _decoded(raw: bytes, part: Part) -> str:
    try:
        return raw.decode("utf-8-sig" if part.offset == 0 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{part.shard.file} is not UTF-8 (behind row {part.first}). Save it as UTF-8.") from error


def _parquet(stream: BinaryIO, shard: Shard) -> tuple[Any, list[int]]:
    """A file of Parquet, and the rows of each of its row groups."""
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(stream)
        told = file.metadata
        groups = [told.row_group(number).num_rows for number in range(told.num_row_groups)]
        if told.num_rows != sum(groups) or min(groups, default=0) < 0:
            raise ValueError(f"it tells of {told.num_rows} rows, and its row groups of {sum(groups)}")
    except UNREADABLE_PARQUET as error:
        raise _unreadable(shard, error) from error
    return file, groups


def _parquet_rows(stream: BinaryIO, part: Part, columns: Sequence[str]) -> pd.DataFrame:
    import pyarrow as pa

    file, rows = _parquet(stream, part.shard)
    groups: list[int] = []
    skip = before = 0
    for number, here in enumerate(rows):
        if before + here > part.first and before < part.first + part.rows:
            skip = skip if groups else part.first - before
            groups.append(number)
        before += here
    kept, left = [], part.rows
    try:
        known = [name for name in columns if name in file.schema_arrow.names]
        for batch in file.iter_batches(_PARQUET_ROWS, row_groups=groups, columns=known or None):
            taken = batch.slice(min(skip, batch.num_rows), left)
            skip = max(0, skip - batch.num_rows)
            if taken.num_rows:
                kept.append(taken)
                left -= taken.num_rows
            if not left:
                break
        table: pd.DataFrame = pa.Table.from_batches(kept).to_pandas()
        return table.reset_index(drop=True)
    except UNREADABLE_PARQUET as error:
        raise _unreadable(part.shard, error) from error


def _unreadable(shard: Shard, error: BaseException) -> DataError:
    return DataError(f"{shard.file} cannot be read as Parquet: {' '.join(str(error).split())[:200]}.")
