"""DeepSeek: what is its own beside chat completions."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("openai")

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.providers import DeepSeek
from lf_lightning.scoring.requests import Reply, Request, Usage
from tests.scoring.providers.recorded_server import KEY, Answer, RecordedServer, ask, failure

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


def completion(message: dict[str, Any], reason: str = "stop") -> dict[str, Any]:
    usage = {"prompt_tokens": 19, "completion_tokens": 10, "prompt_cache_hit_tokens": 16, "prompt_cache_miss_tokens": 3}
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}


def test_thinking_is_off_and_a_schema_is_a_strict_tool(server: RecordedServer) -> None:
    call = {"id": "call_0", "type": "function", "function": {"name": "reply", "arguments": '{"a": 1}'}}
    server.answers = [Answer(completion({"content": "", "tool_calls": [call]}, "tool_calls"))]
    provider = DeepSeek("deepseek-v4-flash", base_url=server.url)
    sent = ask(provider, Request("", "x", 20, temperature=0.0, top_logprobs=20, schema=SCHEMA, sample=2))
    assert (server.asked[0].path, server.asked[0].headers["authorization"]) == ("/chat/completions", f"Bearer {KEY}")
    function = {"name": "reply", "description": "Gives the reply.", "strict": True, "parameters": SCHEMA}
    assert server.asked[0].json == {
        "model": "deepseek-v4-flash",
        "messages": [{"role": "user", "content": "x"}],
        "temperature": 0.0,
        "logprobs": True,
        "top_logprobs": 20,
        "max_tokens": 20,
        "thinking": {"type": "disabled"},
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "reply"}},
    }
    assert provider.read(sent.raw) == Reply('{"a": 1}', "stop", usage=Usage(19, 10, 16))


def test_log_probabilities_need_thinking_off(server: RecordedServer) -> None:
    provider = DeepSeek("deepseek-v4-flash", thinking=True, reasoning_effort="low", base_url=server.url)
    with pytest.raises(ConfigurationError, match="thinking=False"):
        ask(provider, Request("", "x", 1, top_logprobs=5))
    assert server.asked == []
    server.answers = [Answer(completion({"content": "Yes", "reasoning_content": "Hm."}))]
    assert provider.read(ask(provider, Request("", "x", 1)).raw).text == "Yes"
    assert server.asked[0].json["thinking"] == {"type": "enabled"}
    assert server.asked[0].json["reasoning_effort"] == "low"


def test_no_balance_is_quota(server: RecordedServer) -> None:
    server.answers = [Answer({"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}}, 402)]
    assert failure(DeepSeek("m", base_url=server.url), Request("", "x", 1)).kind == "quota"


def test_identity() -> None:
    plain = {"provider": "deepseek", "model": "m", "base_url": "https://api.deepseek.com/beta", "thinking": False}
    assert DeepSeek("m").identity == plain
    assert DeepSeek("m", thinking=True, reasoning_effort="max").identity == plain | {
        "thinking": True,
        "reasoning_effort": "max",
    }
    with pytest.raises(ConfigurationError, match="needs thinking=True"):
        DeepSeek("m", reasoning_effort="low")
