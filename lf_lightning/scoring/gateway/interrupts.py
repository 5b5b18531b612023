"""Running asynchronous work from anywhere, and stopping it in good order on Ctrl-C and SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from lf_lightning.errors import Interrupted

Result = TypeVar("Result")
_running: list[Callable[[Interrupted], None]] = []


def run_aside(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Runs a coroutine in an event loop of its own thread and waits for it, so that it works in notebooks, whose loop runs."""
    outcome: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001  raised again where it is waited for
            errors.append(error)

    thread = threading.Thread(target=run, name="lf-gateway", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.5)  # by turns, because a signal's handler waits for the end of a join on some systems
    if errors:
        raise errors[0]
    return outcome[0]


@contextmanager
def stopping(stop: Callable[[Interrupted], None]) -> Iterator[None]:
    """Calls `stop` on the first Ctrl-C or SIGTERM, and on `stop_all`; the second signal does what it did before.

    Args:
        stop: Called in the main thread, between two of its instructions, as only that thread has signals; or by `stop_all`.
    """
    _running.append(stop)
    try:
        with _on_signals(stop):
            yield
    finally:
        _running.remove(stop)


def stop_all(halt: Interrupted) -> None:
    """Stops what runs in this process as a signal would: for processes that others start and stop.

    Args:
        halt: Why.
    """
    for stop in _running.copy():
        stop(halt)


@contextmanager
def _on_signals(stop: Callable[[Interrupted], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, _frame: FrameType | None) -> None:
        restore()
        name = signal.Signals(number).name
        halt = Interrupted(f"stopped by {name}; every reply that arrived is kept. Way out: the same command asks for the rest.")
        halt.exit_code = 128 + number
        stop(halt)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
