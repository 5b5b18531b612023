"""Anthropic: what arrives at the server, what is read from its replies, failures, batches."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("anthropic")

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.providers import Anthropic, ProviderError
from lf_lightning.scoring.providers.base import Sent
from lf_lightning.scoring.requests import Reply, Request, Usage
from tests.scoring.providers.recorded_server import KEY, Answer, Asked, RecordedServer, ask, failure, run

PLAIN = Request("You label texts.", "Is it blue?", 5)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


def message(text: str | None = "Yes", stop: str = "end_turn") -> dict[str, Any]:
    return {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5-20251001",
        "content": []
        if text is None
        else [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "text", "text": text}],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 20, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 7, "output_tokens": 4},
    }


def error(kind: str, words: str = "No.") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_011"}


@pytest.fixture
def claude(server: RecordedServer) -> Anthropic:
    return Anthropic("claude-haiku-4-5", base_url=server.url)


def test_a_plain_request_and_its_reply(server: RecordedServer, claude: Anthropic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "other-canary")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    limits = {
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2020-01-01T00:00:00Z",
        "anthropic-ratelimit-tokens-remaining": "30000",
    }
    server.answers = [Answer(message(), headers=limits)]
    sent = ask(claude, PLAIN)
    asked = server.asked[0]
    assert (asked.method, asked.path) == ("POST", "/v1/messages")
    assert KEY in {asked.headers.get("x-api-key"), asked.headers.get("authorization", "").removeprefix("Bearer ")}
    assert "other-canary" not in str(asked.headers)
    assert asked.json == {
        "model": "claude-haiku-4-5",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "Is it blue?"}],
        "system": "You label texts.",
    }
    assert sent.raw == message()
    assert (sent.limits.remaining_requests, sent.limits.remaining_tokens) == (49, 30000)
    assert (sent.limits.reset_requests, sent.limits.reset_tokens) == (0, None)
    assert claude.read(sent.raw) == Reply("Yes", "stop", usage=Usage(30, 4, 7, 3))


def test_schema_effort_thinking_and_temperature_arrive(server: RecordedServer) -> None:
    server.answers = [Answer(message('{"a": 1}'))]
    provider = Anthropic("claude-opus-4-6", thinking="disabled", effort="low", base_url=server.url)
    sent = ask(provider, Request("", "x\ud800", 20, temperature=0.5, schema=SCHEMA, sample=4))
    assert server.asked[0].json == {
        "model": "claude-opus-4-6",
        "max_tokens": 20,
        "messages": [{"role": "user", "content": "x?"}],
        "temperature": 0.5,
        "thinking": {"type": "disabled"},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    }
    assert provider.read(sent.raw).text == '{"a": 1}'


def test_log_probabilities_are_refused_before_anything_is_sent(server: RecordedServer, claude: Anthropic) -> None:
    with pytest.raises(ConfigurationError, match="another mode"):
        ask(claude, Request("", "x", 1, top_logprobs=5))
    assert server.asked == []


@pytest.mark.parametrize(
    ("raw", "text", "finish"),
    [
        (message(None, "refusal"), "", "refused"),
        (message("Half", "max_tokens"), "Half", "length"),
        (message("Half", "model_context_window_exceeded"), "Half", "length"),
        (message(None), "", "stop"),
    ],
)
def test_how_replies_end(claude: Anthropic, raw: dict[str, Any], text: str, finish: Any) -> None:
    assert claude.read(raw) == Reply(text, finish, usage=Usage(30, 4, 7, 3))


def test_a_reply_without_content_is_no_reply(claude: Anthropic) -> None:
    with pytest.raises(ValueError, match="no content"):
        claude.read({"type": "error"})


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, error("authentication_error", f"invalid x-api-key {KEY}"), "denied"),
        (403, error("permission_error"), "denied"),
        (402, error("billing_error"), "quota"),
        (400, error("invalid_request_error", "Your credit balance is too low to access the Anthropic API."), "quota"),
        (400, error("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"), "rejected"),
        (400, error("invalid_request_error", f"messages: something about {KEY}"), "rejected"),
        (413, error("request_too_large"), "rejected"),
        (429, error("rate_limit_error"), "rate_limited"),
        (500, error("api_error"), "unavailable"),
        (503, b"<html>no</html>", "unavailable"),
        (504, error("timeout_error"), "timeout"),
        (529, error("overloaded_error"), "unavailable"),
    ],
)
def test_every_status_of_failure(server: RecordedServer, claude: Anthropic, status: int, body: Any, kind: str) -> None:
    server.answers = [Answer(body, status, {"retry-after": "12"})]
    failed = failure(claude, PLAIN)
    assert (failed.kind, failed.status) == (kind, status)
    assert failed.retry_after == (None if kind == "rejected" else 12)
    assert len(server.asked) == 1, "the SDK's own retries are off"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(b"<html>Welcome</html>", headers={"content-type": "text/html"}), "garbled"),
        (Answer(b'{"content": ['), "garbled"),
        (Answer(message(), how="cut"), "garbled"),
        (Answer(None, how="dropped"), "disconnected"),
        (Answer(message(), how="hang"), "timeout"),
        (Answer(message(), how="stall"), "timeout"),
    ],
)
def test_bodies_that_are_no_reply(server: RecordedServer, claude: Anthropic, answer: Answer, kind: str) -> None:
    server.answers = [answer]
    failed = failure(claude, PLAIN, timeout=0.5 if kind == "timeout" else 10)
    assert (failed.kind, failed.maybe_billed) == (kind, True)
    assert len(server.asked) == 1


def test_a_refused_connection_was_not_billed() -> None:
    assert failure(Anthropic("claude", base_url="http://127.0.0.1:1"), PLAIN).kind == "unavailable"


@pytest.mark.parametrize(
    ("words", "request_", "way_out"),
    [
        ("`temperature` is deprecated for this model.", Request("", "x", 1, temperature=0.0), "temperature=None"),
        ("output_config.format: schema is too complex", Request("", "x", 1, schema=SCHEMA), "simpler schema"),
    ],
)
def test_what_a_model_cannot_do_names_the_way_out(
    server: RecordedServer, claude: Anthropic, words: str, request_: Request, way_out: str
) -> None:
    server.answers = [Answer(error("invalid_request_error", words), 400)]
    with pytest.raises(ConfigurationError, match=way_out):
        ask(claude, request_)


def test_a_missing_key_is_told_before_anything_is_sent(
    server: RecordedServer, claude: Anthropic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    assert failure(claude, PLAIN).kind == "denied"
    assert server.asked == []


def test_identity() -> None:
    plain = {"provider": "anthropic", "model": "m", "base_url": "https://api.anthropic.com"}
    assert Anthropic("m").identity == plain
    assert Anthropic("m", thinking="disabled", effort="low").identity == plain | {"thinking": "disabled", "effort": "low"}


def batch_object(url: str, status: str) -> dict[str, Any]:
    counts = {"processing": 0, "succeeded": 1, "errored": 2, "canceled": 0, "expired": 1}
    return {
        "id": "msgbatch_1",
        "type": "message_batch",
        "processing_status": status,
        "request_counts": counts,
        "ended_at": None,
        "created_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-02T00:00:00Z",
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": f"{url}/v1/messages/batches/msgbatch_1/results" if status == "ended" else None,
    }


def test_a_batch_is_submitted_polled_and_collected(server: RecordedServer, claude: Anthropic) -> None:
    key = "k" * 64
    results = [
        {"custom_id": key, "result": {"type": "succeeded", "message": message()}},
        {"custom_id": "b", "result": {"type": "errored", "error": error("invalid_request_error", "prompt is too long")}},
        {"custom_id": "c", "result": {"type": "errored", "error": error("overloaded_error")}},
        {"custom_id": "d", "result": {"type": "expired"}},
    ]
    states = iter(["in_progress", "ended", "ended"])

    def reply(asked: Asked) -> Answer:
        if asked.path.endswith("/results"):
            lines = "".join(json.dumps(each) + "\n" for each in results)
            return Answer(lines.encode(), headers={"content-type": "application/x-jsonl"})
        return Answer(batch_object(server.url, "in_progress" if asked.method == "POST" else next(states)))

    server.reply = reply
    request = Request("", "x", 5, temperature=0.0)
    assert run(claude, lambda: claude.submit({key: request}, "label")) == "msgbatch_1"
    assert (server.asked[0].path, server.asked[0].json) == (
        "/v1/messages/batches",
        {"requests": [{"custom_id": key, "params": claude.body(request)}]},
    )
    assert run(claude, lambda: claude.poll("msgbatch_1")) == "running"
    assert run(claude, lambda: claude.poll("msgbatch_1")) == "done"
    collected = dict(run(claude, lambda: claude.collect("msgbatch_1")))
    sent = collected[key]
    assert isinstance(sent, Sent)
    assert claude.read(sent.raw) == Reply("Yes", "stop", usage=Usage(30, 4, 7, 3))
    kinds = {k: each.kind for k, each in collected.items() if isinstance(each, ProviderError)}
    assert kinds == {"b": "rejected", "c": "unavailable", "d": "unavailable"}
    assert run(claude, lambda: claude.find("label")) is None
    assert not claude.can_find


def test_a_batch_that_cannot_be_submitted_says_why(server: RecordedServer, claude: Anthropic) -> None:
    server.answers = [Answer(error("authentication_error", f"bad key {KEY}"), 401)]
    with pytest.raises(ProviderError) as caught:
        run(claude, lambda: claude.submit({"a": PLAIN}, "label"))
    assert caught.value.kind == "denied"
    assert KEY not in str(caught.value)
    assert caught.value.__context__ is None
