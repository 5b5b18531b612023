"""Room kept in reserve: a file that is given up when the disk is full, so that replies in flight can still be written."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from lf_lightning.errors import ResponseCacheError

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


def release(folder: Path) -> bool:
    """Gives the room back and returns whether there was any."""
    try:
        (folder / FILE).unlink()
    except OSError:
        return False
    return True
