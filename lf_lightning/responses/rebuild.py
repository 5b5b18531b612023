"""Builds a damaged database anew from every row that can still be read, whichever of its pages are gone."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from lf_lightning.responses.database import PAGE_BYTES, UNREADABLE, Database, log_of

_AT_ONCE = 1000
_ROWS_IN_A_PAGE = PAGE_BYTES // 64

Row = tuple[Any, ...]


def rebuild(database: Database, tables: Sequence[str], index: str, sound: Callable[[Row], bool] = lambda _: True) -> int:
    """Puts a new database with all readable rows in the place of a damaged one, which is kept beside it.

    Args:
        database: The damaged one; nobody else may have it open.
        tables: All its tables, the most important first.
        index: A full index of the first table, which may still tell rows that the table has lost.
        sound: Whether a row of the first table is to be kept.

    Returns:
        How many rows of the first table were lost, as far as they can still be counted.

    Raises:
        ResponseCacheError: Somebody has it open, or the file system refused; all is as before.
    """
    path = database.path
    new = path.with_name(path.name + ".rebuilt")
    work = path.with_name(path.name + ".opened")
    kept = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
    with database.alone():
        for leftover in (new, work):
            _remove(leftover)
        database.create(new)
        for copy in (kept, work):
            shutil.copyfile(path, copy)
            with suppress(FileNotFoundError):
                shutil.copyfile(log_of(path), log_of(copy))
        _mend_first_page(work, new)
        with closing(_lenient(work)) as source, closing(sqlite3.connect(new, isolation_level=None)) as target:
            target.execute("BEGIN")
            lost = _copy(source, target, tables[0], index, sound)
            for table in tables[1:]:
                _copy(source, target, table, None, lambda _: True)
            target.execute("COMMIT")
        # A log must never lie beside a file that is not its own. Power lost here: the copy has all that it held.
        _remove(path, but_the_file=True)
        new.replace(path)
        _remove(work)
    return lost


def _copy(
    source: sqlite3.Connection, target: sqlite3.Connection, table: str, index: str | None, sound: Callable[[Row], bool]
) -> int:
    seen = copied = 0
    for row in _readable(source, table, _highest(source, table, index)):
        seen += 1
        with suppress(UnicodeDecodeError):
            values = tuple(value.decode() if isinstance(value, bytes) else value for value in row)
            if sound(values):
                places = ", ".join("?" * len(values))
                copied += target.execute(f"INSERT OR IGNORE INTO {table} VALUES ({places})", values).rowcount
    if index:
        with suppress(*UNREADABLE):
            seen = max(seen, source.execute(f"SELECT count(*) FROM {table} INDEXED BY {index}").fetchone()[0])
    return seen - copied


def _readable(source: sqlite3.Connection, table: str, highest: int) -> Iterator[Row]:
    """Yields the rows of a table; a range that meets a damaged page is halved until the page's own rows are left."""
    query = f"SELECT rowid, * FROM {table} NOT INDEXED WHERE rowid BETWEEN ? AND ? ORDER BY rowid LIMIT {_AT_ONCE}"
    ranges = [(1, highest)]
    while ranges:
        first, last = ranges.pop()
        try:
            rows = source.execute(query, (first, last)).fetchall()
        except UNREADABLE:
            if first < last:
                middle = (first + last) // 2
                ranges += [(middle + 1, last), (first, middle)]
            continue
        for row in rows:
            yield row[1:]
        if len(rows) == _AT_ONCE:
            ranges.append((rows[-1][0] + 1, last))


def _highest(source: sqlite3.Connection, table: str, index: str | None) -> int:
    for how in ("NOT INDEXED", *([f"INDEXED BY {index}"] if index else [])):
        with suppress(*UNREADABLE):
            return int(source.execute(f"SELECT max(rowid) FROM {table} {how}").fetchone()[0] or 0)
    with suppress(*UNREADABLE):
        return int(source.execute("PRAGMA page_count").fetchone()[0]) * _ROWS_IN_A_PAGE
    return 0


def _lenient(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.text_factory = bytes
    # Without it SQLite refuses a file that is shorter than its first page says.
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("PRAGMA cell_size_check=ON")
    return connection


def _mend_first_page(damaged: Path, new: Path) -> None:
    """Gives a file whose first page names other tables, or none, that of a new file: they lie at the same places."""
    if _tables(damaged) == _tables(new):
        return
    pages = damaged.stat().st_size // PAGE_BYTES
    first = bytearray(new.read_bytes()[:PAGE_BYTES])
    first[28:32] = pages.to_bytes(4, "big")
    if pages:
        with damaged.open("r+b") as file:
            file.write(first)


def _tables(path: Path) -> list[Row] | None:
    """Names, places and statements of tables and indices, None where they cannot be read."""
    with suppress(*UNREADABLE), closing(_lenient(path)) as connection:
        return connection.execute("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master ORDER BY name").fetchall()
    return None


def _remove(path: Path, *, but_the_file: bool = False) -> None:
    for end in ("-wal", "-shm", *([] if but_the_file else [""])):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).unlink()
