"""OpenAI's batches: a file up, a batch, two files down."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("openai")

from lf_lightning.scoring.providers import OpenAI, ProviderError
from lf_lightning.scoring.providers.base import Sent
from lf_lightning.scoring.requests import Request
from tests.scoring.providers.recorded_server import KEY, Answer, Asked, RecordedServer, run

REPLY = {"id": "c", "object": "chat.completion", "choices": [{"message": {"content": "Yes"}, "finish_reason": "stop"}]}


def batch_object(status: str, number: int = 1, label: str = "label", **files: str) -> dict[str, Any]:
    return {
        "id": f"batch_{number}",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-in",
        "completion_window": "24h",
        "status": status,
        "created_at": 1714508499,
        "metadata": {"lf_lightning": label},
        **files,
    }


@pytest.fixture
def openai(server: RecordedServer) -> OpenAI:
    return OpenAI("gpt-4.1-mini", base_url=server.url + "/v1")


def test_a_batch_is_submitted_polled_and_collected(server: RecordedServer, openai: OpenAI) -> None:
    def line(key: str, status: int, body: Any) -> dict[str, Any]:
        return {
            "id": "r",
            "custom_id": key,
            "response": {"status_code": status, "request_id": "q", "body": body},
            "error": None,
        }

    too_long = {"error": {"message": "too long", "code": "context_length_exceeded", "type": "invalid_request_error"}}
    no_logprobs = {"error": {"message": "Unsupported", "param": "logprobs", "type": "invalid_request_error"}}
    expired = {"id": "r", "custom_id": "d", "response": None, "error": {"code": "batch_expired", "message": "x"}}
    files = {
        "file-out": [line("a", 200, REPLY)],
        "file-err": [line("b", 400, too_long), line("c", 500, None), expired, line("e", 400, no_logprobs)],
    }
    states = iter(["validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelled"])

    def reply(asked: Asked) -> Answer:
        name = asked.path.removeprefix("/v1/files/").removesuffix("/content")
        if name in files:
            content = "".join(json.dumps(each) + "\n" for each in files[name]).encode() + b"not json\n"
            return Answer(content, headers={"content-type": "application/octet-stream"})
        if asked.path == "/v1/files":
            return Answer({"id": "file-in", "object": "file", "bytes": 1, "created_at": 1, "filename": "f", "purpose": "batch"})
        if asked.method == "POST":
            return Answer(batch_object("validating"))
        return Answer(batch_object(next(states, "completed"), output_file_id="file-out", error_file_id="file-err"))

    server.reply = reply
    requests = {"a": Request("", "x", 5, top_logprobs=5), "b": Request("s", "two\u2028 \u0085lines\n", 5)}
    assert run(openai, lambda: openai.submit(requests, "label")) == "batch_1"
    upload, created = server.asked
    assert b'name="purpose"\r\n\r\nbatch' in upload.body
    sent_lines = [
        json.loads(part) for part in upload.body.split(b"\r\n") for part in part.split(b"\n") if part.startswith(b"{")
    ]
    assert sent_lines == [
        {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": openai.body(request)}
        for key, request in requests.items()
    ]
    assert created.path == "/v1/batches"
    assert created.json == {
        "input_file_id": "file-in",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"lf_lightning": "label"},
    }
    polled = [run(openai, lambda: openai.poll("batch_1")) for _ in range(7)]
    assert polled == ["running", "running", "running", "done", "failed", "expired", "expired"]
    collected = dict(run(openai, lambda: openai.collect("batch_1")))
    assert collected["a"] == Sent(REPLY)
    kinds = {k: each.kind for k, each in collected.items() if isinstance(each, ProviderError)}
    assert kinds == {"b": "rejected", "c": "unavailable", "d": "unavailable", "e": "rejected"}


def test_a_batch_is_found_by_its_label_beyond_the_first_page(server: RecordedServer, openai: OpenAI) -> None:
    def reply(asked: Asked) -> Answer:
        second = "after=batch_2" in asked.path
        data = [batch_object("completed", 3, "mine")] if second else [batch_object("in_progress", n, "x") for n in (1, 2)]
        return Answer({"object": "list", "data": data, "has_more": not second, "first_id": "f", "last_id": data[-1]["id"]})

    server.reply = reply
    assert run(openai, lambda: openai.find("mine")) == "batch_3"
    assert run(openai, lambda: openai.find("nobody's")) is None


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer({"error": {"message": f"bad key {KEY}", "code": "invalid_api_key"}}, 401), "denied"),
        (Answer({"error": {"message": "x", "code": "insufficient_quota"}}, 429), "quota"),
        (Answer(None, how="dropped"), "disconnected"),
        (Answer(b"{", how="whole"), "garbled"),
    ],
)
def test_what_fails_says_why_without_the_key(server: RecordedServer, openai: OpenAI, answer: Answer, kind: str) -> None:
    server.answers = [answer]
    with pytest.raises(ProviderError) as caught:
        run(openai, lambda: openai.submit({"a": Request("", "x", 5)}, "label"))
    assert caught.value.kind == kind
    assert KEY not in str(caught.value)
    assert caught.value.__context__ is None
    assert len(server.asked) == 1


def test_requests_are_split_by_number_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    openai = OpenAI("m")
    requests = {str(number): Request("", "x" * 100, 5) for number in range(10)}
    monkeypatch.setattr(OpenAI, "batch_requests", 4)
    assert [list(part) for part in openai.split(requests)] == [list("0123"), list("4567"), list("89")]
    line = len(json.dumps(openai.batch_entry("0", requests["0"]))) + 1
    monkeypatch.setattr(OpenAI, "batch_bytes", 3 * line)
    assert [len(part) for part in openai.split(requests)] == [3, 3, 3, 1]
    monkeypatch.setattr(OpenAI, "batch_bytes", 1)
    assert [len(part) for part in openai.split(requests)] == [1] * 10
    assert list(openai.split({})) == []
