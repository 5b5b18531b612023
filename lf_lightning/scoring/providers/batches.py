"""The batch interfaces of providers: half the price, an answer within a day."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.providers.base import ProviderError, Sent
from lf_lightning.scoring.requests import Request

BatchState = Literal["running", "done", "failed", "expired"]
"""failed: nothing was run or billed. expired: it ended (or was cancelled) before all were answered; what was is collected."""

BATCH_SECONDS = 600.0
"""Longest time of one call: an upload or a download may have hundreds of megabytes."""


class BatchInterface(ABC):
    """What a provider with a batch interface can do besides `Provider`. All errors are `ProviderError`s.

    A batch is submitted under a label that the caller has written down before, so that one that was submitted just before a
    crash can be found again.

    Attributes:
        batch_requests: Most requests that one batch takes.
        batch_bytes: Most bytes that one batch takes.
        can_find: Whether the provider lists batches by something that we chose; where not, `find` gives None.
    """

    batch_requests: ClassVar[int]
    batch_bytes: ClassVar[int]
    can_find: ClassVar[bool]

    @abstractmethod
    def batch_entry(self, key: str, request: Request) -> dict[str, Any]:
        """Returns a request as it stands in a batch, plain values."""

    @abstractmethod
    async def submit(self, requests: Mapping[str, Request], label: str) -> str:
        """Submits requests by their keys, as many as one batch takes (`split`).

        Args:
            requests: Request by key.
            label: Up to 64 letters, digits, `_`, `-`; names this batch in the provider's list.

        Returns:
            The provider's id of the batch.
        """

    @abstractmethod
    async def poll(self, batch: str) -> BatchState:
        """Returns how far a batch is."""

    @abstractmethod
    async def collect(self, batch: str) -> list[tuple[str, Sent | ProviderError]]:
        """Returns what became of each request of a batch that is done or expired, in any order; a key may be missing."""

    @abstractmethod
    async def find(self, label: str) -> str | None:
        """Returns the id of the newest batch that was submitted under a label, None where there is none."""

    def split(self, requests: Mapping[str, Request]) -> Iterator[dict[str, Request]]:
        """Yields the requests in parts that one batch takes each, in their order."""
        part: dict[str, Request] = {}
        size = 0
        for key, request in requests.items():
            line = len(batch_line(self.batch_entry(key, request)))
            if part and (len(part) >= self.batch_requests or size + line > self.batch_bytes):
                yield part
                part, size = {}, 0
            part[key] = request
            size += line
        if part:
            yield part


def batch_line(entry: Mapping[str, Any]) -> bytes:
    """Returns one line of JSON. Every character beyond ASCII is escaped, so that no text can end the line."""
    return json.dumps(entry, ensure_ascii=True).encode() + b"\n"


def read_lines(content: bytes) -> Iterator[dict[str, Any]]:
    """Yields the JSON objects of a result file; a line that is none is left out, and its request counts as unanswered."""
    for line in content.split(b"\n"):
        try:
            entry = json.loads(line, parse_constant=lambda _: None) if line.strip() else None
        except (ValueError, RecursionError):
            entry = None
        if isinstance(entry, dict):
            yield entry


def of_one(outcome: Sent | Exception) -> Sent | ProviderError:
    """Returns the outcome of one request: what would stop a run when asked singly fails one request of a batch."""
    if isinstance(outcome, ConfigurationError):
        return ProviderError("rejected", str(outcome))
    if isinstance(outcome, (Sent, ProviderError)):
        return outcome
    raise outcome
