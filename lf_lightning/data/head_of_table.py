"""The first rows of a table, without reading the rest of a large file. Imports no torch."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lf_lightning.data.csv_table import parse_separated
from lf_lightning.data.tables import HUB, UNREADABLE_PARQUET, parse_jsonl, read_table
from lf_lightning.errors import DataError
from lf_lightning.packaged import locate

BYTES = 32 << 20
"""Read of a text file at most."""
ROWS = 200_000
"""Rows of a Parquet file, and files of a folder, at most."""


@dataclass(frozen=True)
class Head:
    """The first rows of a table.

    Attributes:
        source: As it was given.
        table: n rows.
        whole: Whether these are all rows.
    """

    source: str
    table: pd.DataFrame
    whole: bool


def read_head(source: str, argument: str = "source", most: int = BYTES) -> Head:
    """Returns the first rows of a table, all of a small one.

    Args:
        source: File or folder; see `read_table`.
        argument: The argument that held it, for error messages.
        most: Bytes of a text file that are read.

    Raises:
        ConfigurationError: There is no such file, or the format is not known.
        DataError: The file is there but cannot be read as its format.
    """
    path = Path(source) if source.startswith(HUB) else Path(locate(source))
    name = path.name.removesuffix(".gz").lower()
    if path.is_file() and name.endswith((".csv", ".tsv", ".jsonl", ".ndjson")):
        content, whole = _start_of(path, most)
        if not whole:
            content = _whole_rows(content, quoted=name.endswith((".csv", ".tsv")))
            if not content:
                raise DataError(f"{path.name}: its first {most >> 20} MB are one row. It is no table of texts.")
        if name.endswith((".jsonl", ".ndjson")):
            return Head(source, parse_jsonl(content, path.name), whole)
        return Head(source, parse_separated(content, "\t" if name.endswith(".tsv") else ",", path.name), whole)
    if path.is_file() and name.endswith(".parquet") and path.suffix != ".gz":
        return _parquet(source, path)
    return Head(source, read_table(source, argument), whole=True)


def _start_of(path: Path, most: int) -> tuple[str, bool]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            raw = stream.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name} cannot be read: {error}.") from error
    try:
        return raw[:most].decode("utf-8-sig"), len(raw) <= most
    except UnicodeDecodeError as error:
        if len(raw) > most and error.start >= most - 3:  # the cut went through a character
            return raw[: error.start].decode("utf-8-sig"), False
        raise DataError(f"{path.name} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from error


def _whole_rows(content: str, quoted: bool) -> str:
    """Cuts off what follows the last newline, or, with quotes, the last newline that is outside of quotes."""
    end = content.rfind("\n")
    if quoted:
        inside = content.count('"', 0, end) % 2  # a quote within quotes is doubled, so an odd count is within them
        while end >= 0 and inside:
            before = content.rfind("\n", 0, end)
            inside = (inside + content.count('"', max(before, 0), end)) % 2
            end = before
    return content[: end + 1]


def _parquet(source: str, path: Path) -> Head:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            total = file.metadata.num_rows
            batches, rows = [], 0
            for batch in file.iter_batches():
                batches.append(batch)
                rows += batch.num_rows
                if rows >= ROWS:
                    break
            table = pa.Table.from_batches(batches, file.schema_arrow).to_pandas().reset_index(drop=True)
    except UNREADABLE_PARQUET as error:
        raise DataError(f"{path.name} cannot be read as Parquet: {' '.join(str(error).split())[:200]}.") from error
    return Head(source, table, whole=rows >= total)
