"""Keys in the environment, all the way: scored by an LLM, trained with W&B, tested, predicted. They are nowhere after."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from lf_lightning import cli
from tests.conftest import TableFactory
from tests.scoring.gateway.fault_server import KEY, FaultServer

VARIABLES = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "DEEPSEEK_API_KEY", "HF_TOKEN")
SCORE = """\
source: train.csv
store: scores
scorer:
  class_path: lf_lightning.scoring.LLMScorer
  init_args:
    name: llm
    provider:
      class_path: lf_lightning.scoring.providers.OpenAICompatible
      init_args: {{model: small, base_url: "{url}", api_key_env: OPENAI_API_KEY}}
    labels: [politics, science, sport]
    mode: logprob
"""
FIT = """\
seed_everything: 1
trainer:
  accelerator: cpu
  devices: 1
  logger: {{class_path: lightning.pytorch.loggers.WandbLogger, init_args: {{project: p, offline: true}}}}
data: {{train: train.csv, validation_share: 0.2, test_share: 0.2, batch_size: 16, scores: scores, predict: train.csv}}
model: {{encoder: {encoder}, evidence: holdout, encoder_epochs: 1, head_epochs: 1, encoder_lr: 0.001}}
"""


def test_keys_in_the_environment_are_in_no_file_and_in_no_output(
    tmp_path: Path,
    topic_table: TableFactory,
    tiny_encoder: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for module in ("openai", "wandb"):
        pytest.importorskip(module)
    planted = {name: f"sk-planted-{name.lower()}-0123456789" for name in VARIABLES}
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef0123456789abcdef01234567")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.delenv("LF_RUN_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    topic_table(60).to_csv("train.csv", index=False)
    Path("fit.yaml").write_text(FIT.format(encoder=tiny_encoder), encoding="utf-8")
    caplog.set_level(logging.DEBUG)
    said = ""
    with FaultServer() as server:
        Path("score.yaml").write_text(SCORE.format(url=server.url), encoding="utf-8")
        assert cli.main(["score", "--config", "score.yaml"]) == 5  # the server does not know this key, and repeats it
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        assert cli.main(["score", "--config", "score.yaml"]) == 0
    for command in ("fit", "test", "predict"):
        words = [sys.executable, "-m", "lf_lightning", command, "--config", "fit.yaml"]
        ran = subprocess.run(words, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        said += ran.stdout + ran.stderr
    assert cli.main(["cache", "stats"]) == 0
    assert cli.main(["doctor"]) == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    suffixes = {path.suffix for path in written}
    assert {".ckpt", ".wandb", ".sqlite", ".json", ".yaml", ".csv", ".png"} <= suffixes
    said += "".join(capfd.readouterr()) + caplog.text
    for secret in (*planted.values(), KEY, "0123456789abcdef0123456789abcdef01234567"):
        assert secret not in said
        assert [path for path in written if secret.encode() in path.read_bytes()] == []
