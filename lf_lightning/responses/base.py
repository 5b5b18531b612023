"""The contract of a response cache: raw replies by request key, each durable once `put` has returned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Response:
    """A reply as the provider gave it, and what it was the reply to.

    Attributes:
        key: 64 hex digits, the request's SHA-256 (`lf_lightning.scoring.requests.Request.key`).
        provider: The provider's name, such as openai.
        model: The model that was asked.
        request: All that changes the answer, plain values; `key` is its digest.
        reply: The provider's JSON, untouched. Or `{"part_of": key, "id": ...}` where one reply answered several texts.
        usage: Tokens by kind: `input`, `output`, `cached_input`; and `cost_nanodollars`, where a price is known.
        created: Seconds since 1970, UTC.
    """

    key: str
    provider: str
    model: str
    request: Mapping[str, Any]
    reply: Mapping[str, Any]
    usage: Mapping[str, int]
    created: float


@dataclass(frozen=True)
class Damage:
    """A row, or a file, that cannot be trusted: where it is and what is wrong with it."""

    where: str
    problem: str


class ResponseCache(ABC):
    """Raw replies at rest. Any number of processes may read and write at once; every backend passes one suite of tests.

    Every row carries a checksum of its content. A row that fails it is never returned: it counts as missing, is told by
    `verify`, and removed by `repair`. What the file system refuses (full disk, read-only) is a `ResponseCacheError`.
    """

    @abstractmethod
    def get(self, keys: Sequence[str]) -> dict[str, Response]:
        """Returns the responses that are there, by key; asked for 100,000 at once it takes seconds."""

    @abstractmethod
    def put(self, responses: Sequence[Response]) -> None:
        """Stores responses, all or none of them; they survive `kill -9` and power loss once this has returned.

        A key that is there already keeps its first response.
        """

    @abstractmethod
    def scan(self) -> Iterator[Response]:
        """Yields every sound response, in the order of its key."""

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> int:
        """Removes responses and returns how many there were."""

    @abstractmethod
    def verify(self) -> list[Damage]:
        """Returns what is damaged; empty: all is sound."""

    @abstractmethod
    def repair(self) -> int:
        """Makes the cache sound again, keeping every sound row, and returns how many rows were lost."""

    @abstractmethod
    def close(self) -> None:
        """Releases files; using the cache again opens them again."""
