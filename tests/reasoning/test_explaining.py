"""The reasons of a reasoning run, by whatever gives them: `lf predict`, its engine, a predictor, and the service."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from lf_lightning import Predictor, cli
from lf_lightning.cli import runs
from lf_lightning.cli.predict_parts import predict_table
from lf_lightning.serving import Service, create_app
from lf_lightning.store import ScorerCard, ScoreStore
from tests.reasoning.parts import model_of

CONFIG = """\
seed_everything: 1
trainer: {{accelerator: cpu, devices: 1, enable_progress_bar: false, enable_model_summary: false, logger: false}}
data:
  train: {world}/train.csv
  validation: {world}/validation.csv
  test: {world}/test.csv
  reasons: {world}/reasons
  batch_size: 8
model:
  class_path: lf_lightning.systems.reasoning.ReasoningLightningModule
  init_args: {{encoder: {lm}, layout: {layout}, epochs: 5, lr: 0.01, max_reason_tokens: 12}}
"""


@pytest.fixture(scope="module", params=["reason_label", "label_reason"])
def reasoner(request: pytest.FixtureRequest, world: Path, lm: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a fit, with what `lf predict` says of the test rows."""
    folder = tmp_path_factory.mktemp("reasoner")
    (folder / "small.yaml").write_text(CONFIG.format(world=world, lm=lm, layout=request.param), encoding="utf-8")
    assert cli.main(["fit", "--config", str(folder / "small.yaml"), "--runs-dir", str(folder / "runs")]) == 0
    run = runs.newest(folder / "runs", "small")
    quiet = ["--trainer.enable_progress_bar", "false"]
    assert cli.main(["predict", "--run", str(run), "--data.predict", str(world / "test.csv"), *quiet]) == 0
    return run


@pytest.fixture
def plain(reasoner: Path) -> pd.DataFrame:
    found = pd.read_csv(reasoner / "predictions.csv", keep_default_na=False)
    assert found["rationale_system"].nunique() > 2
    return found


def asked(app: Any, *bodies: dict[str, Any]) -> tuple[list[httpx.Response], dict[str, Any]]:
    """The answers to POST /predict, sent at once, and /info."""

    async def inner() -> tuple[list[httpx.Response], dict[str, Any]]:
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            replies = await asyncio.gather(*(client.post("/predict", json=body) for body in bodies))
            return list(replies), (await client.get("/info")).json()

    return asyncio.run(inner())


def test_parts_have_the_reasons_of_the_whole_table(reasoner: Path, world: Path, plain: pd.DataFrame, tmp_path: Path) -> None:
    source = str(world / "test.csv")
    predict_table(str(reasoner), source, str(tmp_path / "out"), rows_per_part=10, device="cpu")
    found = pd.read_parquet(tmp_path / "out")
    assert list(found) == list(plain)
    for name in ("row", "text", "predicted", "rationale_system"):
        assert found[name].tolist() == plain[name].tolist()
    predict_table(str(reasoner), source, str(tmp_path / "bare"), texts=False, device="cpu")
    assert "rationale_system" not in pd.read_parquet(tmp_path / "bare")  # as little as `lf predict` without texts


def test_the_service_answers_with_reasons_where_they_are_asked_for(reasoner: Path, plain: pd.DataFrame) -> None:
    service = Service(Predictor.of_run(reasoner, device="cpu"), max_batch=16)
    (reply,), info = asked(create_app(service), {"texts": plain["text"].tolist(), "reasons": True})
    said = reply.json()["predictions"]
    assert [each["reason"] for each in said] == plain["rationale_system"].tolist()
    assert [each["labels"] for each in said] == [[name] for name in plain["predicted"]]
    assert info["explains"] is True


def test_callers_with_and_without_a_wish_for_reasons_share_a_batch(reasoner: Path, plain: pd.DataFrame) -> None:
    service = Service(Predictor.of_run(reasoner, device="cpu"), max_batch=16, max_wait=0.5)
    texts = plain["text"].tolist()
    replies, _ = asked(create_app(service), {"texts": texts[:8], "reasons": True}, {"texts": texts[8:16]})
    first, second = (reply.json()["predictions"] for reply in replies)
    assert [said["reason"] for said in first] == plain["rationale_system"].tolist()[:8]
    assert [said["reason"] for said in second] == [None] * 8
    assert [said["labels"] for said in first + second] == [[name] for name in plain["predicted"][:16]]
    assert "lf_batch_texts_count 1.0" in service.metrics.page().decode()


def test_a_model_that_writes_none_says_so(lm: str) -> None:
    app = create_app(Service(Predictor(model_of(lm, layout="label"), lm, 64, device="cpu")))
    (reply, wrong), info = asked(app, {"texts": "a goal", "reasons": True}, {"texts": "a goal", "reasons": "yes"})
    assert (reply.status_code, reply.json()["title"], info["explains"]) == (422, "No reasons", False)
    assert "Way out: leave reasons out" in reply.json()["detail"]
    assert (wrong.status_code, wrong.json()["errors"][0]["at"]) == (422, "reasons")
    schemas = app.openapi()["components"]["schemas"]
    assert schemas["PredictRequest"]["properties"]["reasons"]["type"] == "boolean"
    assert "reason" in schemas["Prediction"]["properties"]


def test_reasons_of_scorers_are_in_each_part(tmp_path: Path) -> None:
    from lf_lightning.data.scores import ScoreSource

    store, half = ScoreStore(tmp_path / "s", create=True), np.full((2, 2), 0.5, dtype=np.float32)
    for name, reasons in {"llm": ["because", None], "mute": None}.items():
        store.append(ScorerCard(name, ("a", "b"), "multiclass", {"n": name}), ["one", "two"], half, None, reasons)
    source = ScoreSource(str(tmp_path / "s"), None, "mask")
    assert source.rationales(["one", "two"]) == {"llm": ["because", None]}
    assert source.rationales(["two"]) == {}
    assert source.rationales(["two"], part=True) == {"llm": [None]}
