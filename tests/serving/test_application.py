"""The application without a process of its own: other models, asking, times that run out; and what cannot be served."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from lf_lightning import Predictor, cli
from lf_lightning.heads import AverageFusion
from lf_lightning.predictor import Ensemble
from lf_lightning.predictor.predictor import Predictor as PredictorClass
from lf_lightning.serving import Limits, Service, create_app
from lf_lightning.serving import server as server_module
from lf_lightning.serving.limits import BoundedBody
from tests.serving.conftest import PATIENCE, ROOT
from tests.serving.test_server import FREE, probabilities

Talk = Callable[[httpx.AsyncClient], Awaitable[Any]]


def talk(app: Any, conversation: Talk) -> Any:
    """What comes of a conversation with the application, which begins and ends with it."""

    async def inner() -> Any:
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await conversation(client)

    return asyncio.run(asyncio.wait_for(inner(), PATIENCE))


def served(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    """The application that `lf serve` would run."""
    found: list[Any] = []
    monkeypatch.setattr(server_module, "_run", lambda running, listener: found.append(running.config.app))
    assert cli.main(["serve", "--port", "0", "--device", "cpu", *words]) == 0
    return found[0]


def test_a_multilabel_model_gives_any_number_of_labels(
    multilabel_fusion: Path, new_texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor.of_run(multilabel_fusion, device="cpu")

    async def conversation(client: httpx.AsyncClient) -> Any:
        assert (await client.get("/info")).json()["task"] == "multilabel"
        assert "Label a text" in (await client.get("/")).text
        return (await client.post("/predict", json={"texts": new_texts})).json()["predictions"]

    found = talk(served(monkeypatch, "--model", str(multilabel_fusion)), conversation)
    expected = predictor.opinion(new_texts)
    assert np.abs(probabilities(found, predictor.labels) - expected.probabilities).max() < 1e-6
    rows = [[predictor.labels[k] for k in np.flatnonzero(row)] for row in expected.decisions]
    assert [said["labels"] for said in found] == rows
    assert len({len(row) for row in rows}) > 1


def test_an_ensemble_is_served_as_one_model(
    fusion: Path, encoder_alone: Path, tmp_path: Path, new_texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [Predictor.of_run(fusion, device="cpu"), Predictor.of_run(encoder_alone, device="cpu")]
    ensemble = Ensemble(members, AverageFusion)
    ensemble.save(tmp_path / "both")
    known = {"good": {"politics": 0.1, "science": 0.2, "sport": 0.7}}

    async def conversation(client: httpx.AsyncClient) -> Any:
        alone = (await client.post("/predict", json={"texts": new_texts})).json()
        given = (await client.post("/predict", json={"texts": new_texts[0], "scores": [known]})).json()
        return alone, given, (await client.get("/info")).json()

    alone, given, info = talk(served(monkeypatch, "--model", str(tmp_path / "both")), conversation)
    labels = ensemble.labels
    assert np.abs(probabilities(alone["predictions"], labels) - ensemble.predict_proba(new_texts)).max() < 1e-6
    scores = np.array([[[0.1, 0.2, 0.7], [np.nan] * 3]])
    expected = ensemble.predict_proba(new_texts[:1], scores)
    assert np.abs(probabilities(given["predictions"], labels) - expected).max() < 1e-6
    assert np.abs(expected - ensemble.predict_proba(new_texts[:1])).max() > 1e-3
    assert (info["scorers"], info["asks_scorers"], info["max_length"]) == (["good", "weak"], False, None)
    assert len(info["fingerprint"]) == 64
    assert Service(Ensemble(members[::-1], AverageFusion)).fingerprint != info["fingerprint"]


def test_scorers_are_asked_about_a_share_of_the_texts(
    fusion: Path, encoder_alone: Path, tmp_path: Path, new_texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--model", str(fusion), "--llm-budget", "0.4"]
    for name in ("good", "weak"):
        config = FREE.replace("weak", name).format(run=encoder_alone)
        (tmp_path / f"{name}.yaml").write_text(config, encoding="utf-8")
        words += ["--scorer", str(tmp_path / f"{name}.yaml")]
    known = {"good": {"politics": 0.2, "science": 0.3, "sport": 0.5}}

    async def conversation(client: httpx.AsyncClient) -> Any:
        found = (await client.post("/predict", json={"texts": new_texts})).json()["predictions"]
        given = (await client.post("/predict", json={"texts": "a goal", "scores": [known]})).json()["predictions"][0]
        return found, given, (await client.get("/metrics")).text

    found, given, page = talk(served(monkeypatch, *words), conversation)
    predictor, scorer = Predictor.of_run(fusion, device="cpu"), Predictor.of_run(encoder_alone, device="cpu")
    asked = np.array([[name in said["asked"] for name in predictor.scorers] for said in found])
    assert 0 < asked[:, 0].sum() < len(found)
    assert [said["answered"] for said in found] == [said["asked"] for said in found]
    members = np.where(asked[:, :, None], scorer.predict_proba(new_texts)[:, None], np.nan)
    assert np.abs(probabilities(found, predictor.labels) - predictor.predict_proba(new_texts, members)).max() < 1e-5
    assert given["asked"] == []
    assert f'lf_llm_calls_total{{answered="yes",scorer="good"}} {asked[:, 0].sum()}.0' in page.splitlines()


def test_a_slow_or_failed_answer_is_a_problem_that_repeats_no_text(
    fusion: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()

    def opinion(_: PredictorClass, texts: list[str], scores: Any) -> Any:
        gate.wait(PATIENCE)
        raise ArithmeticError(texts[0])

    monkeypatch.setattr(PredictorClass, "opinion", opinion)
    app = create_app(Service(Predictor.of_run(fusion, device="cpu")), Limits(timeout=0.2))

    async def conversation(client: httpx.AsyncClient) -> Any:
        slow = await client.post("/predict", json={"texts": "zanzibar"})
        gate.set()
        return slow, await client.post("/predict", json={"texts": "zanzibar"}), (await client.get("/metrics")).text

    slow, failed, page = talk(app, conversation)
    assert (slow.status_code, slow.json()["title"], slow.headers["retry-after"]) == (503, "Too slow", "1")
    assert (failed.status_code, failed.headers["content-type"]) == (500, "application/problem+json")
    assert "zanzibar" not in slow.text + failed.text + caplog.text + page
    assert "ArithmeticError" in caplog.text
    assert 'lf_requests_total{route="/predict",status="503"} 1.0' in page.splitlines()


def test_a_body_that_does_not_arrive_is_not_waited_for() -> None:
    sent: list[Any] = []

    async def application(*_: Any) -> None:
        raise AssertionError("never reached")

    async def receive() -> Any:
        await asyncio.sleep(PATIENCE)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(BoundedBody(application, Limits(timeout=0.1))({"type": "http"}, receive, send))
    assert sent[0]["status"] == 408
    assert b"did not arrive within 0.1 s" in sent[1]["body"]


# ---- the command


def test_help_needs_no_torch() -> None:
    code = "import sys; from lf_lightning import cli; cli.main(['serve', '--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "--llm-budget" in done.stdout


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--model", "NOTHING"], "no checkpoint"),
        (["--max-batch", "0"], "max_batch=0"),
        (["--max-wait", "-1"], "max_wait=-1"),
        (["--timeout", "0"], "timeout=0"),
        (["--llm-budget", "0.2"], "a budget needs a scorer"),
        (["--scorer", "nowhere.yaml", "--llm-budget", "0.2"], "nowhere.yaml"),
        (["--port", "TAKEN"], "another --port"),
    ],
)
def test_what_cannot_be_served_is_named(
    options: list[str], reason: str, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        places = {"NOTHING": str(tmp_path), "TAKEN": str(taken.getsockname()[1])}
        words = ["--model", str(saved), "--port", "0", *(places.get(word, word) for word in options)]
        assert cli.main(["serve", *words]) == 2
    assert reason in capsys.readouterr().err
