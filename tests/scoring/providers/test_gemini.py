"""Gemini: what arrives at the server, what is read from its replies, failures, batches."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("google.genai")

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.providers import Gemini, ProviderError
from lf_lightning.scoring.providers.base import Sent
from lf_lightning.scoring.requests import Reply, Request, Usage
from tests.scoring.providers.recorded_server import KEY, Answer, Asked, RecordedServer, ask, failure, run

# google-genai derives its session from aiohttp's, where aiohttp is installed, which aiohttp discourages.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

PLAIN = Request("You label texts.", "Is it blue?", 5)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
BILLED = Usage(19, 10, 16)


def generated(text: str | None = "Yes", reason: str = "STOP", **candidate: Any) -> dict[str, Any]:
    content = (
        {"role": "model"} if text is None else {"role": "model", "parts": [{"text": "Hm.", "thought": True}, {"text": text}]}
    )
    return {
        "candidates": [{"content": content, "finishReason": reason, "index": 0, **candidate}],
        "usageMetadata": {
            "promptTokenCount": 19,
            "candidatesTokenCount": 3,
            "thoughtsTokenCount": 7,
            "cachedContentTokenCount": 16,
            "totalTokenCount": 29,
        },
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r1",
    }


def error(code: int, status: str, words: str = "No.", details: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": words, "status": status, "details": details or []}}


@pytest.fixture
def gemini(server: RecordedServer) -> Gemini:
    return Gemini("gemini-2.5-flash", base_url=server.url)


def test_a_plain_request_and_its_reply(server: RecordedServer, gemini: Gemini, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "other-canary")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_GENAI_API_VERSION", "v9")
    server.answers = [Answer(generated())]
    sent = ask(gemini, PLAIN)
    asked = server.asked[0]
    assert (asked.method, asked.path) == ("POST", "/v1beta/models/gemini-2.5-flash:generateContent")
    assert asked.headers["x-goog-api-key"] == KEY
    assert asked.json == {
        "contents": [{"role": "user", "parts": [{"text": "Is it blue?"}]}],
        "systemInstruction": {"parts": [{"text": "You label texts."}]},
        "generationConfig": {"maxOutputTokens": 5},
    }
    assert sent.raw == generated()
    assert gemini.read(sent.raw) == Reply("Yes", "stop", usage=BILLED)


@pytest.mark.parametrize(
    ("options", "thinking"),
    [({}, None), ({"thinking_budget": 0}, {"thinkingBudget": 0}), ({"thinking_level": "low"}, {"thinkingLevel": "LOW"})],
)
def test_every_field_of_a_request_arrives_as_a_batch_would_hold_it(
    server: RecordedServer, options: dict[str, Any], thinking: dict[str, Any] | None
) -> None:
    server.answers = [Answer(generated('{"a": 1}'))]
    provider = Gemini("models/gemini-2.5-flash", base_url=server.url, **options)
    request = Request("", "x\ud800", 20, temperature=0.0, top_logprobs=5, schema=SCHEMA, sample=3)
    ask(provider, request)
    # The SDK writes nested names with underscores; the interface, like all of JSON for protocol buffers, reads both forms.
    text = server.asked[0].body.decode().replace("thinking_budget", "thinkingBudget").replace("thinking_level", "thinkingLevel")
    arrived = json.loads(text)
    assert arrived == provider.batch_entry("k", request)["request"]
    assert arrived["contents"][0]["parts"] == [{"text": "x?"}]
    settings = {
        "maxOutputTokens": 20,
        "temperature": 0.0,
        "responseLogprobs": True,
        "logprobs": 5,
        "seed": 3,
        "responseMimeType": "application/json",
        "responseJsonSchema": SCHEMA,
    }
    assert arrived["generationConfig"] == (settings if thinking is None else settings | {"thinkingConfig": thinking})


def test_log_probabilities_are_read_best_first(gemini: Gemini) -> None:
    result = {
        "topCandidates": [
            {
                "candidates": [
                    {"token": "A", "tokenId": 1, "logProbability": -0.1},
                    {"token": "B", "tokenId": 2, "logProbability": -2.5},
                ]
            },
            {"candidates": [{"token": ".", "logProbability": -0.2}]},
        ],
        "chosenCandidates": [{"token": "B", "tokenId": 2, "logProbability": -2.5}, {"token": "!", "logProbability": -7.0}],
    }
    expected = ((("A", -0.1), ("B", -2.5)), ((".", -0.2), ("!", -7.0)))
    assert gemini.read(generated(logprobsResult=result)).alternatives == expected
    assert gemini.read(generated(logprobsResult={"chosenCandidates": result["chosenCandidates"]})).alternatives == (
        (("B", -2.5),),
        (("!", -7.0),),
    )
    assert gemini.read(generated()).alternatives == ()


@pytest.mark.parametrize(
    ("raw", "text", "finish"),
    [
        (generated(None, "SAFETY"), "", "refused"),
        (generated(None, "PROHIBITED_CONTENT"), "", "refused"),
        (generated(None, "RECITATION"), "", "refused"),
        (generated("Half", "MAX_TOKENS"), "Half", "length"),
        (generated(None, "MAX_TOKENS"), "", "length"),
        (generated(None, "OTHER"), "", "stop"),
        ({**generated(), "candidates": [], "promptFeedback": {"blockReason": "SAFETY"}}, "", "refused"),
    ],
)
def test_how_replies_end(gemini: Gemini, raw: dict[str, Any], text: str, finish: Any) -> None:
    assert gemini.read(raw) == Reply(text, finish, usage=BILLED)


@pytest.mark.parametrize("raw", [{}, {"candidates": []}, {"candidates": ["x"]}])
def test_a_reply_without_candidates_is_no_reply(gemini: Gemini, raw: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no candidates"):
        gemini.read(raw)


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
DAY = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
NO_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}


@pytest.mark.parametrize(
    ("status", "body", "kind", "wait"),
    [
        (400, error(400, "INVALID_ARGUMENT", f"API key not valid: {KEY}", [NO_KEY]), "denied", None),
        (403, error(403, "PERMISSION_DENIED"), "denied", None),
        (429, error(429, "RESOURCE_EXHAUSTED", details=[RETRY]), "rate_limited", 34.5),
        (429, error(429, "RESOURCE_EXHAUSTED", details=[RETRY, DAY]), "quota", None),
        (
            400,
            error(400, "INVALID_ARGUMENT", "The input token count exceeds the maximum number of tokens allowed"),
            "rejected",
            None,
        ),
        (400, error(400, "INVALID_ARGUMENT", f"Other words about {KEY}"), "rejected", None),
        (500, error(500, "INTERNAL"), "unavailable", None),
        (503, error(503, "UNAVAILABLE", "The model is overloaded."), "unavailable", None),
        (503, b"<html>no</html>", "unavailable", None),
        (504, error(504, "DEADLINE_EXCEEDED"), "timeout", None),
    ],
)
def test_every_status_of_failure(
    server: RecordedServer, gemini: Gemini, status: int, body: Any, kind: str, wait: float | None
) -> None:
    server.answers = [Answer(body, status)]
    failed = failure(gemini, PLAIN)
    assert (failed.kind, failed.retry_after) == (kind, wait)
    assert len(server.asked) == 1, "the SDK's own retries are off"


def test_retry_after_header(server: RecordedServer, gemini: Gemini) -> None:
    server.answers = [Answer(error(429, "RESOURCE_EXHAUSTED", details=[RETRY]), 429, {"Retry-After": "2"})]
    assert failure(gemini, PLAIN).retry_after == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(b"<html>Welcome</html>", headers={"content-type": "text/html"}), "garbled"),
        (Answer(b'{"candidates": ['), "garbled"),
        (Answer(generated(), how="cut"), "garbled"),
        (Answer(None, how="dropped"), "disconnected"),
        (Answer(generated(), how="hang"), "timeout"),
        (Answer(generated(), how="stall"), "timeout"),
    ],
)
def test_bodies_that_are_no_reply_are_not_asked_again_by_the_sdk(
    server: RecordedServer, gemini: Gemini, answer: Answer, kind: str
) -> None:
    server.answers = [answer]
    failed = failure(gemini, PLAIN, timeout=0.5 if kind == "timeout" else 10)
    assert (failed.kind, failed.maybe_billed) == (kind, True)
    assert len(server.asked) == 1


def test_a_refused_connection_was_not_billed() -> None:
    assert failure(Gemini("m", base_url="http://127.0.0.1:1"), PLAIN).kind == "unavailable"


@pytest.mark.parametrize(
    ("status", "body", "request_", "way_out"),
    [
        (
            400,
            error(400, "INVALID_ARGUMENT", "Logprobs is not enabled for models/x"),
            Request("", "x", 1, top_logprobs=5),
            "another mode",
        ),
        (400, error(400, "INVALID_ARGUMENT", "Schema is too deep"), Request("", "x", 1, schema=SCHEMA), "mode vote"),
        (400, error(400, "INVALID_ARGUMENT", "Thinking budget 0 is invalid"), Request("", "x", 1), "leave both out"),
        (404, error(404, "NOT_FOUND"), Request("", "x", 1), "check model"),
    ],
)
def test_what_a_model_cannot_do_names_the_way_out(
    server: RecordedServer, gemini: Gemini, status: int, body: Any, request_: Request, way_out: str
) -> None:
    server.answers = [Answer(body, status)]
    with pytest.raises(ConfigurationError, match=way_out):
        ask(gemini, request_)


def test_a_missing_key_is_told_before_anything_is_sent(
    server: RecordedServer, gemini: Gemini, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GEMINI_API_KEY")
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    assert failure(gemini, PLAIN).kind == "denied"
    assert server.asked == []


def test_identity() -> None:
    plain = {"provider": "google", "model": "m", "base_url": "https://generativelanguage.googleapis.com"}
    assert Gemini("models/m").identity == Gemini("m").identity == plain
    assert Gemini("m", thinking_budget=0).identity == plain | {"thinking_budget": 0}
    with pytest.raises(ConfigurationError, match="one of the two"):
        Gemini("m", thinking_budget=0, thinking_level="low")


def operation(state: str, label: str = "label", file: str | None = None) -> dict[str, Any]:
    output = {} if file is None else {"output": {"responsesFile": file}}
    metadata = {"@type": "x.GenerateContentBatch", "model": "models/m", "displayName": label, "state": state, **output}
    return {"name": "batches/1", "metadata": metadata, "done": file is not None}


def test_a_batch_is_submitted_found_polled_and_collected(server: RecordedServer, gemini: Gemini) -> None:
    results = [
        {"key": "a", "response": generated()},
        {"key": "b", "error": {"code": 3, "message": "The input token count exceeds", "status": "INVALID_ARGUMENT"}},
        {"key": "c", "error": {"code": 503, "message": "overloaded"}},
    ]
    states = iter(["BATCH_STATE_PENDING", "BATCH_STATE_EXPIRED"])

    def reply(asked: Asked) -> Answer:
        path = asked.path.split("?")[0]
        if asked.method == "POST" and path == "/upload/v1beta/files":
            return Answer({}, headers={"x-goog-upload-url": f"{server.url}/upload/session", "x-goog-upload-status": "active"})
        if path == "/upload/session":
            return Answer({"file": {"name": "files/in"}}, headers={"x-goog-upload-status": "final"})
        if path.endswith(":batchGenerateContent"):
            return Answer(operation("BATCH_STATE_PENDING"))
        if path == "/v1beta/batches":
            return Answer({"operations": [operation("BATCH_STATE_RUNNING", "other"), operation("BATCH_STATE_RUNNING")]})
        if path == "/v1beta/files/out:download":
            return Answer("".join(json.dumps(each) + "\n" for each in results).encode(), headers={"content-type": "text/plain"})
        state = next(states, None)
        return Answer(operation(state) if state else operation("BATCH_STATE_SUCCEEDED", file="files/out"))

    server.reply = reply
    requests = {"a": PLAIN, "b": Request("", "line\u2028break\n", 5)}
    assert run(gemini, lambda: gemini.submit(requests, "label")) == "batches/1"
    started, session, created = server.asked
    assert started.json["file"]["display_name"] == "label"
    lines = [json.loads(line) for line in session.body.decode().strip().split("\n")]
    assert lines == [gemini.batch_entry(key, request) for key, request in requests.items()]
    assert created.path.split("?")[0] == "/v1beta/models/gemini-2.5-flash:batchGenerateContent"
    assert created.json == {"batch": {"inputConfig": {"fileName": "files/in"}, "displayName": "label"}}
    assert run(gemini, lambda: gemini.find("label")) == "batches/1"
    assert run(gemini, lambda: gemini.find("nobody's")) is None
    assert [run(gemini, lambda: gemini.poll("batches/1")) for _ in range(3)] == ["running", "expired", "done"]
    collected = dict(run(gemini, lambda: gemini.collect("batches/1")))
    sent = collected["a"]
    assert isinstance(sent, Sent)
    assert gemini.read(sent.raw) == Reply("Yes", "stop", usage=BILLED)
    kinds = {k: each.kind for k, each in collected.items() if isinstance(each, ProviderError)}
    assert kinds == {"b": "rejected", "c": "unavailable"}
