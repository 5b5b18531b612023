"""Who has a database open: everyone who uses it shares a lock, and what replaces the file needs it alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

from lf_lightning.errors import ResponseCacheError

try:
    import fcntl
except ImportError:
    _HAS_LOCKS = False  # Windows, which refuses to replace a file that is open
else:
    _HAS_LOCKS = True

ALONE_SECONDS = 30.0


class InUse:
    """A lock on `<file>.lock`, shared or alone; free at once when its process dies.

    Args:
        path: The database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def share(self) -> None:
        """Waits until nobody has the file alone, and keeps it so.

        Raises:
            OSError: The folder does not take the lock's file.
        """
        if not _HAS_LOCKS:
            return
        try:
            descriptor = self._open(os.O_RDWR | os.O_CREAT)
        except PermissionError:
            # A read-only folder that was written to before: the lock is there, and reading is enough to share it.
            descriptor = self._open(os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_SH)

    def alone(self) -> None:
        """Waits until nobody else has the file open.

        Raises:
            ResponseCacheError: Somebody still has after `ALONE_SECONDS`.
            OSError: The folder does not take the lock's file.
        """
        if not _HAS_LOCKS:
            return
        descriptor = self._open(os.O_RDWR | os.O_CREAT)
        deadline = time.monotonic() + ALONE_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise ResponseCacheError(
                        f"Another process (lf score?) has {str(self._path)!r} open. Way out: end it, then run this again."
                    ) from error
                time.sleep(0.02)
            else:
                return

    def release(self) -> None:
        """Gives the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self, flags: int) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._path.with_name(self._path.name + ".lock"), flags | os.O_CLOEXEC, 0o666)
        return self._descriptor
