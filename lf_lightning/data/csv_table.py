"""CSV and TSV, read exactly: every cell stays text, and only a newline ends a row."""

from __future__ import annotations

import csv
import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd

from lf_lightning.errors import DataError

_limit = threading.Lock()


def parse_separated(content: str, separator: str, name: str) -> pd.DataFrame:
    r"""Returns the table in `content`: a header and rows of as many cells.

    `yes`, `null`, `1`, `NA` and an empty cell stay the text that they are. A row ends at `\n` or `\r\n` outside quotes. A bare
    `\r` is part of its cell, quoted or not, as writers leave it there unquoted; only a file without any `\n` has rows that end
    at `\r`. NUL is a character like any other. Blank lines are skipped.

    Args:
        content: The decoded file.
        separator: One character between cells.
        name: The file's name, for error messages.

    Raises:
        DataError: No header, two columns of one name, a quote that never ends, or a row with another number of cells.
    """
    if "\n" not in content:
        content = content.replace("\r", "\n")
    stand_ins = _unused_characters(content, 2)
    # The csv module ends a row at an unquoted \r, and before Python 3.11 refuses NUL.
    lines = _hide_bare_returns(content, stand_ins[0]).replace("\0", stand_ins[1])
    rows = _rows(lines, separator, name)
    for row in rows:
        for place, cell in enumerate(row):
            if stand_ins[0] in cell or stand_ins[1] in cell:
                row[place] = cell.replace(stand_ins[0], "\r").replace(stand_ins[1], "\0")
    if not rows:
        raise DataError(f"{name} is empty. It needs a header row and at least the text column.")
    header, *body = rows
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        raise DataError(f"{name} has two columns named {repeated[0]!r}. Rename one of them.")
    for number, row in enumerate(body):
        if len(row) != len(header):
            raise DataError(
                f"{name}: row {number} has {len(row)} cells where the header has {len(header)}: {row!r:.200}. "
                f"Quote cells that contain {separator!r}, a quote or a newline."
            )
    columns = list(zip(*body, strict=True)) if body else [()] * len(header)
    # object, because the default string type cannot hold lone surrogates
    return pd.DataFrame({column: pd.Series(list(cells), dtype=object) for column, cells in zip(header, columns, strict=True)})


@contextmanager
def fields_of_any_length() -> Iterator[None]:
    """Lets the csv module read cells of any length meanwhile; its limit is one for all threads."""
    with _limit:
        before = csv.field_size_limit(sys.maxsize)  # the default refuses texts over 128 KiB
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _rows(lines: str, separator: str, name: str) -> list[list[str]]:
    with fields_of_any_length():
        try:
            return [row for row in csv.reader(io.StringIO(lines, newline="\n"), delimiter=separator, strict=True) if row]
        except csv.Error as error:
            raise DataError(
                f"{name} is not valid with separator {separator!r}: {error}. A cell that contains quotes is quoted as a whole "
                'and doubles them ("she said ""no"""). Way out: write the table with pandas or a csv library, or as JSONL.'
            ) from error


def _hide_bare_returns(content: str, stand_in: str) -> str:
    """Replaces every carriage return that no newline follows."""
    return "\r\n".join(part.replace("\r", stand_in) for part in content.split("\r\n"))


def _unused_characters(content: str, count: int) -> list[str]:
    """Returns private-use characters that do not occur in `content`."""
    found = []
    for code in range(0xE000, 0xF900):
        if chr(code) not in content:
            found.append(chr(code))
            if len(found) == count:
                return found
    raise DataError("The table uses every private-use character of Unicode. Way out: store it as JSONL or Parquet.")
