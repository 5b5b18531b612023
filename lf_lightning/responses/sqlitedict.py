"""The response cache written by the package sqlitedict, as JSON and never as pickle. Same file as `SQLiteResponses`."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lf_lightning.errors import MissingDependencyError
from lf_lightning.responses.database import BUSY_SECONDS, Database, Layout
from lf_lightning.responses.rows import unseal
from lf_lightning.responses.sqlite import FILE, LAYOUT, Line, SQLiteResponses, lines_of

if TYPE_CHECKING:
    from sqlitedict import SqliteDict


class SqliteDictResponses(SQLiteResponses):
    """Raw replies in a `SqliteDict` with JSON values, each write waited for. Needs the extra `sqlitedict`.

    The file is that of `SQLiteResponses`, so one may be changed for the other at any time; any program reads it by
    `SqliteDict(path, "responses", journal_mode="WAL", decode=json.loads)`.

    Args:
        folder: Folder of the responses, made if it is new.
    """

    def __init__(self, folder: str = "responses") -> None:
        super().__init__(folder)
        self._database: _DictDatabase = _DictDatabase(Path(folder) / FILE, LAYOUT)

    def _write(self, lines: Sequence[Line]) -> None:
        # Single statements, each a transaction of its own: sqlitedict's thread ends, and its caller waits for ever, where a
        # commit or the reading of a damaged page fails. For the same reason all reading is left to the base class.
        with self._database.lock, self._database.named_errors():
            with self._database.reading() as connection:
                there = lines_of(connection, [key for key, _ in lines]).fetchall()
            target = self._database.dictionary()
            for key, line in there:
                if unseal(key, line) is None:
                    _execute(target, "DELETE FROM responses WHERE key = ? AND CAST(value AS BLOB) = ?", (key, line))
            _execute(
                target,
                "INSERT OR IGNORE INTO responses "
                "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)",
                (json.dumps(lines),),
            )


class _DictDatabase(Database):
    """A database with a `SqliteDict` beside its own connection; both are closed together, above all before a fork."""

    def __init__(self, path: Path, layout: Layout) -> None:
        super().__init__(path, layout)
        self._dictionary: SqliteDict | None = None

    def dictionary(self) -> SqliteDict:
        if self._dictionary is None:
            try:
                from sqlitedict import SqliteDict
            except ImportError as error:
                raise MissingDependencyError.of("sqlitedict", "sqlitedict") from error
            # Where nothing may be written its thread would end with a traceback of its own; here it is an error like any other.
            with self.transaction(durable=False) as connection:
                connection.execute("DELETE FROM responses WHERE 0")
            # It logs what it also raises.
            logging.getLogger("sqlitedict").setLevel(logging.CRITICAL)
            self._dictionary = SqliteDict(
                str(self.path), "responses", autocommit=True, journal_mode="WAL", encode=json.dumps, decode=json.loads
            )
            # Its own setting, OFF, does not wait for the disk.
            _execute(self._dictionary, "PRAGMA synchronous=FULL")
            _execute(self._dictionary, f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")
        return self._dictionary

    def close(self) -> None:
        self._close(wait=True)

    def __del__(self) -> None:
        # At the interpreter's end sqlitedict's thread answers no more: waiting would never end. Every write was waited for.
        with suppress(Exception):
            self._close(wait=False)

    def _close(self, *, wait: bool) -> None:
        with self.lock:
            if self._dictionary is not None:
                self._dictionary.close(force=not wait)
                self._dictionary = None
            super().close()


def _execute(target: SqliteDict, statement: str, values: tuple[Any, ...] = ()) -> None:
    """Runs a statement in sqlitedict's thread and waits for its end; raises what went wrong."""
    list(target.conn.select(statement, values))
