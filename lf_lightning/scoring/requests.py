"""What is asked of a provider and what comes back, in words that are no provider's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

Finish = Literal["stop", "length", "refused"]


@dataclass(frozen=True)
class Request:
    """One question to a model. Every field changes the answer, so every field is part of the key; nothing else is.

    Attributes:
        system: The instructions; empty for none.
        prompt: The user's message.
        max_output_tokens: Longest reply; also bounds its cost.
        temperature: None leaves it to the provider.
        top_logprobs: Alternatives per token whose log-probabilities are asked for; 0: none.
        schema: JSON schema that the reply must follow, in the provider's strict mode; None: free text.
        sample: Number of the sample, where a question is asked several times; also sent as the seed where there is one.
    """

    system: str
    prompt: str
    max_output_tokens: int
    temperature: float | None = None
    top_logprobs: int = 0
    schema: Mapping[str, Any] | None = None
    sample: int = 0

    def content(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Returns all that changes the answer: the request, and who is asked (`Provider.identity`)."""
        return {"identity": dict(identity), **vars(self)}

    def key(self, identity: Mapping[str, Any]) -> str:
        """Returns the 64 hex digits of the SHA-256 of `content` as canonical JSON.

        >>> ask = Request("", "Is it blue?", 1)
        >>> ask.key({"model": "a"}) == ask.key({"model": "a"}), ask.key({"model": "a"}) == ask.key({"model": "b"})
        (True, False)
        """
        canonical = json.dumps(
            self.content(identity), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
        )
        return sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class Usage:
    """Tokens that were billed; all 0 where the provider does not tell.

    Attributes:
        input: All tokens of the question.
        output: All tokens of the reply, reasoning among them.
        cached_input: Those among `input` that the provider read from its cache, billed at a lower rate.
        written_input: Those among `input` that it wrote to its cache, billed at a higher rate by some.
    """

    input: int = 0
    output: int = 0
    cached_input: int = 0
    written_input: int = 0


@dataclass(frozen=True)
class Reply:
    """A provider's reply, read from its raw JSON by `Provider.read` alone, so that a better reader costs nothing.

    Attributes:
        text: What the model said; may be empty.
        finish: stop, length (cut by `max_output_tokens`) or refused (a refusal, a content filter).
        alternatives: For each token of the reply the candidates (token, log-probability in nats), best first; empty where
            the provider gave none.
        usage: What was billed.
    """

    text: str
    finish: Finish
    alternatives: tuple[tuple[tuple[str, float], ...], ...] = ()
    usage: Usage = field(default_factory=Usage)
