"""A system and data of a user's own that fit in a blink: links, run folders and signals are tested with them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lf_lightning.errors import ConfigurationError, DataError


class SmallModule(LightningModule):
    def __init__(
        self,
        labels: list[str],
        task: str = "none",
        scorers: list[str] | None = None,
        class_weight: list[float] | None = None,
        encoder: str = "an-encoder",
        lr: float = 0.1,
        seconds_per_step: float = 0.0,
    ) -> None:
        """A linear layer.

        Args:
            labels: Names of the labels.
            task: The task.
            scorers: Names of the scorers.
            class_weight: Weights of the labels.
            encoder: Name of the encoder.
            lr: Learning rate of the layer.
            seconds_per_step: How long a step takes.
        """
        super().__init__()
        self.save_hyperparameters()
        if lr < 0:
            raise ConfigurationError(f"lr={lr} is negative.")
        self.lr, self.seconds_per_step = lr, seconds_per_step
        self.layer = torch.nn.Linear(2, len(labels))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        Path("stepping").touch()
        time.sleep(self.seconds_per_step)
        return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("test/loss", torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1]))

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.layer(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.lr)


class UnlinkedModule(SmallModule):
    def __init__(self, width: int = 2) -> None:
        """A module that takes none of what is linked.

        Args:
            width: Number of outputs.
        """
        super().__init__(labels=["a"] * width)


class SmallData(LightningDataModule):
    def __init__(self, tokenizer: str = "none", rows: int = 8, save_tokenizer_to: str | None = None) -> None:
        """Random points.

        Args:
            tokenizer: Name of the tokenizer.
            rows: Number of rows.
            save_tokenizer_to: A file that gets the tokenizer's name.
        """
        super().__init__()
        if rows == 0:
            raise DataError("rows=0 leaves nothing to learn from.")
        self.rows = rows
        if save_tokenizer_to is not None:
            Path(save_tokenizer_to).write_text(tokenizer, encoding="utf-8")
        self.labels = ("no", "yes")
        self.task = "multiclass"
        self.scorer_names = ("a-scorer",)
        self.class_weight = torch.tensor([0.5, 2.0])

    def _loader(self) -> DataLoader[Any]:
        points = torch.randn(self.rows, 2, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(points, (points[:, 0] > 0).long()), batch_size=2)

    train_dataloader = test_dataloader = predict_dataloader = _loader


class SmallCheckpoint(ModelCheckpoint):
    def __init__(self) -> None:
        """Saves best.ckpt each epoch, last.ckpt with it and when stopped."""
        super().__init__(filename="best", save_last=True, save_on_exception=True, enable_version_counter=False)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")
        super().setup(trainer, pl_module, stage)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        trainer.save_checkpoint(Path(self.dirpath or "") / "last.ckpt")
