"""A server on loopback that gives replies of recorded shape, in order, and keeps what was asked of it."""

from __future__ import annotations

import asyncio
import json
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeVar

import pytest

from lf_lightning.scoring.providers.base import Provider, ProviderError, Sent
from lf_lightning.scoring.requests import Request

Result = TypeVar("Result")

KEY = "canary-key-1b5e2f"


@dataclass(frozen=True)
class Asked:
    """A request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What to reply.

    `body` is sent as JSON unless it is bytes. `how`: whole; cut (fewer bytes than promised); dropped (the connection ends
    before the reply begins); hang (nothing comes); stall (the headers and half the body come, the rest does not).
    """

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    how: Literal["whole", "cut", "dropped", "hang", "stall"] = "whole"


class RecordedServer:
    """Replies by order (`answers`), or by a function of the request (`reply`)."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: list[Answer] = []
        self.reply: Callable[[Asked], Answer | None] = lambda asked: None
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def _serve(self) -> None:
                if self.headers.get("transfer-encoding", "") == "chunked":
                    body = b""
                    while size := int(self.rfile.readline().strip() or b"0", 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(int(self.headers.get("content-length") or 0))
                asked = Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                outer.asked.append(asked)
                answer = outer.reply(asked) or outer.answers.pop(0)
                outer._send(self, answer)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128  # the default of 5 resets a burst of connections

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        if answer.how == "hang":
            self.released.wait(20)
        if answer.how in ("hang", "dropped"):
            handler.close_connection = True
            return
        handler.send_response(answer.status)
        handler.send_header("content-length", str(len(content)))
        if "content-type" not in {name.lower() for name in answer.headers}:
            handler.send_header("content-type", "application/json")
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        try:
            handler.wfile.write(content if answer.how == "whole" else content[: len(content) // 2])
            handler.wfile.flush()
        except OSError:
            return
        if answer.how == "stall":
            self.released.wait(20)
        if answer.how != "whole":
            handler.close_connection = True


@contextmanager
def recorded_server() -> Iterator[RecordedServer]:
    """Runs a server for the time of the block."""
    server = RecordedServer()
    thread = threading.Thread(target=server._server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server._server.shutdown()
        server._server.server_close()
        thread.join()


def run(provider: Provider, work: Callable[[], Awaitable[Result]]) -> Result:
    """Returns what `work` gives in an event loop of its own, and closes the connections."""

    async def whole() -> Result:
        try:
            return await work()
        finally:
            await provider.close()

    return asyncio.run(whole())


def ask(provider: Provider, request: Request, timeout: float = 10.0) -> Sent:
    """Sends one request in an event loop of its own, and closes the connections."""
    return run(provider, lambda: provider.send(request, timeout))


def failure(provider: Provider, request: Request, timeout: float = 10.0) -> ProviderError:
    """Returns how a request fails, after checking that nothing that a traceback shows holds the key."""
    with pytest.raises(ProviderError) as caught:
        ask(provider, request, timeout)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None, "an error of the SDK hangs on ours; it holds the provider's words"
    return caught.value
