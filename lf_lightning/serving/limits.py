"""What a request may be, and the answers to those that are not: problems by RFC 9457, and a body that is never read too far."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lf_lightning.errors import ConfigurationError

PROBLEM = "application/problem+json"
DISCARDED = 16
"""Times `max_body` that is read and thrown away of a larger body: most clients hear of nothing before they have sent all."""


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Attributes:
        max_texts: Texts in a request.
        max_characters: Of a text.
        max_body: Bytes of a request's body.
        timeout: Seconds for a request, from its last byte to its answer; and for its body to arrive.
    """

    max_texts: int = 256
    max_characters: int = 20_000
    max_body: int = 4 << 20
    timeout: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigurationError(f"{name}={value} must be above 0.")


class Problem(Exception):
    """A request that gets no answer but a reason.

    Args:
        status: HTTP status.
        title: What is wrong, in few words.
        detail: What exactly, and the way out.
        retry_after: Seconds after which it may work.
        errors: Where in the body, one by one: `at` and `problem`.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        retry_after: float | None = None,
        errors: list[dict[str, str]] | None = None,
    ) -> None:
        super().__init__(title)
        self.status, self.title, self.detail, self.errors = status, title, detail, errors
        self.headers = {} if retry_after is None else {"Retry-After": str(int(-(-retry_after // 1)))}

    @property
    def body(self) -> dict[str, Any]:
        """The problem as RFC 9457 has it."""
        known = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        return known if self.errors is None else {**known, "errors": self.errors}


class BoundedBody:
    """Middleware: reads a request's body up to a limit and within a time, before the application sees any of it.

    Args:
        app: The application.
        limits: `max_body` and `timeout`.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with 413 or 408."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        problem: Problem | None = None
        body, size, more = bytearray(), 0, True
        try:
            while more and size <= DISCARDED * self.limits.max_body:
                message = await asyncio.wait_for(receive(), self.limits.timeout)
                if message["type"] == "http.disconnect":
                    return
                part, more = message.get("body", b""), message.get("more_body", False)
                size += len(part)
                if size <= self.limits.max_body:
                    body += part
        except asyncio.TimeoutError:
            detail = f"The body did not arrive within {self.limits.timeout:g} s. Way out: send it at once."
            problem = Problem(408, "Request timeout", detail)
        if size > self.limits.max_body:
            problem = self._too_large()
        if problem is not None:
            await _answer(send, problem)
            return
        unread = True

        async def replay() -> Message:
            nonlocal unread
            if unread:
                unread = False
                return {"type": "http.request", "body": bytes(body), "more_body": False}
            return await receive()

        await self.app(scope, replay, send)

    def _too_large(self) -> Problem:
        limit = self.limits.max_body
        return Problem(413, "Body too large", f"A body may have {limit:,} bytes. Way out: fewer or shorter texts in a request.")


async def _answer(send: Send, problem: Problem) -> None:
    content = json.dumps(problem.body).encode()
    headers = {"content-type": PROBLEM, "content-length": str(len(content)), "connection": "close"}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": encoded})
    await send({"type": "http.response.body", "body": content})
