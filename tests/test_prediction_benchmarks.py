"""The benchmarks of prediction and serving: their sides say the same, every text is counted, and their tables are made."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks import prediction, serving
from benchmarks.render import TABLES
from lf_lightning import Predictor

TEXTS = ["the goal of the match", "a vote", "an atom and a planet " * 9, "market", "the old song of the year"]


@pytest.fixture(scope="module")
def predictor(tiny_encoder: str) -> Predictor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction, "ENCODER", tiny_encoder)
        return Predictor(prediction.system(), tiny_encoder, max_length=64, batch_size=2, device="cpu")


def test_the_systems_own_parts_are_fitted(predictor: Predictor) -> None:
    said = predictor.opinion(TEXTS)
    assert said.probabilities.shape == (5, 5)
    assert np.abs(said.probabilities.sum(1) - 1).max() < 1e-6


def test_the_pipeline_has_the_systems_encoder(predictor: Predictor, tiny_encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "ENCODER", tiny_encoder)
    pipe = prediction.pipeline_of(predictor.module, batch_size=2)
    theirs = pipe.model.base_model.state_dict()
    ours = predictor.module.encoder.model.state_dict()
    shared = theirs.keys() & ours.keys()
    assert len(shared) > 10
    assert all(np.array_equal(theirs[name], ours[name]) for name in shared)
    assert [len(said) for said in pipe(TEXTS)] == [5] * 5


def test_every_side_answers_every_text_and_is_compared() -> None:
    seen: dict[str, list[str]] = {prediction.OURS: [], "pipeline": [], "pipeline_sorted": [], "bfloat16": []}

    def side(name: str) -> prediction.Answers:
        def answer(texts: Sequence[str]) -> object:
            seen[name] += texts
            return None

        return answer

    found = prediction.measure(TEXTS, {name: side(name) for name in seen}, call=2, rounds=3, seed=0)
    assert all(texts == TEXTS * 4 for texts in seen.values())
    assert found["texts"] == 5
    assert (found["ratio"].keys(), found["ways_over_ours"].keys()) == ({"pipeline", "pipeline_sorted"}, {"bfloat16"})
    assert found["texts_per_second"].keys() == seen.keys()


def test_clients_count_answers_and_errors() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            while (line := await reader.readline()) != b"\r\n":
                head += line
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            text = json.loads(await reader.readexactly(length))["texts"][0]
            body = json.dumps({"predictions": [1]}).encode()
            status = b"503 Busy" if text == "market" else b"200 OK"
            writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    async def loaded() -> object:
        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await serving.load((port, 0), TEXTS, clients=3, duration=0.3)

    found = asyncio.run(loaded())
    assert isinstance(found, dict)
    assert len(found["seconds"]) > len(found["errors"]) > 0
    assert set(found["errors"]) == {"HTTP/1.1 503 Busy"}
    assert found["client_cpu"] > 0


def test_figures_of_turns_become_a_table(tmp_path: Path) -> None:
    def turn(requests: int, errors: int) -> dict[str, object]:
        told = {"seconds": [0.1] * requests, "errors": ["x"] * errors, "rate": requests / 2.0}
        return {**told, "server_cpu": requests * 0.01, "client_cpu": requests * 0.001}

    found = serving.figures_of({"batched": [turn(40, 0), turn(60, 1)], "one_by_one": [turn(20, 0), turn(20, 0)]})
    assert found["ratio"] == {"median": 2.5, "low": 2.25, "high": 2.75}
    assert (found["batched"]["requests"], found["batched"]["errors"]) == (100, 1)
    assert found["batched"]["milliseconds"] == {50: 100.0, 95: 100.0, 99: 100.0}
    assert found["one_by_one"]["cpu_milliseconds_per_request"] == {"server": 10.0, "client": 1.0}
    figures = {"clients": 32, "seconds_each": 4.0, "sets": {"10 words": found}}
    machine = {"cpus": 2, "gpu": None}
    record = {"figures": figures, "machine": machine, "seeds": None, "versions": {}, "date": "d", "command": "c"}
    table = TABLES["serving"][1](json.loads(json.dumps(record)))
    assert "| 10 words, batches of up to 32 | 100 | 1 | 25.0 | 2.50 [2.25, 2.75] | 100 | 100 | 100 | 10.0 |" in table
    assert "| 10 words, one text at a time | 40 | 0 | 10.0 |  |" in table
