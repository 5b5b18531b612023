"""CSV and TSV row by row, in bounded memory and from any row on: the same cells as `csv_table.parse_separated` reads."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from lf_lightning.data.csv_table import fields_of_any_length
from lf_lightning.errors import DataError

_ESCAPE = "\ue000"
_HIDDEN = {_ESCAPE: "e", "\r": "r", "\0": "0"}
_SHOWN = {short: character for character, short in _HIDDEN.items()}
_TO_HIDE = re.compile(f"[{_ESCAPE}\r\0]")
_TO_SHOW = re.compile(f"{_ESCAPE}([er0])")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SeparatedRows:
    """The rows of a file, each read when it is asked for.

    Args:
        stream: The file, at its beginning.
        separator: One character between cells.
        name: The file's name, for error messages.

    Attributes:
        columns: The header.
        offset: Bytes read so far: where the next row begins.
        row: The next row's number.

    Raises:
        DataError: No header, two columns of one name, bytes that are not UTF-8, or rows that end at a carriage return.
    """

    def __init__(self, stream: BinaryIO, separator: str, name: str) -> None:
        self.offset = self.row = 0
        self.columns: list[str] = []
        self._stream, self._separator, self._name = stream, separator, name
        self._reader = self._read_on()
        header = self._next(1)
        if not header:
            raise DataError(f"{name} is empty. It needs a header row and at least the text column.")
        self.columns = header[0]
        repeated = sorted({column for column in self.columns if self.columns.count(column) > 1})
        if repeated:
            raise DataError(f"{name} has two columns named {repeated[0]!r}. Rename one of them.")

    def jump(self, offset: int, row: int) -> None:
        """Goes to a row, of which `offset` and `row` were noted before."""
        self._stream.seek(offset)
        self.offset, self.row = offset, row
        self._reader = self._read_on()

    def take(self, count: int) -> list[list[str]]:
        """Returns the next rows, fewer where the file ends.

        Raises:
            DataError: A row with another number of cells, a quote that never ends, or bytes that are not UTF-8.
        """
        rows = self._next(count)
        for number, row in enumerate(rows, start=self.row):
            if len(row) != len(self.columns):
                raise DataError(
                    f"{self._name}: row {number} has {len(row)} cells where the header has {len(self.columns)}: {row!r:.200}. "
                    f"Quote cells that contain {self._separator!r}, a quote or a newline."
                )
        self.row += len(rows)
        return rows

    def _next(self, count: int) -> list[list[str]]:
        with fields_of_any_length():
            try:
                return list(islice(self._reader, count))
            except csv.Error as error:
                raise DataError(
                    f"{self._name} is not valid with separator {self._separator!r}, behind row {self.row}: {error}. Way out: "
                    "write the table with pandas or a csv library, or as JSONL."
                ) from error

    def _read_on(self) -> Iterator[list[str]]:
        for row in csv.reader(self._lines(), delimiter=self._separator, strict=True):
            if row:
                yield [_TO_SHOW.sub(lambda found: _SHOWN[found[1]], cell) if _ESCAPE in cell else cell for cell in row]

    def _lines(self) -> Iterator[str]:
        """Lines that end at a newline only; what the csv module would misread is hidden behind an escape."""
        for raw in self._stream:
            try:
                line = (raw.removeprefix(_BYTE_ORDER_MARK) if self.offset == 0 else raw).decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"{self._name} is not UTF-8 (byte {self.offset + error.start}). Save it as UTF-8.") from error
            if self.offset == 0 and not line.endswith("\n") and "\r" in line:
                raise DataError(f"{self._name}: rows end at carriage returns. Way out: write it with newlines.")
            self.offset += len(raw)
            end = "\r\n" if line.endswith("\r\n") else "\n" if line.endswith("\n") else ""
            body = line.removesuffix(end) if end else line
            yield _TO_HIDE.sub(lambda found: _ESCAPE + _HIDDEN[found[0]], body) + end


def count_to(rows: SeparatedRows, step: int) -> Iterator[tuple[int, int, int]]:
    """Yields (first row, its offset, number of rows) of each `step` rows of a file."""
    while True:
        first, offset = rows.row, rows.offset
        count = len(rows.take(step))
        if not count:
            return
        yield first, offset, count
