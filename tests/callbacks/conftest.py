"""A system and data that stand in for real ones: logits are given, so that every number can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lf_lightning.calibration import TemperatureScaling, Thresholds
from lf_lightning.contract import Outputs, Phase, Task

Rows = dict[str, dict[str, Tensor]]


class GivenLogits(LightningModule):
    """Returns the logits that its batches carry; one weight trains, so that checkpoints and losses exist."""

    def __init__(self, labels: Sequence[str], task: Task = "multiclass", members: Sequence[str] = ()) -> None:
        super().__init__()
        self.labels, self.task, self.seed = list(labels), task, 3
        self.calibrator = TemperatureScaling(len(labels), task)
        self.member_decisions = torch.nn.ModuleList()
        self.decision = Thresholds(len(labels)) if task == "multilabel" else None
        self.member_names = list(members)
        self.scorers = [name for name in members if name not in ("encoder", "average", "stack")]
        self.member_calibrators = nn.ModuleList(TemperatureScaling(len(labels), task) for _ in members)
        self.evaluated: dict[str, Outputs] = {}
        self.is_selecting = True
        self.scale = nn.Parameter(torch.ones(()))
        self.plan = [Phase("fold 1/2", 1), Phase("head", 2)]

    def phase_of(self, epoch: int) -> tuple[int, Phase, int]:
        return (0, self.plan[0], epoch) if epoch < 1 else (1, self.plan[1], epoch - 1)

    def held_out(self) -> Outputs | None:
        return None

    def fit_references(self, outputs: Outputs) -> None:
        pass

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = (self.scale * batch["system"]).square().mean()
        self.log("train/loss", loss.detach(), on_step=True, on_epoch=True, batch_size=len(batch["index"]))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> Outputs:
        return Outputs(batch["index"], batch["system"], batch["labels"], {name: batch[name] for name in self.member_names})

    test_step = predict_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class GivenRows(LightningDataModule):
    """Serves tables of tensors by split, eight rows a batch."""

    def __init__(self, rows: Rows, texts: dict[str, list[str]] | None = None) -> None:
        super().__init__()
        self.rows, self._texts, self.seed = rows, texts, 5

    def texts(self, split: str) -> list[str]:
        return self._texts[split] if self._texts else [f"text {row}" for row in range(len(self.rows[split]["labels"]))]

    @property
    def split_ids(self) -> dict[str, list[int]]:
        return {split: [100 + row for row in range(len(table["labels"]))] for split, table in self.rows.items()}

    @property
    def summary(self) -> dict[str, dict[str, Any]]:
        counts = {split: len(table["labels"]) for split, table in self.rows.items() if split != "test"}
        return {split: {"rows": n, "labelled": n} for split, n in counts.items()}

    @property
    def dataset_fingerprint(self) -> dict[str, str]:
        return {"train": "ab" * 32}

    def rationales(self, split: str) -> dict[str, list[str | None]]:
        return {"tiny/llm": [f"reason {row}" if row % 2 else None for row in range(len(self.rows[split]["labels"]))]}

    def score_costs(self, split: str) -> dict[str, dict[str, float | None]]:
        return {"tiny/llm": {"texts": 3, "input_tokens": 30, "output_tokens": None, "cost_usd": 0.25}}

    @property
    def scorer_fingerprints(self) -> dict[str, str]:
        return {"tiny/llm": "cd" * 32}

    def _loader(self, split: str) -> DataLoader[Any]:
        table = self.rows[split]
        items = [{"index": torch.tensor(i), **{k: v[i] for k, v in table.items()}} for i in range(len(table["labels"]))]
        return DataLoader(items, batch_size=8)  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader("validation")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        return self._loader("predict")


def given_table(n: int, k: int, task: Task, members: Sequence[str], seed: int) -> dict[str, Tensor]:
    """Labels, and logits of `system` (mostly right) and of members (less so, each on its own rows)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    truth = np.eye(k)[labels] if task == "multiclass" else (rng.random((n, k)) < 0.4).astype(float)
    table = {"labels": torch.tensor(labels) if task == "multiclass" else torch.tensor(truth, dtype=torch.float32)}
    for strength, name in zip((3.0, 1.5, 1.0, 2.0, 2.2), ("system", *members), strict=False):
        table[name] = torch.tensor(strength * (2 * truth - 1) + 1.5 * rng.normal(size=(n, k)), dtype=torch.float32)
    return table


@pytest.fixture
def system() -> type[GivenLogits]:
    return GivenLogits


@pytest.fixture
def data() -> type[GivenRows]:
    return GivenRows


@pytest.fixture
def table() -> Callable[..., dict[str, Tensor]]:
    return given_table


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Trainer]:
    def make(callbacks: list[Callback], **options: Any) -> Trainer:
        defaults: dict[str, Any] = {
            "default_root_dir": tmp_path / "experiment" / "run",
            "accelerator": "cpu",
            "logger": False,
            "max_epochs": 3,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "num_sanity_val_steps": 2,
        }
        return Trainer(callbacks=callbacks, **{**defaults, **options})

    return make
