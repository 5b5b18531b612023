"""Gathers a split's outputs from all batches and ranks, so that every other callback sees each row once."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lf_lightning.contract import Batch, Outputs


class CollectOutputs(Callback):
    """Leaves the gathered outputs of a split in `module.evaluated[split]`; comes first among the callbacks.

    Every rank holds the same rows, sorted by index, each once: samplers repeat rows to make the ranks' shares equal.
    """

    def __init__(self) -> None:
        self._parts: dict[str, list[Outputs]] = {}

    def _start(self, split: str) -> None:
        self._parts[split] = []

    def _add(self, split: str, outputs: Any) -> None:
        members = {name: logits.detach().float() for name, logits in outputs.members.items()}
        logits = outputs.logits.detach().float()
        self._parts[split].append(Outputs(outputs.index, logits, outputs.labels, members, outputs.rationales))

    def _finish(self, split: str, module: LightningModule) -> None:
        parts = self._parts.pop(split)
        if parts:
            system: Any = module
            system.evaluated[split] = gather_outputs(parts, module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts."""
        self._start("validation")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Adds a batch."""
        self._add("validation", outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gathers."""
        self._finish("validation", pl_module)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts."""
        self._start("test")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Adds a batch."""
        self._add("test", outputs)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gathers."""
        self._finish("test", pl_module)

    def on_predict_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts."""
        self._start("predict")

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Adds a batch."""
        self._add("predict", outputs)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gathers."""
        self._finish("predict", pl_module)


def gather_outputs(parts: list[Outputs], module: LightningModule) -> Outputs:
    """Returns the outputs of all batches of all ranks on the CPU, sorted by index, each row once.

    Args:
        parts: This rank's batches; all ranks have the same number of rows.
        module: The module whose strategy gathers.
    """
    index = _all(torch.cat([part.index for part in parts]), module)
    _, first = _first_of_each(index)

    def of(tensors: list[Tensor]) -> Tensor:
        return _all(torch.cat(tensors), module)[first]

    reasons = [part.rationales for part in parts if part.rationales is not None] or None
    return Outputs(
        index[first],
        of([part.logits for part in parts]),
        of([part.labels for part in parts]),
        {name: of([part.members[name] for part in parts]) for name in parts[0].members},
        None if reasons is None else of(reasons),
    )


def _all(rows: Tensor, module: LightningModule) -> Tensor:
    gathered = module.all_gather(rows)
    assert isinstance(gathered, Tensor)
    return (gathered.flatten(0, 1) if gathered.ndim > rows.ndim else gathered).cpu()


def _first_of_each(index: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the distinct values, ascending, and where each stands first."""
    values, order = torch.sort(index, stable=True)
    keep = torch.ones_like(values, dtype=torch.bool)
    keep[1:] = values[1:] != values[:-1]
    return values[keep], order[keep]
