"""One client per event loop: connections belong to the loop that opened them, and each run of the gateway may have its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from threading import Lock
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from lf_lightning.scoring.providers.base import ProviderError

Client = TypeVar("Client")
Result = TypeVar("Result")


class PerLoop(Generic[Client]):
    """Clients by event loop. A copy (pickled for another process) starts without any."""

    def __init__(self) -> None:
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Client] = WeakKeyDictionary()
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), ())

    def get(self, make: Callable[[], Client]) -> Client:
        """Returns the running loop's client, made by `make` where there is none."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._clients:
                self._clients[loop] = make()
            return self._clients[loop]

    def pop(self) -> Client | None:
        """Removes and returns the running loop's client, for closing."""
        with self._lock:
            return self._clients.pop(asyncio.get_running_loop(), None)


async def outcome_of(call: Awaitable[Result | Exception], seconds: float, provider: str) -> Result:
    """Returns what `call` gives, or raises the error that it gives: given, not raised, lest an error of an SDK hangs on it.

    Args:
        call: The work.
        seconds: One deadline over connecting, waiting and the whole body.
        provider: For the message.

    Raises:
        ProviderError: timeout; or as the call gives it.
    """
    try:
        outcome = await asyncio.wait_for(call, seconds)
    except asyncio.TimeoutError:
        outcome = ProviderError("timeout", f"{provider}: no whole reply within {seconds:g} s.")
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
