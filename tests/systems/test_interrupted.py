"""`lf fit` stopped by SIGTERM in the head's phase, or by SIGKILL in the last validation, and resumed: the same end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from lf_lightning import cli, imports
from lf_lightning.cli import runs

CONFIG = """\
seed_everything: 1
trainer:
  accelerator: cpu
  devices: 1
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - {{class_path: lf_lightning.callbacks.LastCheckpoint, init_args: {{every_n_steps: 3}}}}
    - {{class_path: killer.Killer}}
data:
  train: {world}/train.csv
  validation: {world}/validation.csv
  test: {world}/test.csv
  scores: {world}/scores
  batch_size: 8
model: {{encoder: {world}/encoder, folds: 2, encoder_epochs: 1, head_epochs: 3, encoder_lr: 0.001, head_lr: 0.01}}
"""
# Kills its process in the hook, epoch and batch that a file tells, once.
KILLER = """\
import os
from pathlib import Path
from lightning.pytorch import Callback

class Killer(Callback):
    def at(self, trainer, hook, batch):
        order = Path("order")
        if order.exists() and order.read_text().split()[1:] == [hook, str(trainer.current_epoch), str(batch)]:
            number = int(order.read_text().split()[0])
            order.unlink()
            os.kill(os.getpid(), number)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.at(trainer, "train", batch_idx)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if not trainer.sanity_checking:
            self.at(trainer, "validation", batch_idx)
"""
FIT = ["fit", "--config", "tiny.yaml", "--allow-imports", "killer"]
# epochs: 0 and 1 the folds, 2 the encoder, 3 to 5 the head
ORDERS = {"SIGTERM": (f"{int(signal.SIGTERM)} train 4 2", 143), "SIGKILL": (f"{int(signal.SIGKILL)} validation 5 0", -9)}


class Ended(NamedTuple):
    states: dict[str, dict[str, torch.Tensor]]
    predictions: str


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, world: Path) -> Path:
    folder = tmp_path_factory.mktemp("interrupted")
    (folder / "killer.py").write_text(KILLER, encoding="utf-8")
    (folder / "tiny.yaml").write_text(CONFIG.format(world=world), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _here(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(imports, "_allowed", list(imports.allowed()))
    monkeypatch.delenv("LF_RUN_DIR", raising=False)


def ended(experiment: str) -> Ended:
    (run,) = runs.listed(Path("runs"), experiment)
    states = {}
    for name in ("last", "best"):
        kept = torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True)
        states[name] = {**kept["state_dict"], "evidence": kept["evidence"]["logits"], "step": torch.tensor(kept["global_step"])}
    assert cli.main(["test", "--config", "tiny.yaml", "--allow-imports", "killer", "--experiment", experiment]) == 0
    return Ended(states, (run / "predictions_test.csv").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def uninterrupted(project: Path) -> dict[str, Ended]:
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_killed_and_resumed_is_as_if_nothing_had_happened(order: str, uninterrupted: dict[str, Ended]) -> None:
    if not uninterrupted:
        assert cli.main([*FIT, "--experiment", "whole"]) == 0
        uninterrupted["whole"] = ended("whole")
    words, code = ORDERS[order]
    Path("order").write_text(words, encoding="utf-8")
    command = [sys.executable, "-m", "lf_lightning", *FIT, "--experiment", order]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, done.stderr
    assert not Path("order").exists()
    if order == "SIGTERM":
        assert "stopped by SIGTERM, after its state was saved. Way out: the same command with --ckpt_path last" in done.stderr
        assert "Traceback" not in done.stderr
    (run,) = runs.listed(Path("runs"), order)
    stopped = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert stopped["epoch"] == int(words.split()[2])
    total = int(uninterrupted["whole"].states["last"]["step"])
    assert total - 24 < stopped["global_step"] < total

    assert cli.main([*FIT, "--experiment", order, "--ckpt_path", "last"]) == 0  # this process is another one
    after, whole = ended(order), uninterrupted["whole"]
    for name in ("last", "best"):
        for key, value in whole.states[name].items():
            assert torch.equal(after.states[name][key], value), f"{name}: {key}"
    assert after.predictions == whole.predictions
