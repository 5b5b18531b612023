"""Progress of a run: a bar on a terminal, some twenty lines elsewhere."""

from __future__ import annotations

import math
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from lf_lightning.callbacks.plots import phase_name

LINES = 20
"""So many lines a fit prints at most where there is no terminal, and one more at its end if it ends early."""


class PhaseProgress(ProgressBar):
    """Shows phase, epoch, loss and validation macro-F1: a rich bar on a terminal, else a line after each twentieth of a fit.

    A line comes at the end of an epoch, and counts the seconds since the fit began.

    Args:
        every_n_batches: Redraw the bar after so many batches.
    """

    def __init__(self, every_n_batches: int = 1) -> None:
        super().__init__()
        self.every_n_batches = max(1, every_n_batches)
        self._enabled = True
        self._bar: Progress | None = None
        self._fit: TaskID | None = None
        self._other: TaskID | None = None
        self._started = time.monotonic()
        self._unsaid = ""

    def disable(self) -> None:
        """Shows nothing: Lightning calls it on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Shows something again."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints a line without breaking the bar."""
        if self._enabled:
            console = Console() if self._bar is None else self._bar.console
            console.print(Text(" ".join(map(str, args))), soft_wrap=True)

    # ---- training

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._started, self._unsaid = time.monotonic(), ""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the bar of an epoch."""
        if self._show():
            assert self._bar is not None
            if self._fit is not None:
                self._bar.remove_task(self._fit)
            self._fit = self._bar.add_task(self._title(trainer, pl_module), total=_total(self.total_train_batches), values="")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the bar."""
        done = batch_idx + 1
        if (
            self._bar is not None
            and self._fit is not None
            and (done % self.every_n_batches == 0 or done == self.total_train_batches)
        ):
            self._bar.update(self._fit, completed=done, values=_values(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Completes the bar, or prints a line if another twentieth of the epochs is done."""
        if self._bar is not None and self._fit is not None:
            self._bar.update(self._fit, values=_values(trainer))
        elif self._enabled:
            seconds = time.monotonic() - self._started
            self._unsaid = f"{self._title(trainer, pl_module)}  {_values(trainer)}  {seconds:.{int(seconds < 10)}f} s"
            if _reaches_a_mark(trainer.current_epoch, trainer.max_epochs):
                self._say()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the bar, or prints the last epoch of a fit that ends before its plan."""
        self._stop()
        self._say()

    # ---- evaluation

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds a bar beside the epoch's."""
        if not trainer.sanity_checking:
            self._start_other("validation")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Moves it."""
        if not trainer.sanity_checking:
            self._move_other(batch_idx, sum(trainer.num_val_batches))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes it away."""
        self._end_other()
        if trainer.state.fn == "validate":
            self._stop()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts a bar."""
        self._start_other("test")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Moves it."""
        self._move_other(batch_idx, sum(trainer.num_test_batches))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops it before results are printed."""
        self._stop()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts a bar."""
        self._start_other("predict")

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Moves it."""
        self._move_other(batch_idx, sum(trainer.num_predict_batches))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops it."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Gives the terminal back."""
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives the terminal back."""
        self._stop()

    # ---- inside

    def _show(self) -> bool:
        """Whether there is a bar; starts it on a terminal."""
        if self._bar is None and self._enabled and Console().is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[values]}", markup=False),
            )
            self._bar.start()
        return self._bar is not None

    def _start_other(self, name: str) -> None:
        self._end_other()
        if self._show():
            assert self._bar is not None
            self._other = self._bar.add_task(name, total=None, values="")

    def _move_other(self, batch_idx: int, total: float) -> None:
        if self._bar is not None and self._other is not None:
            self._bar.update(self._other, completed=batch_idx + 1, total=_total(total))

    def _end_other(self) -> None:
        if self._bar is not None and self._other is not None:
            self._bar.remove_task(self._other)
        self._other = None

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._fit = self._other = None

    def _say(self) -> None:
        if self._unsaid:
            self.print(self._unsaid)
        self._unsaid = ""

    def _title(self, trainer: Trainer, module: LightningModule) -> str:
        epochs = trainer.max_epochs
        last = f"/{epochs}" if epochs and epochs > 0 else ""
        return f"epoch {trainer.current_epoch + 1}{last}  {phase_name(module, trainer.current_epoch)}"


def _reaches_a_mark(epoch: int, epochs: int | None) -> bool:
    """Returns whether the end of `epoch`, counted from 0, completes another twentieth of all epochs.

    >>> [epoch for epoch in range(50) if _reaches_a_mark(epoch, 50)][:4]
    [2, 4, 7, 9]
    """
    if not epochs or epochs < 0:  # nobody knows how many: each power of two, then every 64th
        return (epoch + 1) % 64 == 0 or (epoch + 1).bit_count() == 1
    return (epoch + 1) * LINES // epochs > epoch * LINES // epochs


def _values(trainer: Trainer) -> str:
    metrics = trainer.callback_metrics
    loss = metrics.get("train/loss_epoch", metrics.get("train/loss", metrics.get("train/loss_step")))
    shown = {"loss": loss, "validation macro-F1": metrics.get("validation/macro_f1")}
    return "  ".join(f"{name} {float(value):.3f}" for name, value in shown.items() if value is not None)


def _total(batches: float) -> float | None:
    return batches if math.isfinite(batches) else None
