"""What every system shares: steps, phases, named parameter groups, schedule and logging."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import AdamW

from lf_lightning.calibration import Calibrator, PlugInDecision, TemperatureScaling, Thresholds
from lf_lightning.contract import Batch, Outputs, Phase, RowsData, Task
from lf_lightning.errors import ConfigurationError, NotFiniteError
from lf_lightning.systems.hyperparameters import check_factories

Schedule = Literal["linear", "cosine", "constant"]


class ClassifierModule(LightningModule, ABC):
    """Base of the systems: steps, phases, logging and state; a subclass gives outputs, losses, groups and phases.

    Args:
        labels: The K label names, in the order of the logits.
        task: Multi-class or multi-label.
        calibrator: Builds the calibrator of the final logits from (K, task).
        weight_decay: AdamW's, applied to matrices only, never to biases and norms.
        warmup: Share of a phase's steps over which the learning rates rise from 0.
        schedule: How they fall to 0 afterwards.
        seed: Fixes folds, initial heads and dropout.
        members: Names of `Outputs.members`, each of which gets a temperature and a decision rule for the tables.
        tune_decisions: Tune decisions on validation rows (`PlugInDecision`, `Thresholds`); else arg max, or 0.5.
    """

    def __init__(
        self,
        labels: Sequence[str],
        task: Task,
        calibrator: Callable[[int, Task], Calibrator],
        weight_decay: float,
        warmup: float,
        schedule: Schedule,
        seed: int,
        members: Sequence[str] = (),
        tune_decisions: bool = True,
    ) -> None:
        super().__init__()
        if len(labels) < 2 - (task == "multilabel"):
            raise ConfigurationError(
                f"labels={list(labels)!r}: a classifier needs two at least. Way out: name them, or link them to the data."
            )
        self.labels = list(labels)
        self.task: Task = task
        self.weight_decay, self.warmup, self.schedule, self.seed = weight_decay, warmup, schedule, seed
        self.calibrator = calibrator(len(labels), task)
        rule = PlugInDecision if task == "multiclass" else Thresholds
        self.decision = rule(len(labels)) if tune_decisions else None
        self.member_names = list(members)
        self.member_calibrators = nn.ModuleList(TemperatureScaling(len(labels), task) for _ in members)
        self.member_decisions = nn.ModuleList(rule(len(labels)) for _ in members if tune_decisions)
        self.evaluated: dict[str, Outputs] = {}
        self.phase_begun = -1

    @abstractmethod
    def outputs(self, batch: Batch) -> Outputs:
        """Returns the system's opinion of a batch, in evaluation mode."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Returns `loss`, which is minimised, and its parts, which are only logged; scalars."""

    @abstractmethod
    def parameter_groups(self) -> dict[str, tuple[nn.Module, float]]:
        """Returns the named groups: module and learning rate."""

    @abstractmethod
    def phases(self) -> list[Phase]:
        """Returns the plan of the fit; the last phase is the one whose epochs compete for the best checkpoint."""

    def held_out(self) -> Outputs | None:
        """Returns rows (those of validation among them) with opinions not fitted on them, for calibrators; None: validation."""
        return None

    def fit_references(self, outputs: Outputs) -> None:
        """Called with the validation rows before calibrators are fitted on them; nothing unless a system fits more."""

    def begin_phase(self, position: int, phase: Phase) -> None:
        """Called once at the start of each phase, with the weights as the phase before it left them."""

    # ---- phases

    def phase_of(self, epoch: int) -> tuple[int, Phase, int]:
        """Returns the position of the phase that holds `epoch`, the phase, and the epoch's number within it."""
        plan = self.phases()
        for position, phase in enumerate(plan):
            if epoch < phase.epochs or position == len(plan) - 1:
                return position, phase, epoch
            epoch -= phase.epochs
        raise AssertionError("a plan has a phase")

    def rows_of_epoch(self, epoch: int) -> Tensor | None:
        """See `contract.PhasedSystem`; all rows unless a system says otherwise."""
        return None

    @property
    def data(self) -> Any:
        """The trainer's data module, or None."""
        return getattr(self.trainer, "datamodule", None)

    @property
    def rows_data(self) -> RowsData:
        """The data module as `contract.RowsData`.

        Raises:
            ConfigurationError: It is not one.
        """
        if not isinstance(self.data, RowsData):
            raise ConfigurationError(
                f"{type(self).__name__} chooses its rows, but {type(self.data).__name__} does not offer them. "
                "Way out: ScoredTextDataModule, or evidence: joint."
            )
        return self.data

    @property
    def is_fitting(self) -> bool:
        """Whether a fit is under way, its validation included."""
        return self._trainer is not None and self._trainer.state.fn == "fit" and self._trainer.state.status == "running"

    @property
    def is_selecting(self) -> bool:
        """Whether this epoch's weights compete for the best checkpoint: only those of the last phase do."""
        return self.phase_of(self.current_epoch)[0] == len(self.phases()) - 1

    def setup(self, stage: str) -> None:
        """Sets the number of epochs to the plan's, and has the rows of each epoch served anew."""
        trainer: Any = self.trainer  # some of its attributes have no declaration
        if stage != "fit" or trainer.fast_dev_run:
            return
        epochs, asked = sum(phase.epochs for phase in self.phases()), self.trainer.fit_loop.max_epochs
        if asked not in (None, -1, 1000) and asked < epochs:
            raise ConfigurationError(
                f"trainer.max_epochs={asked} is less than the {epochs} epochs of the plan "
                f"({', '.join(f'{p.name}: {p.epochs}' for p in self.phases())}). Way out: leave max_epochs at -1."
            )
        self.trainer.fit_loop.max_epochs = epochs
        # Serving rows anew would repeat it in every epoch, and each epoch's mean is logged, however few batches it has.
        warnings.filterwarnings("ignore", message=r"The number of training batches .* is smaller than the logging interval")
        trainer.reload_dataloaders_every_n_epochs = 1

    def on_train_epoch_start(self) -> None:
        """Begins a phase where one starts."""
        self._begin_phase_if_due()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Sets learning rates and the random state as pure functions of (seed, epoch, batch): a resumed run repeats them."""
        self._begin_phase_if_due()  # resumed at an epoch's very end, Lightning leaves out the next epoch's start
        point = ((self.seed * 9973 + self.current_epoch) * 1_000_003 + batch_idx) * 4099 + self.global_rank
        point %= 2**63  # a large seed would not fit into the generator's 64 bits
        # Not torch.manual_seed, which formats the stack for each kind of device that is not there: 0.4 ms a step.
        torch.default_generator.manual_seed(point)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(point)
        _, phase, epoch = self.phase_of(self.current_epoch)
        factor = lr_factor(
            (epoch + (batch_idx + 0.5) / self.trainer.num_training_batches) / phase.epochs, self.warmup, self.schedule
        )
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] * factor

    def _begin_phase_if_due(self) -> None:
        position, phase, _ = self.phase_of(self.current_epoch)
        if position != self.phase_begun:
            self.begin_phase(position, phase)
            self.phase_begun = position

    # ---- Lightning's steps

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the loss; stops on one that is not finite."""
        losses = self.losses(batch)
        rows = len(batch["index"])
        for name, value in losses.items():
            self.log(f"train/{name}_step", value.detach(), on_step=True, on_epoch=False, batch_size=rows)
            # The mean over all processes; a step's is this process's own, for which none has to wait.
            self.log(f"train/{name}_epoch", value.detach(), on_step=False, on_epoch=True, batch_size=rows, sync_dist=True)
        loss = losses["loss"].detach()
        if not torch.isfinite(loss):
            raise NotFiniteError(
                f"The loss is {float(loss)} in epoch {self.current_epoch}, batch {batch_idx}. "
                "Way out: a smaller learning rate, trainer.gradient_clip_val: 1.0, or precision 32-true."
            )
        return losses["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> Outputs:  # type: ignore[override]  # callbacks read it
        """Returns the outputs; callbacks gather and score them."""
        return self.outputs(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Outputs:  # type: ignore[override]
        """As `validation_step`."""
        return self.outputs(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """As `validation_step`."""
        return self.outputs(batch)

    def configure_optimizers(self) -> AdamW:
        """Returns one AdamW over the named groups; matrices decay, biases and norms do not."""
        groups: list[dict[str, Any]] = []
        for name, (module, lr) in self.parameter_groups().items():
            trained = [p for p in module.parameters() if p.requires_grad]
            for suffix, decay, chosen in (
                ("", self.weight_decay, [p for p in trained if p.ndim > 1]),
                ("_no_decay", 0.0, [p for p in trained if p.ndim < 2]),
            ):
                if chosen:
                    groups.append({"params": chosen, "name": name + suffix, "lr": lr, "initial_lr": lr, "weight_decay": decay})
        # The fused step takes a fifth of the time on a CPU, but cannot be clipped under autocast (Lightning's MixedPrecision).
        trainer = self._trainer
        clipped_mixed = trainer is not None and "mixed" in str(trainer.precision) and bool(trainer.gradient_clip_val)
        return AdamW(groups, fused=self.device.type in ("cpu", "cuda") and not clipped_mixed)

    # ---- state

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps which phase has begun."""
        checkpoint["phase_begun"] = self.phase_begun

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores it."""
        self.phase_begun = int(checkpoint["phase_begun"])

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **options: Any) -> Any:
        """As Lightning's, but reads plain values only and refuses classes outside the packages of `lf_lightning.imports`."""
        kept = torch.load(checkpoint_path, map_location="cpu", weights_only=True, mmap=True)
        check_factories(kept.get(cls.CHECKPOINT_HYPER_PARAMS_KEY, {}), cls)
        return super().load_from_checkpoint(checkpoint_path, *args, **{**options, "weights_only": True})


def lr_factor(progress: float, warmup: float, schedule: Schedule) -> float:
    """Returns the learning rate's factor in [0, 1] at `progress` in [0, 1] of a phase.

    >>> [round(lr_factor(p, 0.1, "linear"), 2) for p in (0.0, 0.05, 0.1, 0.55, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    rest = (progress - warmup) / max(1 - warmup, 1e-9)
    if schedule == "constant":
        return 1.0
    return 1 - rest if schedule == "linear" else (1 + math.cos(math.pi * rest)) / 2
