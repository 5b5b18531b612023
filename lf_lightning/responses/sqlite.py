"""The response cache in the standard library's SQLite: WAL, one row a reply, each with its checksum."""

from __future__ import annotations

import gc
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lf_lightning.errors import ResponseCacheError
from lf_lightning.responses import ballast
from lf_lightning.responses.base import Damage, Response, ResponseCache
from lf_lightning.responses.database import DamagedError, Database, Layout
from lf_lightning.responses.rebuild import rebuild
from lf_lightning.responses.rows import seal, unseal
from lf_lightning.responses.together import Together

FILE = "responses.sqlite"
LAYOUT = Layout(
    what="response cache",
    application_id=0x6C665265,
    version=1,
    # The table of a SqliteDict, so that both backends read one file.
    schema="CREATE TABLE responses(key TEXT PRIMARY KEY, value BLOB);",
)

_INDEX = "sqlite_autoindex_responses_1"
_PAGE = 1000
_MANY = 20_000
_VACUUM_SHARE = 0.25

Line = tuple[str, str]
"""A key and its sealed response."""


class SQLiteResponses(ResponseCache):
    """Raw replies in one SQLite file of the standard library. Safe over threads, processes and forks; opens on first use.

    Args:
        folder: Folder of the responses, made if it is new.
    """

    def __init__(self, folder: str = "responses") -> None:
        self.folder = Path(folder)
        self._database = Database(self.folder / FILE, LAYOUT)
        self._put = Together(self._write_paid, self._database)

    def get(self, keys: Sequence[str]) -> dict[str, Response]:
        """Returns the responses that are there, by key; see `ResponseCache.get`."""
        found: dict[str, Response] = {}
        with _without_collector():
            for first in range(0, len(keys), _MANY):
                with self._database.reading() as connection:
                    lines = lines_of(connection, keys[first : first + _MANY]).fetchall()
                found |= {key: response for key, line in lines if (response := unseal(key, line))}
        return found

    def put(self, responses: Sequence[Response]) -> None:
        """Stores responses, all or none of them; see `ResponseCache.put`."""
        if responses:
            self._put([(response.key, seal(response)) for response in responses])

    def scan(self) -> Iterator[Response]:
        """Yields every sound response, in the order of its key."""
        last = ""
        while True:
            with self._database.reading() as connection:
                found = connection.execute(f"SELECT key FROM responses WHERE key > ? ORDER BY key LIMIT {_MANY}", (last,))
                keys = [key for (key,) in found]
                lines = sorted(lines_of(connection, keys))
            for key, line in lines:
                if response := unseal(key, line):
                    yield response
            if len(keys) < _MANY:  # not the lines: a key whose index entry is damaged has none
                return
            last = keys[-1]

    def delete(self, keys: Sequence[str]) -> int:
        """Removes responses and returns how many there were."""
        deleted = 0
        with self._database.transaction(durable=True) as connection:
            for first in range(0, len(keys), _PAGE):
                deleted += connection.execute(
                    "DELETE FROM responses WHERE key IN (SELECT value FROM json_each(?))",
                    (json.dumps(keys[first : first + _PAGE]),),
                ).rowcount
        self._give_room_back()
        return deleted

    def verify(self) -> list[Damage]:
        """Returns what is damaged; empty: all is sound."""
        where = str(self._database.path)
        damage: list[Damage] = []
        try:
            damage += [Damage(where, problem) for problem in self._database.structure()]
            damage += [Damage(key, "its checksum is of other content") for _, key in self._unsound()]
        except DamagedError as error:
            damage.append(Damage(where, str(error)))
        return damage

    def repair(self) -> int:
        """Deletes rows of another checksum; builds a file with damaged pages anew. Returns how many rows were lost."""
        try:
            if not self._database.structure():
                return self._delete_unsound()
        except DamagedError:
            pass
        return rebuild(self._database, ("responses",), _INDEX, _is_sound)

    def close(self) -> None:
        """Releases the file; the next use opens it again."""
        self._database.close()

    def _write(self, lines: Sequence[Line]) -> None:
        """Stores lines whose key is not there, in one transaction; one that is there but damaged is replaced."""
        with self._database.transaction(durable=True) as connection:
            for first in range(0, len(lines), _PAGE):
                part = lines[first : first + _PAGE]
                bad = [(key,) for key, line in lines_of(connection, [key for key, _ in part]) if unseal(key, line) is None]
                connection.executemany("DELETE FROM responses WHERE key = ?", bad)
                connection.executemany("INSERT OR IGNORE INTO responses VALUES (?, ?)", part)

    def _write_paid(self, lines: Sequence[Line]) -> None:
        ballast.write_paid(self.folder, lambda: self._write(lines))

    def _delete_unsound(self) -> int:
        # Inside one transaction, because the number of a row that another process replaces may be given again.
        with self._database.transaction(durable=True) as connection:
            rows = [(row,) for row, _ in self._unsound()]
            connection.executemany("DELETE FROM responses WHERE rowid = ?", rows)
        return len(rows)

    def _unsound(self) -> Iterator[tuple[int, str]]:
        last = 0
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(
                    "SELECT rowid, key, CAST(value AS BLOB) FROM responses NOT INDEXED "
                    f"WHERE rowid > ? ORDER BY rowid LIMIT {_PAGE}",
                    (last,),
                ).fetchall()
            for row, key, line in rows:
                if unseal(key, line) is None:
                    yield row, key
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def _give_room_back(self) -> None:
        # Only ever a matter of room: a full disk or another writer is no reason to fail.
        with suppress(ResponseCacheError), self._database.reading() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            if free > _VACUUM_SHARE * pages:
                connection.execute("VACUUM")


def lines_of(connection: sqlite3.Connection, keys: Sequence[str]) -> sqlite3.Cursor:
    """Returns a cursor over the keys that are there, each with what is stored, sound or not."""
    # By way of the row numbers, which SQLite sorts: keys are random, and the table is then read from front to back.
    return connection.execute(
        "SELECT key, CAST(value AS BLOB) FROM responses WHERE rowid IN "
        "(SELECT rowid FROM responses WHERE key IN (SELECT value FROM json_each(?)))",
        (json.dumps(keys),),
    )


@contextmanager
def _without_collector() -> Iterator[None]:
    """Lets no garbage collection in: it would walk all replies read so far again and again, for half of the time."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _is_sound(row: Sequence[object]) -> bool:
    key, line = row
    return unseal(str(key), str(line).encode()) is not None
