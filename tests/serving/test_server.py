"""`lf serve` in a process of its own: it says what the predictor says, to many at once; bad requests get a reason."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lf_lightning import Predictor
from lf_lightning.predictor.saved import SavedModel
from tests.scoring.gateway.asks import KEY_NAME
from tests.scoring.gateway.fault_server import KEY, FaultServer
from tests.serving.conftest import PATIENCE, Server, serving

SECRET = "zanzibar-7f3a"


@pytest.fixture(scope="module")
def server(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("log"), saved) as running:
        yield running


def probabilities(predictions: Any, labels: list[str]) -> Any:
    return np.array([[said["probabilities"][label] for label in labels] for said in predictions])


def of_32_clients(server: Server, texts: list[str]) -> list[Any]:
    with ThreadPoolExecutor(32) as clients:
        return list(clients.map(lambda text: server.predict(text)[0], texts))


def test_it_says_what_the_predictor_says(server: Server, saved: Path, new_texts: list[str]) -> None:
    predictor = Predictor.of_run(saved, device="cpu")
    found = server.predict(new_texts)
    expected = predictor.opinion(new_texts)
    assert np.abs(probabilities(found, predictor.labels) - expected.probabilities).max() < 1e-6
    assert [said["labels"] for said in found] == [[predictor.labels[k]] for k in expected.decisions]
    assert all(said["asked"] == [] for said in found)
    assert server.predict(new_texts[0])[0]["labels"] == found[0]["labels"]
    assert server.send("/predict", b'{"texts": ["half \\ud800 a goal"]}')[0] == 200


def test_scores_have_their_say(server: Server, saved: Path, new_texts: list[str]) -> None:
    predictor, texts = Predictor.of_run(saved, device="cpu"), new_texts[:3]
    members = np.full((3, 2, 3), np.nan)
    members[0] = [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]
    members[1, 1] = [0.0, 1.0, 0.0]
    given: list[Any] = [
        {name: dict(zip(predictor.labels, members[0, m], strict=True)) for m, name in enumerate(predictor.scorers)},
        {"weak": {"sport": 0, "science": 1, "politics": 0.0}, "good": None},
        None,
    ]
    found = probabilities(server.predict(texts, scores=given), predictor.labels)
    assert np.abs(found - predictor.predict_proba(texts, members)).max() < 1e-6
    assert np.abs(found - predictor.predict_proba(texts))[:2].max() > 1e-3


BAD: dict[str, tuple[Any, int, str]] = {
    "nothing": (b"", 422, "Field required"),
    "half JSON": (b'{"texts": ["a', 400, "no JSON"),
    "no UTF-8": (b'{"texts": ["\xff\xfe"]}', 400, ""),
    "deep JSON": (b"[" * 200_000, 400, ""),
    "a list": (["a"], 422, "body"),
    "a number": ({"texts": 5}, 422, "texts"),
    "a number among texts": ({"texts": ["a", 5]}, 422, r"texts\[1\]"),
    "null": ({"texts": [None]}, 422, r"texts\[0\]"),
    "no texts": ({"texts": []}, 422, "one text at least"),
    "an empty text": ({"texts": ["a", " \n"]}, 422, r"texts\[1\].*white space"),
    "an unknown key": ({"text": "a"}, 422, "texts.*Field required.*not permitted"),
    "1 MB": ({"texts": ["a" * 1_000_000]}, 413, r"20,000 characters.*texts\[0\].*1,000,000"),
    "10,000 texts": ({"texts": ["a"] * 10_000}, 413, r"256 texts, this one has 10,000"),
    "5 MB": ({"texts": ["a" * 1000] * 5000}, 413, r"4,194,304 bytes"),
    "scores of other texts": ({"texts": ["a"], "scores": [None, None]}, 422, "1 texts and 2 scores"),
    "an unknown scorer": ({"texts": ["a"], "scores": [{"gpt": None}]}, 422, r"scores\[0\]\.gpt.*good, weak"),
    "an unknown label": ({"texts": ["a"], "scores": [{"good": {"x": 1}}]}, 422, "politics, science, sport"),
    "NaN": (b'{"texts": ["a"], "scores": [{"good": {"politics": NaN, "science": 0, "sport": 1}}]}', 422, "within 0 and 1"),
    "Infinity": (
        b'{"texts": ["a"], "scores": [{"good": {"politics": 1e999, "science": 0, "sport": 1}}]}',
        422,
        "within 0 and 1",
    ),
    "negative": ({"texts": ["a"], "scores": [{"good": {"politics": -1, "science": 1, "sport": 1}}]}, 422, "within 0 and 1"),
    "no sum of 1": ({"texts": ["a"], "scores": [{"good": {"politics": 1, "science": 1, "sport": 0}}]}, 422, "sum to 1"),
    "text for a number": ({"texts": ["a"], "scores": [{"good": {"politics": "1"}}]}, 422, r"scores\[0\]\.good\.politics"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_get_a_reason(name: str, server: Server) -> None:
    body, status, reason = BAD[name]
    found, problem, headers = server.send("/predict", body)
    assert found == status
    assert headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["title"]
    assert re.search(reason, str(problem["detail"]) + str(problem.get("errors"))), problem
    assert len(str(problem)) < 1500
    assert server.predict("a goal")


def test_a_body_without_a_length_is_bounded_too(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(100):
            connection.sendall(b"10000\r\n" + b"a" * 0x10000 + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        said = connection.recv(4096)
    assert said.startswith(b"HTTP/1.1 413")
    assert b"4,194,304 bytes" in said or b"application/problem+json" in said


def test_wrong_ways_are_told(server: Server) -> None:
    assert server.send("/predict")[0] == 405
    assert server.send("/predict", {"texts": "a"}, "PUT")[0] == 405
    status, problem, headers = server.send("/nowhere")
    assert (status, headers["content-type"]) == (404, "application/problem+json")
    assert "POST /predict" in problem["detail"]
    assert server.send("/predict", b"texts=a", **{"content-type": "application/x-www-form-urlencoded"})[0] == 422


def test_health_info_and_openapi(server: Server, saved: Path) -> None:
    assert server.send("/health")[:2] == (200, {"status": "ready"})
    info = server.send("/info")[1]
    assert info["labels"] == ["politics", "science", "sport"]
    assert info["fingerprint"] == SavedModel.find(saved).fingerprint
    assert info["limits"] == {"max_texts": 256, "max_characters": 20000, "max_body": 4 << 20, "timeout": 30.0}
    openapi = server.send("/openapi.json")[1]
    post = openapi["paths"]["/predict"]["post"]
    assert post["responses"]["200"]["content"]["application/json"]["example"]["predictions"][0]["labels"] == ["politics"]
    assert {"400", "413", "422", "503"} <= post["responses"].keys()
    assert openapi["components"]["schemas"]["PredictRequest"]["examples"]


def test_metrics_count(server: Server) -> None:
    names = {
        'lf_requests_total{route="/predict",status="200"}': 2,
        'lf_requests_total{route="/predict",status="422"}': 1,
        "lf_texts_total": 3,
        "lf_request_seconds_count": 2,
        "lf_batch_texts_count": 2,
        "lf_batch_texts_sum": 3,
    }
    server.send("/predict", {"texts": []})  # a count begins with the first
    server.predict("a star")
    before = {name: server.metric(name) for name in names}
    server.predict(["a goal", "a vote"])
    server.predict("a star")
    server.send("/predict", {"texts": []})
    assert {name: server.metric(name) - before[name] for name in names} == names
    assert server.metric("lf_waiting_texts") == 0


def test_the_page_is_whole(server: Server) -> None:
    status, page, headers = server.send("/")
    assert status == 200
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)
    assert "connect-src 'self'" in headers["content-security-policy"]
    assert "innerHTML" not in page


# ---- many at once


def test_32_clients_at_once_get_each_its_own_answer(server: Server, saved: Path, new_texts: list[str]) -> None:
    predictor = Predictor.of_run(saved, device="cpu")
    rows = np.arange(320) % len(new_texts)
    found = of_32_clients(server, [new_texts[row] for row in rows])
    assert np.abs(probabilities(found, predictor.labels) - predictor.predict_proba(new_texts)[rows]).max() < 1e-6


def test_no_text_gets_into_a_log(server: Server) -> None:
    server.predict([f"a goal {SECRET}"])
    for body in ({"texts": [SECRET, 3]}, {SECRET: 1}, {"texts": [SECRET], "scores": [{SECRET: {SECRET: 1}}]}):
        server.send("/predict", body)
    server.send(f"/predict?text={SECRET}", {"texts": []})
    server.send(f"/{SECRET}")
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(f"{SECRET} nonsense\r\n\r\n".encode())
        connection.recv(100)
    assert SECRET not in server.send("/metrics")[1]
    assert SECRET not in server.log()


def test_what_waits_is_read_together_and_answered_before_the_end(saved: Path, tmp_path: Path, new_texts: list[str]) -> None:
    held = ["--max-wait", "3600", "--timeout", "3600", "--max-batch", "8", "--max-queue", "8"]
    with serving(tmp_path, saved, *held) as server, ThreadPoolExecutor(2) as others:
        waiting = others.submit(server.predict, ["a", "b", "c"])
        server.wait_for(3)
        status, problem, headers = server.send("/predict", {"texts": list("uvwxyz")})
        assert (status, problem["title"]) == (503, "Busy")
        assert int(headers["retry-after"]) >= 1
        assert len(server.predict(new_texts[:5])) == 5  # now the batch is full
        assert len(waiting.result(PATIENCE)) == 3
        assert server.send("/predict", {"texts": new_texts[:9]})[0] == 503  # more than ever fit
        with ThreadPoolExecutor(8) as clients:
            assert len(list(clients.map(server.predict, new_texts[:8]))) == 8
        assert server.metric("lf_batch_texts_count") == 2
        assert server.metric("lf_texts_total") == 16
        last = others.submit(server.predict, ["a goal", "a vote"])
        server.wait_for(2)
        server.end(signal.SIGTERM)
        assert len(last.result(PATIENCE)) == 2


# ---- asking

PRICED = """\
scorer:
  class_path: lf_lightning.scoring.LLMScorer
  init_args:
    name: good
    provider:
      class_path: lf_lightning.scoring.providers.OpenAICompatible
      init_args: {{model: m, base_url: "{url}", api_key_env: {key}}}
    labels: [politics, science, sport]
    mode: logprob
    gateway:
      class_path: lf_lightning.scoring.gateway.Gateway
      init_args: {{responses: "{folder}", concurrency: 1, price: {{input: 1.0, output: 4.0}}}}
"""
FREE = """\
scorer:
  class_path: lf_lightning.predictor.FittedScorer
  init_args: {{name: weak, run: {run}, on_fitted: score, device: cpu}}
"""


@pytest.mark.slow
def test_an_llm_is_asked_until_the_money_is_spent(
    saved: Path, encoder_alone: Path, tmp_path: Path, new_texts: list[str]
) -> None:
    most = 0.002  # a reply costs a fiftieth of it, and might cost a third
    with FaultServer() as provider:
        good = PRICED.format(url=provider.url, key=KEY_NAME, folder=tmp_path / "responses")
        (tmp_path / "good.yaml").write_text(good, encoding="utf-8")
        (tmp_path / "weak.yaml").write_text(FREE.format(run=encoder_alone), encoding="utf-8")
        options = ["--scorer", str(tmp_path / "good.yaml"), "--scorer", str(tmp_path / "weak.yaml"), "--llm-budget", "1"]
        with serving(tmp_path, saved, *options, "--max-cost", str(most), end=signal.SIGINT, **{KEY_NAME: KEY}) as server:
            assert server.send("/info")[1]["asks_scorers"] is True
            found = [server.predict(text)[0] for text in dict.fromkeys(new_texts[:45])]
            info = server.send("/info")[1]
            cost, said = server.metric("lf_llm_cost_usd"), server.send("/metrics")[1]
            log = server.log()
        paid = provider.record()["nanodollars"] / 1e9
    assert 0 < cost <= most
    assert cost == pytest.approx(paid)
    both = ["good", "weak"]
    answered = [said["answered"] for said in found].index(["weak"])
    assert answered > 5
    assert [said["answered"] for said in found] == [both] * answered + [["weak"]] * (len(found) - answered)
    assert [said["asked"] for said in found[: answered + 1]] == [both] * (answered + 1)
    assert [said["asked"] for said in found[answered + 1 :]] == [["weak"]] * (len(found) - answered - 1)
    assert info["silent_scorers"] == {"good": "BudgetError"}
    assert f'lf_llm_calls_total{{answered="yes",scorer="good"}} {answered}.0' in said.splitlines()
    assert "scorer 'good' is not asked any more: BudgetError" in log
    assert KEY not in said + log
