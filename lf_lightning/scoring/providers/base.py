"""What a provider of a model does: send one request, read one raw reply. All else is the same for each and lies elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from lf_lightning.scoring.requests import Reply, Request

FailureKind = Literal[
    "rate_limited",  # 429 without a quota message: wait and ask again
    "unavailable",  # 5xx, overloaded, no connection: not served, ask again
    "disconnected",  # the connection ended before a reply began, with the request sent: may have been served and billed
    "timeout",  # no (whole) reply: it may have been served and billed
    "garbled",  # 200 with something that is no reply (HTML, cut JSON): served and billed, worth another try
    "rejected",  # 400, 413, 422: this request will never be answered (an over-long text); the others go on
    "quota",  # no credit left: stop the run
    "denied",  # 401, 403, no key: stop the run
]


class ProviderError(Exception):
    """A request that got no reply. The message never holds the key, nor the provider's own words where they may echo it.

    Args:
        kind: What happened, see `FailureKind`.
        message: For people.
        retry_after: Seconds that the provider asks to wait, where it says so.
        status: HTTP status, where there was one.
    """

    def __init__(self, kind: FailureKind, message: str, retry_after: float | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self.retry_after = retry_after
        self.status = status

    @property
    def maybe_billed(self) -> bool:
        """Whether the provider may have billed the request although no reply arrived."""
        return self.kind in ("timeout", "disconnected", "garbled")

    @property
    def retryable(self) -> bool:
        """Whether asking again may help."""
        return self.kind in ("rate_limited", "unavailable", "disconnected", "timeout", "garbled")

    @property
    def fatal(self) -> bool:
        """Whether every other request would end the same."""
        return self.kind in ("quota", "denied")


@dataclass(frozen=True)
class RateHeaders:
    """What a reply's headers say of the limits; None where they say nothing. Resets are seconds from now."""

    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    reset_requests: float | None = None
    reset_tokens: float | None = None


@dataclass(frozen=True)
class Sent:
    """A raw reply as plain JSON values, and what its headers say of the limits."""

    raw: Mapping[str, Any]
    limits: RateHeaders = RateHeaders()


class Provider(ABC):
    """A model behind an interface. Cheap to construct: the SDK is imported and the key read by the first `send`.

    A new one is one file with one subclass, named by `class_path`. The SDK's own retries are off: the gateway has its own.

    Attributes:
        name: Lower case, such as openai; also the provider's id in the price table.
        model: The model's name.
    """

    name: ClassVar[str]
    model: str

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """All about the provider that changes an answer: name, model, endpoint, options. Plain values, no key."""

    @abstractmethod
    async def send(self, request: Request, timeout: float) -> Sent:
        """Sends one request once and returns its raw reply.

        Args:
            request: What to ask.
            timeout: Seconds until `ProviderError("timeout")`.

        Raises:
            ProviderError: There is no reply.
            ConfigurationError: The model or the interface cannot do what the request asks (log-probabilities, a schema), or
                there is no such model or address (404): no other request would fare better.
            MissingDependencyError: The SDK is not installed.
        """

    @abstractmethod
    def read(self, raw: Mapping[str, Any]) -> Reply:
        """Reads a raw reply.

        Raises:
            ValueError: It has no content that can be read (no choices, no candidates).
        """

    async def close(self) -> None:
        """Closes connections; the next `send` opens them again, in whatever event loop it runs."""
        return
