"""A provider in the test's own process: a function from requests to replies, and a count of what was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from lf_lightning.scoring.providers.base import Provider, ProviderError, Sent
from lf_lightning.scoring.requests import Reply, Request, Usage

Answer = Callable[[Request], "str | dict[str, float] | Reply | Exception"]


class FakeProvider(Provider):
    """Answers by a function: a text, option letters with their log-probabilities, a whole reply, or an error to raise.

    A dict is given as alternatives only where the request asks for log-probabilities; else its best key is the text.
    """

    name: ClassVar[str] = "fake"

    def __init__(self, answer: Answer, model: str = "fake-1") -> None:
        self.answer, self.model = answer, model
        self.asked: list[Request] = []

    @property
    def identity(self) -> dict[str, Any]:
        return {"provider": self.name, "model": self.model}

    async def send(self, request: Request, timeout: float) -> Sent:
        self.asked.append(request)
        found = self.answer(request)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, Reply):
            reply = found
        elif isinstance(found, dict):
            pairs = tuple(sorted(found.items(), key=lambda pair: -pair[1]))
            reply = Reply(pairs[0][0], "stop", (pairs,) if request.top_logprobs else ())
        else:
            reply = Reply(found, "stop")
        return Sent(
            {
                "text": reply.text,
                "finish": reply.finish,
                "alternatives": [[list(pair) for pair in token] for token in reply.alternatives],
                "input": len(request.prompt) // 4 + 1,
                "output": len(reply.text) // 4 + 1,
            }
        )

    def read(self, raw: Mapping[str, Any]) -> Reply:
        if raw["text"] == "no choices":
            raise ValueError("no choices")
        alternatives = tuple(tuple((token, value) for token, value in pairs) for pairs in raw["alternatives"])
        return Reply(raw["text"], raw["finish"], alternatives, Usage(raw["input"], raw["output"]))


def rejected(message: str = "too long") -> ProviderError:
    return ProviderError("rejected", message, status=400)
