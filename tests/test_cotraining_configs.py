"""cotraining.yaml, its baselines, and the fusion that begins with what it leaves, run as a user runs them on a few rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from lf_lightning import Predictor, cli
from lf_lightning.cli import runs
from lf_lightning.cli.configs import configs_folder
from lf_lightning.store import ScorerCard, ScoreStore, Status
from tests.conftest import TableFactory

pytestmark = pytest.mark.config

TINY = str(Path(__file__).parent / "conf" / "tiny_cotraining.yaml")
BASELINES = sorted(path.relative_to(configs_folder()).as_posix() for path in (configs_folder() / "cotraining").glob("*.yaml"))


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, topic_table: TableFactory, tiny_encoder: str) -> list[str]:
    """Tables and a store in the working folder, and the words that name the encoder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LF_RUN_DIR", raising=False)
    tables = {split: topic_table(n, seed=s) for s, (split, n) in enumerate({"train": 60, "validation": 60, "test": 30}.items())}
    tables["train"]["labeled_50_set1"] = [int(row % 3 == 0) for row in range(60)]
    for split, table in tables.items():
        table.to_csv(f"{split}.csv", index=False)
    tables["test"][["text"]][:7].to_csv("new.csv", index=False)
    everything = pd.concat(tables.values()).drop_duplicates("text")
    labels = sorted(set(everything["label"]))
    rng = np.random.default_rng(0)
    truth = np.array([[label == name for name in labels] for label in everything["label"]])
    p = rng.dirichlet(np.ones(3), len(truth)) + 1.0 * truth
    status = np.where(np.arange(len(truth)) % 11 == 4, Status.REFUSED, Status.SCORED)
    card = ScorerCard("gpt_4o", tuple(labels), "multiclass", {"model": "gpt_4o"})
    texts = everything["text"].tolist()
    ScoreStore("scores_of_the_test", create=True).append(card, texts, (p / p.sum(1, keepdims=True)).astype(np.float32), status)
    return ["--model.encoder", tiny_encoder]


def test_the_glob_finds_the_baselines() -> None:
    promised = "gold_only llm_only gold_and_llm llm_then_gold ensemble weights_one confidence coteaching cleanlab".split()
    assert {f"cotraining/{name}.yaml" for name in promised} <= set(BASELINES)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_laid_over_cotraining(name: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if name.endswith("cleanlab.yaml"):
        pytest.importorskip("cleanlab")
    head = (configs_folder() / name).read_text(encoding="utf-8").splitlines()
    experiment = Path(name).stem
    assert head[1] == f"#   lf fit --config cotraining.yaml --config {name} --experiment {experiment}"
    words = ["--config", "cotraining.yaml", "--config", TINY, "--config", name, "--experiment", experiment, *words]
    for command in ("fit", "test"):
        assert cli.main([command, *words]) == 0, capsys.readouterr().err
    (run,) = runs.listed(Path("runs"), experiment)
    asked = yaml.safe_load((configs_folder() / name).read_text(encoding="utf-8"))["model"]["init_args"]
    kept = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["hyper_parameters"]
    for key, value in asked.items():
        if key == "weighting":
            named = value if isinstance(value, str) else value["class_path"]
            assert kept[key]["class_path"].endswith(f".{named}")
        else:
            assert kept[key] == value
    record = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert record["system"] == "CoTrainingLightningModule"
    assert "gpt_4o" in record["metrics"]["test"]  # the LLM itself is a row of every table
    assert (run / "likely_mislabelled.csv").exists() == (asked.get("cotrain_epochs", 1) > 0)


def test_the_whole_way(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--config", "cotraining.yaml", "--config", TINY, *words]
    for command in ("fit", "test", "predict"):
        assert cli.main([command, *own]) == 0, capsys.readouterr().err
    (run,) = runs.listed(Path("runs"), "cotraining")
    _check_what_a_user_sees(run)
    predictions = pd.read_csv(run / "predictions.csv")
    said = Predictor.of_run(run).predict_proba(pd.read_csv("new.csv")["text"].tolist())
    labels = ["politics", "science", "sport"]
    np.testing.assert_allclose(predictions[[f"p_{label}" for label in labels]].to_numpy(), said, atol=2e-5)

    # The fusion begins with the encoder in the run folder, as its config says.
    asked: dict[str, Any] = yaml.safe_load((configs_folder() / "cotrain_then_fuse.yaml").read_text(encoding="utf-8"))
    assert asked["model"]["init_args"]["encoder"] == "runs/cotraining/latest/encoder"
    tiny = str(Path(__file__).parent / "conf" / "tiny.yaml")
    fuse = ["--config", "cotrain_then_fuse.yaml", "--config", tiny, "--data.labels_per_class", "null"]
    fuse += ["--data.scores", "scores_of_the_test", "--model.encoder_lr", "0"]
    for command in ("fit", "test"):
        assert cli.main([command, *fuse]) == 0, capsys.readouterr().err
    (fused,) = runs.listed(Path("runs"), "cotrain_then_fuse")
    begun = torch.load(fused / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    cotrained = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    name = "model.encoder.layer.0.attention.self.query.weight"
    assert (begun[f"encoder.{name}"] - cotrained[f"nets.0.encoder.{name}"]).abs().max() < 1e-4  # fine-tuning moved it a little
    record = json.loads((fused / "results.json").read_text(encoding="utf-8"))
    assert {"encoder", "gpt_4o", "average", "stack"} <= set(record["metrics"]["test"])


def _check_what_a_user_sees(run: Path) -> None:
    assert {"weights.png", "agreement.png", "learning_curves.png"} <= {path.name for path in (run / "plots").iterdir()}
    review = pd.read_csv(run / "likely_mislabelled.csv")
    train = pd.read_csv("train.csv")
    store = ScoreStore("scores_of_the_test")
    joined = store.join(train["text"].tolist(), ["gpt_4o"], ["politics", "science", "sport"])
    pool = [row for row in range(60) if row % 3 and bool(joined.scored[row, 0])]
    assert sorted(review["row"]) == pool
    assert 30 < len(pool) < 40  # some were refused
    assert (train["text"][review["row"]].to_numpy() == review["text"].to_numpy()).all()
    labels = np.array(["politics", "science", "sport"])
    assert (review["llm_label"].to_numpy() == labels[joined.scores[review["row"], 0].argmax(1)]).all()
    doubt = review[["confidence_1", "confidence_2"]].mean(axis=1)
    assert (doubt.diff().dropna() >= -1.1e-4).all()  # the most doubtful first
    assert set(review["nets_label"]) <= set(labels)


def test_the_scores_of_its_first_lines_can_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = yaml.safe_load((configs_folder() / "scoring/humaid_gpt_4o.yaml").read_text(encoding="utf-8"))
    labels = config["scorer"]["init_args"]["labels"]
    monkeypatch.chdir(tmp_path)
    Path("humaid").mkdir()
    for split in ("train", "dev", "test"):
        rows = {"text": [f"{split} {label}" for label in labels], "gpt_4o": labels, "gpt_4o_confidence": 0.9}
        pd.DataFrame(rows).to_csv(f"humaid/{split}.csv", index=False)
    assert cli.main(["score", "--config", "scoring/humaid_gpt_4o.yaml"]) == 0
    store = ScoreStore(config["store"])
    assert [card.name for card in store.cards.values()] == ["gpt_4o"]
