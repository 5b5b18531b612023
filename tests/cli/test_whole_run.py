"""The system, the data and the callbacks as they ship, through `lf`, on a tiny encoder."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from lf_lightning import cli
from lf_lightning.cli import configs, help_texts, runs
from lf_lightning.store import ScorerCard, ScoreStore
from tests.conftest import TableFactory

CONFIG = """\
seed_everything: 1
trainer: {{accelerator: cpu, devices: 1}}
data: {{train: train.csv, predict: new.csv, validation_share: 0.2, test_share: 0.2, batch_size: 16}}
model: {{encoder: {encoder}, evidence: holdout, encoder_epochs: {epochs}, head_epochs: 1, encoder_lr: 0.001}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, topic_table: TableFactory, tiny_encoder: str) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LF_RUN_DIR", raising=False)
    topic_table(90).to_csv("train.csv", index=False)
    topic_table(7, seed=9)[["text"]].to_csv("new.csv", index=False)
    Path("tiny.yaml").write_text(CONFIG.format(encoder=tiny_encoder, epochs=1), encoding="utf-8")
    Path("long.yaml").write_text(CONFIG.format(encoder=tiny_encoder, epochs=100_000), encoding="utf-8")
    return tmp_path


@pytest.mark.usefixtures("project")
def test_fit_test_validate_predict_fill_one_folder(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "lightning.pytorch")  # other tests silence it
    assert cli.main(["fit", "--config", "tiny.yaml"]) == 0
    (run,) = runs.listed(Path("runs"), "tiny")
    assert cli.main(["test", "--config", "tiny.yaml", "--ckpt_path", "best"]) == 0
    assert "Tip:" not in "".join(capfd.readouterr())
    assert cli.main(["validate", "--run", "runs/tiny/latest"]) == 0
    out = capfd.readouterr().out
    assert "tiny: 18 validation rows" in out
    assert "what counts is lf test" in out
    assert "validation/nll" not in out  # one table: Lightning's own is silent
    assert cli.main(["predict", "--config", "tiny.yaml"]) == 0
    assert f"7 rows predicted: {run.resolve() / 'predictions.csv'}" in caplog.text
    assert runs.listed(Path("runs"), "tiny") == [run]
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "results.json", "predictions_test.csv", "checkpoints", "plots"} <= names
    assert len(pd.read_csv(run / "predictions.csv")) == 7
    assert json.loads((run / "results.json").read_text(encoding="utf-8"))
    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["labels"] == ["politics", "science", "sport"]


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_sigterm_in_a_real_fit_saves_and_exits_with_143() -> None:
    words = [sys.executable, "-m", "lf_lightning", "fit", "--config", "long.yaml"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    last = Path("runs/long/latest/checkpoints/last.ckpt")
    deadline = time.monotonic() + 60
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    saved = last.stat().st_mtime_ns
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "stopped by SIGTERM" in err
    assert not re.search("available: False|log_every_n_steps|Loading weights|Tip:", err)
    assert last.stat().st_mtime_ns > saved
    assert torch.load(last, weights_only=True)["global_step"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_the_examples_of_the_help_run_as_printed(capfd: pytest.CaptureFixture[str]) -> None:
    texts = pd.read_csv("train.csv")["text"].drop_duplicates().tolist()
    card = ScorerCard("llm", ("politics", "science", "sport"), "multiclass", {"model": "none"})
    ScoreStore("scores", create=True).append(card, texts, np.full((len(texts), 3), 1 / 3, dtype=np.float32))
    config = yaml.safe_load(Path("tiny.yaml").read_text(encoding="utf-8"))
    del config["data"]["predict"]
    config["data"]["scores"] = "scores"
    Path("quickstart.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    Path("new.csv").rename("texts.csv")
    assert cli.main(["fit", "--config", "quickstart.yaml"]) == 0
    examples = [
        line.strip()
        for command in ("validate", "test", "predict")
        for line in help_texts.of(command).splitlines()
        if line.startswith(f"  lf {command} ") and "quickstart" in line and "--engine ray" not in line  # tried where Ray is
    ]
    assert len(examples) == 7
    for example in examples:
        assert cli.main(shlex.split(example)[1:]) == 0, example
    assert len(pd.read_csv("runs/quickstart/latest/predictions.csv")) == 7
    capfd.readouterr()
    assert cli.main(["predict", "--run", "runs/quickstart/latest", "--data.predict", "texts.csv"]) == 4
    err = capfd.readouterr().err
    assert "'llm': 7 absent" in err
    assert "--data.on_missing mask" in err
    assert "lf score" in err


def read(name: str) -> dict[str, object]:
    return yaml.safe_load((configs.configs_folder() / name).read_text(encoding="utf-8"))


@pytest.mark.config
@pytest.mark.parametrize("name", [name for name in configs.packaged_names() if "model" in read(name)])
def test_every_packaged_config_prints_and_reloads(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["fit", "--config", name, "--print_config=comments"]) == 0
    printed = capsys.readouterr().out
    Path("printed.yaml").write_text(printed, encoding="utf-8")
    assert cli.main(["fit", "--config", "printed.yaml", "--print_config=comments"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(printed)
