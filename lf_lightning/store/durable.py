"""Files that are there whole or not at all, and the lock of the one process that writes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from lf_lightning.errors import StoreError

LOCK_SECONDS = 600.0
"""How long to wait for another writer. The lock of a process that died is free at once."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def writer_lock(root: Path) -> Iterator[None]:
    """Holds the store at `root` against other writers, in this process or another.

    Raises:
        StoreError: The folder cannot be written to, or another writer holds it for too long.
    """
    lock = FileLock(root / ".lock", timeout=LOCK_SECONDS)
    with store_errors(root):
        try:
            lock.acquire(poll_interval=0.01)
        except Timeout as error:
            raise StoreError(
                f"Another process has held the score store {str(root)!r} for {LOCK_SECONDS:.0f} s. Wait for it, or end it."
            ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def durable_file(path: Path) -> Iterator[BinaryIO]:
    """Gives a file to write that takes the place of `path` when the block ends, flushed to the disk; an error changes nothing.

    The caller holds the writer's lock: the temporary file has a fixed name, so that what a crash left is overwritten.

    Raises:
        StoreError: The file system refused.
    """
    temporary = path.with_name(path.name + ".tmp")
    with store_errors(path):
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


def make_folder(path: Path, *, parents: bool = False) -> None:
    """Makes a folder that survives a loss of power, unless it is there.

    Raises:
        StoreError: The file system refused.
    """
    with store_errors(path):
        path.mkdir(exist_ok=True, parents=parents)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Flushes the names in a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turns what the file system refuses while `path` is written into a `StoreError` with the way out."""
    try:
        yield
    except OSError as error:
        intact = "What was stored before is intact and readable."
        if error.errno in _FULL:
            message = f"The disk is full: {str(path)!r} could not be written. {intact} Free some space, then run it again."
        elif error.errno in _FORBIDDEN:
            message = (
                f"The score store may not be written to: {str(path)!r} ({error.strerror}). {intact} "
                "Change the folder's permissions, or copy it to a place of your own and write there."
            )
        else:
            message = f"{str(path)!r} could not be written: {error}. {intact}"
        raise StoreError(message) from error
