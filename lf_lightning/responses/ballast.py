"""Room kept in reserve: a file that is given up when the disk is full, so that replies in flight can still be written."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from lf_lightning.errors import ResponseCacheError
from lf_lightning.responses.database import DiskFullError

T = TypeVar("T")

FILE = "ballast"
BYTES = 8 * 2**20
"""Enough for some hundred replies in flight, each a few kilobytes, and the log around them."""

_BLOCK = 2**20


def ensure(folder: Path) -> None:
    """Makes the file unless it is there. Called before money is spent: without room for the reply, nothing is asked.

    Raises:
        ResponseCacheError: There is no room for it.
    """
    path = folder / FILE
    with suppress(FileNotFoundError):
        if path.stat().st_size == BYTES:
            return
    temporary = folder / f"{FILE}.{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        # Half a file, until it is found not to fit, would take the room of replies that are being written.
        if shutil.disk_usage(folder).free < BYTES + _BLOCK:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with temporary.open("wb") as file:
            for _ in range(0, BYTES, _BLOCK):
                # Random, so that no file system stores it in less room than it says.
                file.write(os.urandom(min(_BLOCK, BYTES)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise ResponseCacheError(
            f"There is no room in {str(folder)!r} ({error.strerror}), so nothing more is asked. Every reply so far was kept. "
            "Free some space, then run it again: it goes on where it stopped."
        ) from error


def write_paid(folder: Path, write: Callable[[], T]) -> T:
    """Writes what was paid for, on a full disk in the room of the file; the ledger then grants nothing until there is more.

    It tries for two seconds, as another thread may give the room free, or be making the file where free space is not told.

    Args:
        folder: Of the file.
        write: Writes all or nothing.

    Raises:
        DiskFullError: There is still no room.
    """
    for wait in (0.0, 0.1, 0.3, 0.6, 1.0):
        try:
            return write()
        except DiskFullError:
            with suppress(OSError):
                (folder / FILE).unlink()
            time.sleep(wait)
    return write()
