"""A chat-completions server over real HTTP that fails on purpose, with its own record of what it received, served and billed.

It runs as a process of its own, so that clients that are killed and clients in several processes share one. What it answers
depends on the text; which request fails, and how, on the seed, the text, and how often the text has come before.

    python fault_server.py '{"latency": 0.05, "faults": {"500": 0.1}}'      prints its port, ends with its standard input
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

KEY = "sk-canary-0123456789abcdef"
INPUT_NANODOLLARS, OUTPUT_NANODOLLARS = 1000, 4000
"""What a token costs: 1 and 4 dollars per million."""
CODES = "ABCDEFGHIJKLMNOPQRST"


@dataclass
class Behaviour:
    """How the server behaves.

    Attributes:
        seed: Of latencies and faults.
        latency: Mean seconds of a reply; each takes between half and one and a half of it.
        faults: Share of the requests that end so: a status (429, 500, 503, 529, 400); `reset` before a reply; served and billed
            but never sent (`hang`), sent in half (`cut`) or as no JSON (`garbled`); a proxy's page with 200, not billed
            (`html`); billed replies without an answer: `empty` (no choices), `refusal`, `filtered`, `length`.
        retry_after: What a 429 by fault asks to wait, one of these by chance; None: the header is missing.
        hang: Seconds after which a hanging connection is closed.
        rate, burst: Requests per second, and how many may come at once; beyond: 429 with headers. 0: no limit.
        tokens_per_minute: Same for tokens, a second's at once. 0: no limit.
        headers: Whether replies carry the x-ratelimit headers.
        slots: More than so many at once: 503. 0: no limit.
        quota: Nanodollars after which every reply is `insufficient_quota`. 0: no limit.
        longest: Characters of a prompt above which it is 400.
    """

    seed: int = 0
    latency: float = 0.0
    faults: dict[str, float] = field(default_factory=dict)
    retry_after: list[float | None] = field(default_factory=lambda: [0.0])
    hang: float = 30.0
    rate: float = 0.0
    burst: float = 50.0
    tokens_per_minute: float = 0.0
    headers: bool = True
    slots: int = 0
    quota: int = 0
    longest: int = 100_000


@dataclass
class Line:
    """What became of one text."""

    received: int = 0
    served: int = 0
    billed: int = 0
    nanodollars: int = 0
    lost: int = 0  # billed, and the reply never arrived whole


class Bucket:
    """Tokens that come back at a steady rate."""

    def __init__(self, rate: float, size: float) -> None:
        self.rate, self.size, self.left, self.at = rate, size, size, time.monotonic()

    def take(self, amount: float) -> float:
        """Takes `amount` and returns 0; or returns the seconds until there is so much."""
        if not self.rate:
            return 0.0
        now = time.monotonic()
        self.left, self.at = min(self.size, self.left + (now - self.at) * self.rate), now
        if self.left >= amount:
            self.left -= amount
            return 0.0
        return (amount - self.left) / self.rate

    def headers(self, what: str) -> str:
        if not self.rate:
            return ""
        return (
            f"x-ratelimit-limit-{what}: {math.floor(self.size)}\r\nx-ratelimit-remaining-{what}: {math.floor(self.left)}\r\n"
            f"x-ratelimit-reset-{what}: {(self.size - self.left) / self.rate:.3f}s\r\n"
        )


class Service:
    """The server's state, shared by its connections."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behave(behaviour)
        self.lines: dict[str, Line] = {}
        self.endings: Counter[str] = Counter()
        self.busy = 0
        self.most_at_once = 0
        self.nanodollars = 0
        self.first = self.last = 0.0

    def behave(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests = Bucket(behaviour.rate, behaviour.burst)
        self.tokens = Bucket(behaviour.tokens_per_minute / 60, behaviour.tokens_per_minute / 60)

    def record(self) -> dict[str, Any]:
        return {
            "lines": {name: vars(line) for name, line in self.lines.items()},
            "endings": dict(self.endings),
            "nanodollars": self.nanodollars,
            "most_at_once": self.most_at_once,
            "first": self.first,
            "last": self.last,
        }


class Connection(asyncio.Protocol):
    """One kept-alive connection; requests on it come one after the other."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        self.handle(lines[0].split()[0], lines[0].split()[1], headers, rest[:length])

    def handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        service = self.service
        if path == "/record":
            self.reply(200, service.record())
        elif path == "/behave":
            service.behave(Behaviour(**json.loads(body)))
            self.reply(200, {})
        elif not path.endswith("/chat/completions"):
            self.reply(404, {"error": {"message": f"no such page: {path}"}})
        elif headers.get("authorization") != f"Bearer {KEY}":
            service.endings["401"] += 1
            shown = headers.get("authorization", "").removeprefix("Bearer ")
            self.reply(401, {"error": {"message": f"Incorrect API key provided: {shown}.", "code": "invalid_api_key"}})
        else:
            self.chat(json.loads(body))

    def chat(self, asked: dict[str, Any]) -> None:
        service, behaviour = self.service, self.service.behaviour
        prompt = str(asked["messages"][-1]["content"])
        name = prompt if asked.get("seed") in (None, 0) else f"{prompt}#{asked['seed']}"
        line = service.lines.setdefault(name, Line())
        line.received += 1
        service.last = time.time()
        service.first = service.first or service.last
        chance = random.Random(f"{behaviour.seed}/{name}/{line.received}")
        most = int(asked.get("max_completion_tokens") or asked.get("max_tokens") or 16)
        wait = max(service.requests.take(1), service.tokens.take(len(prompt) // 4 + most))
        if wait > 0:
            self.refuse("limited", 429, "Rate limit reached for requests", "rate_limit_exceeded", wait)
            return
        if behaviour.quota and service.nanodollars >= behaviour.quota:
            self.refuse("quota", 429, "You exceeded your current quota", "insufficient_quota")
            return
        if len(prompt) > behaviour.longest:
            self.refuse("400", 400, "maximum context length exceeded", "context_length_exceeded")
            return
        if behaviour.slots and service.busy >= behaviour.slots:
            self.refuse("503", 503, "The server is overloaded", "overloaded")
            return
        kind = self.fault(chance)
        if kind == "429":
            self.refuse(kind, 429, "Rate limit reached", "rate_limit_exceeded", chance.choice(behaviour.retry_after))
            return
        if kind in ("400", "500", "503", "529"):
            self.refuse(kind, int(kind), "made to fail", "server_error")
            return
        if kind == "reset":
            service.endings[kind] += 1
            self.transport.abort()
            return
        service.busy += 1
        service.most_at_once = max(service.most_at_once, service.busy)
        delay = behaviour.latency * chance.uniform(0.5, 1.5)
        asyncio.get_running_loop().call_later(delay, self.serve, asked, prompt, line, kind)

    def fault(self, chance: random.Random) -> str:
        drawn = chance.random()
        for kind, share in self.service.behaviour.faults.items():
            if drawn < share:
                return kind
            drawn -= share
        return ""

    def serve(self, asked: dict[str, Any], prompt: str, line: Line, kind: str) -> None:
        service = self.service
        service.busy -= 1
        service.endings[kind or "answered"] += 1
        if kind == "html":
            self.send(200, b"<html><body>Bad gateway</body></html>", "text/html")
            return
        answer = answer_to(asked, prompt, kind)
        usage = answer["usage"]
        cost = usage["prompt_tokens"] * INPUT_NANODOLLARS + usage["completion_tokens"] * OUTPUT_NANODOLLARS
        line.billed += 1
        line.nanodollars += cost
        service.nanodollars += cost
        body = json.dumps(answer).encode()
        if kind in ("hang", "cut", "garbled"):
            line.lost += 1
        if kind == "hang":
            asyncio.get_running_loop().call_later(service.behaviour.hang, self.transport.abort)
        elif kind == "cut":
            self.send(200, body[: len(body) // 2], length=len(body))
            self.transport.close()
        elif kind == "garbled":
            self.send(200, body[: len(body) // 2] + b"\xff{]")
        else:
            line.served += 1
            self.send(200, body, extra=self.limits())

    def limits(self) -> str:
        if not self.service.behaviour.headers:
            return ""
        return self.service.requests.headers("requests") + self.service.tokens.headers("tokens")

    def refuse(self, ending: str, status: int, message: str, code: str, wait: float | None = None) -> None:
        self.service.endings[ending] += 1
        extra = "" if wait is None else f"retry-after: {math.ceil(wait)}\r\nretry-after-ms: {math.ceil(wait * 1000)}\r\n"
        self.reply(status, {"error": {"message": message, "type": code, "code": code}}, extra + self.limits())

    def reply(self, status: int, content: Mapping[str, Any], extra: str = "") -> None:
        self.send(status, json.dumps(content).encode(), extra=extra)

    def send(
        self, status: int, body: bytes, kind: str = "application/json", extra: str = "", length: int | None = None
    ) -> None:
        size = len(body) if length is None else length
        head = f"HTTP/1.1 {status} Whatever\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\n{extra}\r\n"
        self.transport.write(head.encode("latin-1") + body)


def answer_to(asked: Mapping[str, Any], prompt: str, kind: str = "") -> dict[str, Any]:
    """Returns a chat completion that depends on the question alone."""
    digest = sha256(f"{prompt}/{asked.get('seed') or 0}".encode()).digest()
    schema = (asked.get("response_format") or {}).get("json_schema", {}).get("schema")
    content = json.dumps(instance(schema, digest)) if schema else CODES[digest[0] % 4]
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    if asked.get("logprobs"):
        choice["logprobs"] = {"content": [alternatives(content[:1], digest, int(asked.get("top_logprobs") or 1))]}
    if kind == "refusal":
        message |= {"content": None, "refusal": "I cannot help with that."}
    elif kind == "filtered":
        message["content"] = None
        choice["finish_reason"] = "content_filter"
    elif kind == "length":
        message["content"] = content[: len(content) // 2]
        choice["finish_reason"] = "length"
    output = max(1, len(content) // 4)
    size = len(prompt) // 4 + 3
    return {
        "id": f"chatcmpl-{digest.hex()[:8]}",
        "object": "chat.completion",
        "created": 0,
        "model": asked["model"],
        "choices": [] if kind == "empty" else [choice],
        "usage": {"prompt_tokens": size, "completion_tokens": output, "total_tokens": size + output},
    }


def alternatives(said: str, digest: bytes, count: int) -> dict[str, Any]:
    """Returns a token's candidates: the answer and other codes, 98 % of the probability among the first four."""
    weights = {code: 1 + byte for code, byte in zip(CODES, digest[1:21], strict=False)}
    weights[said] = 600
    total = sum(weights.values()) / 0.98
    ranked = sorted(weights, key=lambda code: -weights[code])[:count]
    candidates = [{"token": code, "logprob": math.log(weights[code] / total), "bytes": list(code.encode())} for code in ranked]
    return {**candidates[0], "top_logprobs": candidates}


def instance(schema: Mapping[str, Any], digest: bytes) -> Any:
    """Returns a value that the JSON schema allows."""
    kind = schema.get("type")
    if "enum" in schema:
        return schema["enum"][digest[0] % len(schema["enum"])]
    if kind == "object":
        return {
            name: instance(part, sha256(digest + name.encode()).digest()) for name, part in schema.get("properties", {}).items()
        }
    if kind == "array":
        return [instance(schema.get("items", {}), digest)]
    if kind in ("integer", "number"):
        low, high = schema.get("minimum", 0), schema.get("maximum", 100)
        return low + digest[0] % (int(high - low) + 1)
    return digest[0] % 2 == 0 if kind == "boolean" else f"reason {digest[0]}"


class FaultServer:
    """The server in a process of its own, as a context manager.

    Args:
        **behaviour: Arguments of `Behaviour`.
    """

    def __init__(self, **behaviour: Any) -> None:
        self.behaviour = behaviour

    def __enter__(self) -> FaultServer:
        command = [sys.executable, str(Path(__file__).resolve()), json.dumps(self.behaviour)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()

    def behave(self, **behaviour: Any) -> None:
        """Changes the behaviour; the record goes on."""
        self._get("/behave", json.dumps(behaviour).encode())

    def record(self) -> dict[str, Any]:
        """Returns what was received, served and billed so far; `lines` by text."""
        found: dict[str, Any] = self._get("/record")
        return found

    def _get(self, page: str, body: bytes | None = None) -> Any:
        with urllib.request.urlopen(self.url.removesuffix("/v1") + page, body, timeout=30) as reply:
            return json.loads(reply.read())


async def main(behaviour: Behaviour) -> None:
    service = Service(behaviour)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(service), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(Behaviour(**json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}"))))
