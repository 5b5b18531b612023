"""Whatever JSON a provider sends: it reads as a reply or raises ValueError; every failure is one of ours."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.providers import Anthropic, DeepSeek, Gemini, OpenAI, OpenAICompatible, ProviderError
from lf_lightning.scoring.providers.base import Sent
from lf_lightning.scoring.requests import Reply, Request

TOKEN = {"token": "A", "logprob": -0.5, "logProbability": -0.5, "top_logprobs": [{"token": "B", "logprob": -1.0}]}
CHAT = {
    "choices": [
        {
            "message": {"content": [{"text": "x"}], "refusal": None, "tool_calls": [{"function": {"arguments": "{}"}}]},
            "finish_reason": "stop",
            "logprobs": {"content": [TOKEN, TOKEN]},
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
}
CLAUDE = {
    "content": [{"type": "text", "text": "x"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 2},
}
GEMINI = {
    "candidates": [
        {
            "content": {"parts": [{"text": "x", "thought": False}]},
            "finishReason": "STOP",
            "logprobsResult": {"chosenCandidates": [TOKEN], "topCandidates": [{"candidates": [TOKEN]}]},
        }
    ],
    "promptFeedback": {"blockReason": "SAFETY"},
    "usageMetadata": {"promptTokenCount": 1},
}
ERROR = {
    "error": {
        "message": "m",
        "code": "c",
        "type": "t",
        "param": "p",
        "status": "S",
        "details": [{"reason": "r", "retryDelay": "1s"}],
    }
}
ODD: list[Any] = [None, True, 0, -3, 1e308, "", "x", [], {}, [None], [[]], [{}], {"a": None}, 10**400]
PROVIDERS = [
    (OpenAI("m"), CHAT),
    (OpenAICompatible("m", "http://localhost/v1"), CHAT),
    (DeepSeek("m"), CHAT),
    (Anthropic("m"), CLAUDE),
    (Gemini("m"), GEMINI),
]


def mutants(value: Any, seed: int, number: int) -> Iterator[Any]:
    chance = random.Random(seed)
    for _ in range(number):
        mutant = copy.deepcopy(value)
        for _ in range(chance.choice((1, 1, 2))):
            place = mutant
            while True:
                inside = list(place) if isinstance(place, dict) else list(range(len(place)))
                if not inside:
                    break
                step = chance.choice(inside)
                if isinstance(place[step], (dict, list)) and place[step] and chance.random() < 0.8:
                    place = place[step]
                else:
                    place[step] = chance.choice(ODD)
                    break
        yield mutant


@pytest.mark.parametrize(("provider", "whole"), PROVIDERS, ids=lambda each: getattr(each, "name", ""))
def test_every_json_object_reads_or_is_told_to_be_none(provider: Any, whole: dict[str, Any]) -> None:
    read = 0
    for raw in mutants(whole, 0, 2000):
        try:
            reply = provider.read(raw)
        except ValueError:
            continue
        assert isinstance(reply, Reply)
        assert isinstance(reply.text, str)
        assert min(reply.usage.input, reply.usage.output, reply.usage.cached_input) >= 0
        read += 1
    assert 500 < read < 2000


@pytest.mark.parametrize("provider", [each for each, _ in PROVIDERS], ids=lambda each: each.name)
def test_every_body_of_a_failure_gives_an_error_of_ours(provider: Any) -> None:
    request = Request("", "x", 1, temperature=0.0, top_logprobs=5, schema={})
    for number, body in enumerate(mutants(ERROR, 1, 500)):
        status = [400, 401, 404, 429, 500][number % 5]
        inner = body.get("error") if isinstance(provider, (OpenAI, OpenAICompatible, DeepSeek)) else body
        outcome = provider.outcome_of_status(status, inner, {}, request)
        assert isinstance(outcome, (ProviderError, ConfigurationError, Sent))
