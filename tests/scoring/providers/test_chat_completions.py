"""Chat completions: what arrives at the server, what is read from its replies, and what becomes of every failure."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import socket
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest

pytest.importorskip("openai")

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.providers import OpenAI, OpenAICompatible, ProviderError
from lf_lightning.scoring.providers.base import RateHeaders
from lf_lightning.scoring.requests import Reply, Request, Usage
from tests.scoring.providers.recorded_server import KEY, Answer, RecordedServer, ask, failure

PLAIN = Request("You label texts.", "Is it blue?", 5)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


def completion(message: dict[str, Any] | None = None, **choice: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "object": "chat.completion",
        "created": 1741569952,
        "model": "gpt-4.1-mini-2025-04-14",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Yes", "refusal": None, "annotations": []} | (message or {}),
                "logprobs": None,
                "finish_reason": "stop",
                **choice,
            }
        ],
        "usage": {
            "prompt_tokens": 19,
            "completion_tokens": 10,
            "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 16, "cache_write_tokens": 2, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }


def token(text: str, value: float, top: list[tuple[str, float]] | None = None) -> dict[str, Any]:
    own: dict[str, Any] = {"token": text, "logprob": value, "bytes": list(text.encode())}
    return own if top is None else own | {"top_logprobs": [token(*each) for each in top]}


def error(
    message: str, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@pytest.fixture
def openai(server: RecordedServer) -> OpenAI:
    return OpenAI("gpt-4.1-mini", base_url=server.url + "/v1")


def test_a_plain_request_and_its_reply(server: RecordedServer, openai: OpenAI) -> None:
    limits = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    server.answers = [Answer(completion(), headers=limits)]
    sent = ask(openai, PLAIN)
    asked = server.asked[0]
    assert (asked.method, asked.path, asked.headers["authorization"]) == ("POST", "/v1/chat/completions", f"Bearer {KEY}")
    assert asked.json == {
        "model": "gpt-4.1-mini",
        "messages": [{"role": "system", "content": "You label texts."}, {"role": "user", "content": "Is it blue?"}],
        "max_completion_tokens": 5,
    }
    assert sent.raw == completion()
    assert sent.limits == RateHeaders(59, 149984, 1.0, 360.0)
    assert openai.read(sent.raw) == Reply("Yes", "stop", usage=Usage(19, 10, 16, 2))


def test_every_field_of_a_request_arrives(server: RecordedServer) -> None:
    server.answers = [Answer(completion())]
    request = Request("", "Which? \ud800 é", 20, temperature=0.0, top_logprobs=20, schema=SCHEMA, sample=3)
    ask(OpenAI("gpt-5.1", reasoning_effort="none", base_url=server.url), request)
    assert server.asked[0].json == {
        "model": "gpt-5.1",
        "messages": [{"role": "user", "content": "Which? ? é"}],
        "max_completion_tokens": 20,
        "temperature": 0.0,
        "logprobs": True,
        "top_logprobs": 20,
        "seed": 3,
        "reasoning_effort": "none",
        "response_format": {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": SCHEMA}},
    }


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (
            "json_schema",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": SCHEMA}}},
        ),
        ("json_object", {"response_format": {"type": "json_object", "schema": SCHEMA}}),
        ("structured_outputs", {"structured_outputs": {"json": SCHEMA}}),
    ],
)
def test_a_compatible_server_is_sent_no_key_and_its_own_fields(
    server: RecordedServer, monkeypatch: pytest.MonkeyPatch, field: Any, expected: dict[str, Any]
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-canary")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-canary")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/elsewhere")
    server.answers = [Answer(completion())]
    ask(OpenAICompatible("qwen", server.url + "/v1/", schema_field=field), Request("", "x", 7, schema=SCHEMA))
    asked = server.asked[0]
    assert asked.path == "/v1/chat/completions"
    assert asked.json == {"model": "qwen", "messages": [{"role": "user", "content": "x"}], "max_tokens": 7, **expected}
    assert "authorization" not in asked.headers
    assert "canary" not in json.dumps(dict(asked.headers))


def test_options_of_compatible_servers(server: RecordedServer) -> None:
    server.answers = [Answer(completion())]
    provider = OpenAICompatible(
        "qwen/qwen3",
        server.url,
        api_key_env="OPENAI_API_KEY",
        max_tokens_field="max_completion_tokens",
        thinking=False,
        reasoning_effort="low",
        upstream="deepinfra",
    )
    ask(provider, Request("", "x", 7))
    body = server.asked[0].json
    assert body["max_completion_tokens"] == 7
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["reasoning_effort"] == "low"
    assert body["provider"] == {"only": ["deepinfra"], "allow_fallbacks": False, "require_parameters": True}
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"


def test_log_probabilities_are_read_best_first_with_the_token_that_was_drawn(openai: OpenAI) -> None:
    content = [
        token("A", -1.5, [("B", -0.5), ("A", -1.5), (" A", -3.0)]),
        token("!", -9.0, [(".", -0.1)]),
        {"token": "x", "logprob": None, "bytes": None, "top_logprobs": []},
    ]
    reply = openai.read(completion(logprobs={"content": content, "refusal": None}))
    assert reply.alternatives == ((("B", -0.5), ("A", -1.5), (" A", -3.0)), ((".", -0.1), ("!", -9.0)), ())


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (completion({"content": None, "refusal": "I cannot."}), Reply("I cannot.", "refused", usage=Usage(19, 10, 16, 2))),
        (completion({"content": "Half"}, finish_reason="content_filter"), Reply("Half", "refused", usage=Usage(19, 10, 16, 2))),
        (completion({"content": None}, finish_reason="length"), Reply("", "length", usage=Usage(19, 10, 16, 2))),
        (completion({"content": ""}), Reply("", "stop", usage=Usage(19, 10, 16, 2))),
        (completion({"content": [{"type": "text", "text": "Yes"}]}), Reply("Yes", "stop", usage=Usage(19, 10, 16, 2))),
        ({**completion(), "usage": None}, Reply("Yes", "stop")),
        (
            completion({"content": None, "tool_calls": [{"id": "c"}]}, finish_reason="tool_calls"),
            Reply("", "stop", usage=Usage(19, 10, 16, 2)),
        ),
    ],
)
def test_how_replies_end(openai: OpenAI, raw: dict[str, Any], expected: Reply) -> None:
    assert openai.read(raw) == expected


@pytest.mark.parametrize(
    "raw", [{}, {"choices": []}, {"choices": None}, {"choices": [{}]}, {"choices": ["Yes"]}, {"error": {"message": "x"}}]
)
def test_a_reply_without_content_is_no_reply(openai: OpenAI, raw: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="has no"):
        openai.read(raw)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, error(f"Incorrect API key provided: {KEY}.", code="invalid_api_key"), "denied", "api_key_env"),
        (403, error("Country not supported", code="unsupported_country_region_territory"), "denied", "403"),
        (402, error("Insufficient Balance", "unknown_error", code="invalid_request_error"), "quota", "credit"),
        (429, error("You exceeded your current quota", "insufficient_quota", code="insufficient_quota"), "quota", "credit"),
        (429, error("Rate limit reached", "requests", code="rate_limit_exceeded"), "rate_limited", "429"),
        (
            400,
            error("This model's maximum context length is 8 tokens", param="messages", code="context_length_exceeded"),
            "rejected",
            "too long",
        ),
        (400, error("the request exceeds the available context size", "exceed_context_size_error"), "rejected", "too long"),
        (400, error(f"Something else about {KEY}", param="messages"), "rejected", "does not take"),
        (413, b"<html>Payload too large</html>", "rejected", "too long"),
        (422, error("Unprocessable"), "rejected", "422"),
        (500, error("The server had an error", "server_error"), "unavailable", "500"),
        (503, b"<html>Overloaded</html>", "unavailable", "503"),
        (529, error("Overloaded", "overloaded_error"), "unavailable", "529"),
        (504, b"", "timeout", "504"),
    ],
)
def test_every_status_of_failure(server: RecordedServer, openai: OpenAI, status: int, body: Any, kind: str, words: str) -> None:
    server.answers = [Answer(body, status)]
    failed = failure(openai, PLAIN)
    assert (failed.kind, failed.status) == (kind, status)
    assert words in str(failed)
    assert len(server.asked) == 1, "the SDK's own retries are off"


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"retry-after": "0"}, 0, 0),
        ({"retry-after": "600"}, 600, 600),
        ({"retry-after": "2", "retry-after-ms": "1500"}, 1.5, 1.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0, 0),
        (
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m30.5s", "x-ratelimit-remaining-requests": "9"},
            90.5,
            90.5,
        ),
    ],
)
def test_how_long_a_429_asks_to_wait(
    server: RecordedServer, openai: OpenAI, headers: dict[str, str], least: float, most: float
) -> None:
    server.answers = [Answer(error("Rate limit reached"), 429, headers)]
    failed = failure(openai, PLAIN)
    assert failed.retry_after is not None
    assert least <= failed.retry_after <= most


def test_a_429_may_name_the_hour(server: RecordedServer, openai: OpenAI) -> None:
    later = format_datetime(datetime.now(timezone.utc) + timedelta(hours=1), usegmt=True)
    server.answers = [Answer(error("Rate limit reached"), 429, {"retry-after": later})]
    failed = failure(openai, PLAIN)
    assert failed.retry_after is not None
    assert 3000 < failed.retry_after <= 3600


@pytest.mark.parametrize("headers", [{}, {"retry-after": "soon"}, {"retry-after": "nan"}, {"retry-after": "-5"}])
def test_a_429_that_does_not_say_how_long(server: RecordedServer, openai: OpenAI, headers: dict[str, str]) -> None:
    server.answers = [Answer(error("Rate limit reached"), 429, headers)]
    assert failure(openai, PLAIN).retry_after is None


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(b"<html>Welcome</html>", headers={"content-type": "text/html"}), "garbled"),
        (Answer(b"<html>Welcome</html>"), "garbled"),
        (Answer(b'{"choices": [{"mess'), "garbled"),
        (Answer(b"[]"), "garbled"),
        (Answer(b""), "garbled"),
        (Answer(completion(), how="cut"), "garbled"),
        (Answer(None, how="dropped"), "disconnected"),
    ],
)
def test_bodies_that_are_no_reply(server: RecordedServer, openai: OpenAI, answer: Answer, kind: str) -> None:
    server.answers = [answer]
    failed = failure(openai, PLAIN)
    assert (failed.kind, failed.maybe_billed, failed.retryable) == (kind, True, True)


@pytest.mark.parametrize("how", ["hang", "stall"])
def test_one_deadline_holds_over_the_whole_request(server: RecordedServer, openai: OpenAI, how: Any) -> None:
    server.answers = [Answer(completion(), how=how)]
    started = time.monotonic()
    failed = failure(openai, PLAIN, timeout=0.3)
    assert (failed.kind, failed.maybe_billed) == ("timeout", True)
    assert time.monotonic() - started < 3


def test_a_refused_connection_was_not_billed() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    failed = failure(OpenAICompatible("m", f"http://127.0.0.1:{port}"), PLAIN)
    assert (failed.kind, failed.maybe_billed) == ("unavailable", False)


def test_not_a_number_in_a_reply_becomes_none(server: RecordedServer, openai: OpenAI) -> None:
    text = json.dumps(completion(logprobs={"content": [token("A", float("-inf"), [("B", -0.5)])]}))
    assert "-Infinity" in text
    server.answers = [Answer(text.encode())]
    sent = ask(openai, PLAIN)
    json.dumps(sent.raw, allow_nan=False)
    assert openai.read(sent.raw).alternatives == ((("B", -0.5),),)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, error("The response was filtered", code="content_filter", param="prompt")),
        (400, error("Invalid prompt: your prompt was flagged", code="invalid_prompt")),
        (403, {"error": {"code": 403, "message": "Input was flagged", "metadata": {"reasons": ["x"], "flagged_input": "x"}}}),
    ],
)
def test_a_blocked_prompt_is_a_refusal_that_cost_nothing(
    server: RecordedServer, openai: OpenAI, status: int, body: Any
) -> None:
    server.answers = [Answer(body, status)]
    assert openai.read(ask(openai, PLAIN).raw) == Reply("", "refused")


@pytest.mark.parametrize(
    ("status", "body", "request_", "way_out"),
    [
        (
            403,
            error("You are not allowed to request logprobs from this model"),
            Request("", "x", 1, top_logprobs=5),
            "another mode",
        ),
        (
            400,
            error("Unsupported", param="top_logprobs", code="unsupported_parameter"),
            Request("", "x", 1, top_logprobs=5),
            "another mode",
        ),
        (
            400,
            error("Unsupported", param="temperature", code="unsupported_value"),
            Request("", "x", 1, temperature=0.0),
            "temperature=None",
        ),
        (
            400,
            error("Invalid schema for response_format", param="response_format"),
            Request("", "x", 1, schema=SCHEMA),
            "without a schema",
        ),
        (400, error("Unsupported parameter: 'max_tokens'", param="max_tokens"), Request("", "x", 1), "max_tokens_field"),
        (404, error("The model does not exist", code="model_not_found"), Request("", "x", 1), "check model"),
        (404, b"<html>Not found</html>", Request("", "x", 1), "base_url"),
    ],
)
def test_what_a_model_cannot_do_stops_the_run_and_names_the_way_out(
    server: RecordedServer, openai: OpenAI, status: int, body: Any, request_: Request, way_out: str
) -> None:
    server.answers = [Answer(body, status)]
    with pytest.raises(ConfigurationError, match=way_out) as caught:
        ask(openai, request_)
    assert caught.value.__context__ is None


def test_a_missing_key_is_told_before_anything_is_sent(
    server: RecordedServer, openai: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    failed = failure(openai, PLAIN)
    assert failed.kind == "denied"
    assert "OPENAI_API_KEY" in str(failed)
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nX-Header: injected")
    assert failure(openai, PLAIN).kind == "denied"
    assert server.asked == []


def test_a_key_in_place_of_its_variable_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="no name of an environment variable") as caught:
        OpenAI("gpt-4.1", api_key_env="sk-proj-canary")
    assert "canary" not in str(caught.value)


def test_the_identity_holds_what_changes_the_answer() -> None:
    identity = OpenAI("gpt-4.1").identity
    assert identity == {"provider": "openai", "model": "gpt-4.1", "base_url": "https://api.openai.com/v1"}
    assert OpenAI("gpt-4.1", base_url="HTTPS://API.openai.com:443/v1/", api_key_env="MY_KEY").identity == identity
    assert OpenAI("gpt-5", reasoning_effort="low").identity["reasoning_effort"] == "low"
    plain = OpenAICompatible("m", "http://localhost:8000/v1")
    assert plain.identity == {"provider": "openai-compatible", "model": "m", "base_url": "http://localhost:8000/v1"}
    options: list[dict[str, Any]] = [
        {"thinking": True},
        {"thinking": False},
        {"reasoning_effort": "low"},
        {"upstream": "a"},
        {"schema_field": "json_object"},
    ]
    keys = {PLAIN.key(OpenAICompatible("m", "http://localhost:8000/v1", **each).identity) for each in [{}, *options]}
    assert len(keys) == 6
    assert (
        plain.identity == OpenAICompatible("m", "http://localhost:8000/v1", max_tokens_field="max_completion_tokens").identity
    )


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x/v1", "http://user:pw@host/v1", "http://host/v1?key=abc", "http://host:no/v1", ""]
)
def test_addresses_that_are_none_or_hold_a_secret(url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        OpenAICompatible("m", url)


def test_one_provider_serves_several_event_loops_and_many_requests_at_once(server: RecordedServer, openai: OpenAI) -> None:
    server.reply = lambda asked: Answer(completion({"content": asked.json["messages"][-1]["content"]}))

    async def many() -> list[str]:
        try:
            sent = await asyncio.gather(*(openai.send(Request("", str(i), 1), 10) for i in range(20)))
        finally:
            await openai.close()
        return [openai.read(each.raw).text for each in sent]

    for _ in range(2):
        assert asyncio.run(many()) == [str(i) for i in range(20)]


def test_construction_and_copies_open_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_socket)
    provider = OpenAI("gpt-4.1")
    for twin in (pickle.loads(pickle.dumps(provider)), copy.deepcopy(provider)):
        assert twin.identity == provider.identity
    assert isinstance(ProviderError("timeout", "x"), Exception)
