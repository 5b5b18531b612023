"""One SQLite file in WAL mode: made whole or not at all, safe over threads, processes and forks."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lf_lightning.errors import ResponseCacheError
from lf_lightning.responses.forks import ClosedOnFork
from lf_lightning.responses.in_use import InUse

BUSY_SECONDS = 30.0
PAGE_BYTES = 4096

UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What reading a damaged file raises; the second where SQLite's message quotes bytes of it that are no text."""

_FULL = ("database or disk is full", "disk i/o error")
_DAMAGED = ("malformed", "not a database", "unsupported file format", "no such table", "no such column")
_FORBIDDEN = ("readonly database", "unable to open database file")


@dataclass(frozen=True)
class Layout:
    """What a file must be.

    Attributes:
        what: What people call it.
        application_id: SQLite's mark of whose file it is.
        version: Of the schema; a file of a higher one is refused.
        schema: The script that makes the tables.
    """

    what: str
    application_id: int
    version: int
    schema: str


class DamagedError(ResponseCacheError):
    """The file is not as it was written."""


class DiskFullError(ResponseCacheError):
    """The file system has no room for what was to be written; nothing of it was."""


class Database(ClosedOnFork):
    """A database that is opened, and made if it is new, by its first use. Threads take turns; processes wait for each other.

    Args:
        path: The file.
        layout: What it must be.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        super().__init__()
        self.path = path
        self.layout = layout
        self._connection: sqlite3.Connection | None = None
        self._frozen = False
        self._in_use = InUse(path)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Gives the connection; no other thread uses it meanwhile.

        Raises:
            DamagedError: The file is not as it was written.
            ResponseCacheError: It is foreign or of a newer version, or the file system refused.
        """
        with self.lock, self.named_errors():
            yield self._opened()

    @contextmanager
    def transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """Gives the connection inside `BEGIN IMMEDIATE`: all of the block is written, or nothing.

        Args:
            durable: Whether it must survive a loss of power (it waits for the disk); a killed process loses nothing either way.

        Raises:
            ResponseCacheError: As for `reading`.
            DiskFullError: There is no room.
        """
        with self.lock, self.named_errors():
            connection = self._opened()
            # Costs microseconds. FULL flushes the log with this commit, and with it all that was committed before.
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # SQLite itself has rolled back after a full disk.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Releases the file; the next use opens it again."""
        with self.lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._frozen = False
            self._in_use.release()

    def __del__(self) -> None:
        # Whoever forgets to close it must not keep others from repairing it.
        with suppress(Exception):
            self.close()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the file against every other user, in this process too; it is closed meanwhile.

        Raises:
            ResponseCacheError: Somebody else has it open.
        """
        with self.lock, self.named_errors():
            self.close()
            self._in_use.alone()
            try:
                yield
            finally:
                self._in_use.release()

    def structure(self) -> list[str]:
        """Returns what SQLite's own check of pages and indices finds wrong; a byte changed inside a value is not among it.

        Raises:
            ResponseCacheError: The file cannot be opened.
        """
        with self.reading() as connection:
            try:
                found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)")]
            except UNREADABLE as error:
                return [str(error)]
        return [] if found == ["ok"] else found

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turns what SQLite and the file system refuse into `ResponseCacheError`s with the way out."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._named(str(error)) from error
        except UnicodeDecodeError as error:
            raise self._named("malformed, down to SQLite's own words about it") from error
        except OSError as error:
            raise ResponseCacheError(
                f"The {self.layout.what} {str(self.path)!r} cannot be used: {error.strerror}. "
                "Check the folder's permissions, or name another folder."
            ) from error

    def create(self, path: Path) -> None:
        """Makes an empty database at `path`, flushed to the disk."""
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            # Said, not left to the build, because a repair relies on every file having its tables at the same places.
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum=NONE")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(
                f"BEGIN; {self.layout.schema} PRAGMA application_id={self.layout.application_id};"
                f"PRAGMA user_version={self.layout.version}; COMMIT;"
            )

    def _opened(self) -> sqlite3.Connection:
        if self._frozen:
            self.close()
        if self._connection is None:
            try:
                self._connection = self._open()
            except BaseException:
                self._in_use.release()
                raise
        return self._connection

    def _open(self) -> sqlite3.Connection:
        # The file is never read except by SQLite: closing any descriptor of it would drop all of this process's locks on it.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._in_use.share()
        if not self.path.exists():
            self._make()
        if self.path.stat().st_size == 0:
            raise DamagedError(f"The {self.layout.what} {str(self.path)!r} is empty, so it was damaged. {self._repair()}")
        try:
            return self._checked(f"{self.path.absolute().as_uri()}?mode=rw")
        except sqlite3.OperationalError:
            # No room or no right for the log's index. Where no log is left to be read, the file itself is all there is.
            if not log_of(self.path).exists():
                with suppress(sqlite3.OperationalError):
                    connection = self._checked(f"{self.path.absolute().as_uri()}?immutable=1")
                    # It would not see what others write, so it serves for one use.
                    self._frozen = True
                    return connection
            raise

    def _checked(self, uri: str) -> sqlite3.Connection:
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        # A key that a changed byte made unreadable must not end the reading of others.
        connection.text_factory = lambda text: text.decode(errors="replace")
        try:
            (mark,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if mark != self.layout.application_id:
                raise ResponseCacheError(
                    f"{str(self.path)!r} is no {self.layout.what} of lf_lightning but another SQLite file. "
                    "Move it away, or name another folder."
                )
            if version > self.layout.version:
                raise ResponseCacheError(
                    f"The {self.layout.what} {str(self.path)!r} has schema version {version}; this lf_lightning reads up to "
                    f"{self.layout.version}. Upgrade lf_lightning, or name another folder."
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def _make(self) -> None:
        if log_of(self.path).exists():
            raise ResponseCacheError(
                f"The {self.layout.what} {str(self.path)!r} is gone while its log ({log_of(self.path).name}) is still there. "
                "Put the file back, or move the log away."
            )
        self._in_use.alone()
        if not self.path.exists():
            temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
            with suppress(FileNotFoundError):
                temporary.unlink()
            self.create(temporary)
            temporary.rename(self.path)
        self._in_use.share()

    def _named(self, problem: str) -> ResponseCacheError:
        where = f"The {self.layout.what} {str(self.path)!r}"
        lower = problem.lower()
        intact = "What was stored before is intact."
        if any(words in lower for words in _FULL):
            return DiskFullError(
                f"{where} could not grow: the disk is full ({problem}). {intact} Free some space, then run it again."
            )
        if any(words in lower for words in _FORBIDDEN):
            return ResponseCacheError(
                f"{where} may not be written to ({problem}). {intact} Change the folder's permissions, or name another folder."
            )
        if "locked" in lower:
            return ResponseCacheError(f"{where} was held by another process for {BUSY_SECONDS:.0f} s. Wait for it, or end it.")
        if any(words in lower for words in _DAMAGED):
            return DamagedError(f"{where} is damaged ({problem}). {self._repair()}")
        return ResponseCacheError(f"{where}: {problem}. {self._repair()}")

    def _repair(self) -> str:
        return f"Way out: lf cache repair --responses {self.path.parent} (it keeps every sound row), or a copy of the file."


def log_of(path: Path) -> Path:
    """Returns the write-ahead log of a database."""
    return path.with_name(path.name + "-wal")
