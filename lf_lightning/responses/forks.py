"""Keeps open databases from crossing a fork: SQLite's locks belong to a process, and a child that inherits them loses rows."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from weakref import WeakSet


class ClosedOnFork(ABC):
    """Something that is closed in parent and child when the process forks; each opens it again when it is next used.

    Attributes:
        lock: Held while it is used, so that a fork waits for whatever another thread is writing.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        _alive.add(self)

    @abstractmethod
    def close(self) -> None:
        """Releases files and threads."""


_alive: WeakSet[ClosedOnFork] = WeakSet()
_forking: list[ClosedOnFork] = []


def _before() -> None:
    for held in list(_alive):
        held.lock.acquire()
        held.close()
        _forking.append(held)


def _in_parent() -> None:
    while _forking:
        _forking.pop().lock.release()


def _in_child() -> None:
    # The thread that forked is the child's only one: locks that other threads held would never be released.
    while _forking:
        _forking.pop().lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
