"""Every YAML of configs/ and its folders: printed, then fitted, tested and asked for predictions, on tables of a few rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from lf_lightning import cli
from lf_lightning.cli import runs
from lf_lightning.cli.configs import configs_folder
from lf_lightning.store import ScorerCard, ScoreStore
from tests.conftest import TableFactory

pytestmark = pytest.mark.config

TINY = str(Path(__file__).parent / "conf" / "tiny.yaml")
ELSEWHERE = ("scoring", "scores", "cotraining", "cotraining.yaml", "cotrain_then_fuse.yaml", "reasoning")
"""Configs that train nothing (tests/scoring reads the first, the second holds stores), or that another test here runs."""
NAMES = sorted(
    path.relative_to(configs_folder()).as_posix()
    for path in configs_folder().rglob("*.yaml")
    if path.relative_to(configs_folder()).parts[0] not in ELSEWHERE
)


def arguments_of(name: str, part: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((configs_folder() / name).read_text(encoding="utf-8"))[part]["init_args"]
    return found


@pytest.fixture
def prepare(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    topic_table: TableFactory,
    multilabel_table: TableFactory,
    tiny_encoder: str,
) -> Callable[[str], list[str]]:
    """Returns a function: makes the tables and the store that a config asks for, and returns the words that name them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LF_RUN_DIR", raising=False)

    def make(name: str) -> list[str]:
        data = arguments_of(name, "data")
        multilabel = data.get("task") == "multilabel"
        names = data.get("labels")
        tables = {}
        for seed, (split, n) in enumerate({"train": 60, "validation": 60, "test": 30, "new": 7}.items()):
            table = multilabel_table(n, seed=seed) if multilabel else topic_table(n, seed=seed, k=len(names or "abc"))
            if names:
                table["label"] = [names[sorted(set(table["label"])).index(label)] for label in table["label"]]
            tables[split] = table.rename(columns={"label": data.get("label_column", "label")})
            (tables[split][["text"]] if split == "new" else tables[split]).to_csv(f"{split}.csv", index=False)
        words = ["--model.encoder", tiny_encoder]
        if "scores" in data:
            labels = names or sorted(set(tables["train"]["label"]))
            texts = list(dict.fromkeys(text for table in tables.values() for text in table["text"]))
            store = ScoreStore("scores_of_the_test", create=True)
            for number, scorer in enumerate(data.get("scorers") or ["an LLM"]):
                scores = np.random.default_rng(number).dirichlet(np.ones(len(labels)), len(texts)).astype(np.float32)
                store.append(ScorerCard(scorer, tuple(labels), "multiclass", {"model": scorer}), texts, scores)
            words += ["--data.scores", "scores_of_the_test"]
        return words

    return make


@pytest.mark.parametrize("name", NAMES)
def test_it_prints_fits_tests_and_predicts(
    name: str, prepare: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", name, "--config", TINY, *prepare(name)]
    assert cli.main(["fit", *words, "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    asked = arguments_of(name, "model")
    kept = {key: value for key, value in asked.items() if not isinstance(value, dict)}
    for key in ("encoder", "encoder_epochs", "head_epochs", "folds", "loss", "calibrator"):
        kept.pop(key, None)
    assert {key: printed["model"]["init_args"][key] for key in kept} == kept

    for command in ("fit", "test", "predict"):
        assert cli.main([command, *words]) == 0, capsys.readouterr().err
    (run,) = runs.listed(Path("runs"), Path(name).stem)
    assert {"config.yaml", "results.json", "predictions_test.csv", "predictions.csv", "plots"} <= {
        p.name for p in run.iterdir()
    }

    record = json.loads((run / "results.json").read_text(encoding="utf-8"))
    asked_data = arguments_of(name, "data")
    linked = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["hyper_parameters"]
    assert linked["labels"] == record["labels"]
    assert linked["labels"] == asked_data.get("labels", sorted(linked["labels"]))
    assert linked["task"] == asked_data.get("task", "multiclass")
    assert linked["scorers"] == (asked_data.get("scorers", ["an LLM"]) if "scores" in asked_data else [])
    assert (linked["class_weight"] is not None) == (asked_data.get("class_weights") == "balanced")
    assert set(linked["scorers"]) <= set(record["metrics"]["test"])

    predictions = pd.read_csv(run / "predictions.csv")
    assert len(predictions) == 7
    probabilities = predictions[[f"p_{label}" for label in linked["labels"]]].to_numpy()
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    if linked["task"] == "multiclass":
        np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-4)


def test_overfit_comes_near_zero(prepare: Callable[[str], list[str]]) -> None:
    words = ["--config", "debug/overfit.yaml", "--config", TINY, *prepare("debug/overfit.yaml")]
    longer = ["--model.encoder_epochs", "60", "--model.encoder_lr", "3e-3"]  # the tiny encoder is not pretrained
    assert cli.main(["fit", *words, *longer]) == 0
    (run,) = runs.listed(Path("runs"), "overfit")
    losses = pd.read_csv(run / "logs/fit/metrics.csv")["train/loss_epoch"].dropna()
    assert losses.iloc[0] > 1
    assert losses.iloc[-1] < 0.05


def test_the_glob_finds_them() -> None:
    promised = ["quickstart", "ag_news", "goemotions", "reuters", "paper_fusion", "debug/overfit"]
    assert {f"{name}.yaml" for name in promised} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_its_first_lines_say_how_to_run_it(name: str) -> None:
    head = "".join(
        line for line in (configs_folder() / name).read_text(encoding="utf-8").splitlines(True)[:4] if line.startswith("#")
    )
    assert f"lf fit --config {name}" in head
