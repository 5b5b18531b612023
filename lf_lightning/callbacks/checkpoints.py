"""Checkpoints: `best.ckpt` of the last phase, `last.ckpt` of every epoch and of an interruption."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

FOLDER = "checkpoints"


class BestCheckpoint(ModelCheckpoint):
    """Keeps the weights of the best validation as `checkpoints/best.ckpt`.

    Only epochs of a fit's last phase compete: those before it are not the finished system.

    Args:
        monitor: The logged metric that decides.
        mode: Whether less (`min`) or more (`max`) is better.
    """

    def __init__(self, monitor: str = "validation/nll", mode: str = "min") -> None:
        super().__init__(
            filename="best",
            monitor=monitor,
            mode=mode,
            save_top_k=1,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds the run's folder."""
        self.dirpath = str(Path(trainer.default_root_dir) / FOLDER)
        super().setup(trainer, pl_module, stage)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves if this epoch competes and is the best so far."""
        if pl_module.is_selecting:
            super().on_validation_end(trainer, pl_module)


class LastCheckpoint(Callback):
    """Keeps `checkpoints/last.ckpt`: after every epoch, every so many steps, and when a run is interrupted or fails.

    Args:
        every_n_steps: Also save after so many optimiser steps; 0: at epochs' ends only.
    """

    def __init__(self, every_n_steps: int = 0) -> None:
        self.every_n_steps = every_n_steps
        self._saved_step = -1

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Saves within the epoch."""
        step = trainer.global_step
        if trainer.is_last_batch:  # resumed from here the epoch would go without its validation; its end is saved anyway
            return
        if self.every_n_steps and step % self.every_n_steps == 0 and step != self._saved_step:
            self._saved_step = step
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves after the epoch and its validation."""
        self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves on SIGTERM, Ctrl-C or an error, unless the weights themselves are the error.

        Within a validation the last state stays, from which the whole validation is made again. If there is none yet the
        weights are saved all the same, but in the last epoch, which would end without its calibrators.
        """
        if trainer.state.fn != "fit" or trainer.global_step == 0 or isinstance(exception, ArithmeticError):
            return
        first_validation = not self._path(trainer).exists() and trainer.current_epoch + 1 != trainer.max_epochs
        if trainer.training or first_validation:
            self._save(trainer)

    @staticmethod
    def _path(trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / FOLDER / "last.ckpt"

    def _save(self, trainer: Trainer) -> None:
        if not getattr(trainer, "fast_dev_run", False):
            trainer.save_checkpoint(self._path(trainer), weights_only=False)  # resumable
