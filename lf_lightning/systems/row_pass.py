"""One pass over chosen rows of a split in evaluation mode, the same answer on every rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lf_lightning.contract import Batch, Split


@torch.no_grad()
def over_rows(module: LightningModule, split: Split, rows: Tensor | None, compute: Callable[[Batch], Tensor]) -> Tensor:
    """Returns `compute` for rows of a split, (N, ...) float32 on the CPU; NaN at the rows that were not asked for.

    Args:
        module: A module attached to a trainer whose data module is a `contract.RowsData`.
        split: The split of N rows.
        rows: (n,) the rows; None for all.
        compute: Batch to (B, ...), evaluated without gradients and dropout, in the trainer's precision.
    """
    trainer: Any = module.trainer  # the strategy's and the data module's attributes have no declaration
    was_training = module.training
    module.eval()
    index, values = [], []
    for batch in trainer.datamodule.rows_dataloader(split, rows):
        moved = trainer.strategy.batch_to_device(batch, module.device)
        with trainer.precision_plugin.forward_context():
            said = compute(moved).float()
        values.append(said if trainer.world_size > 1 else said.cpu())  # of many rows they would fill the device
        index.append(moved["index"])
    module.train(was_training)
    index_here, values_here = torch.cat(index), torch.cat(values)
    all_index: Any = module.all_gather(index_here)
    all_values: Any = module.all_gather(values_here)
    out = torch.full((trainer.datamodule.number_of_rows(split), *values_here.shape[1:]), torch.nan)
    out[all_index.flatten().cpu()] = all_values.reshape(-1, *values_here.shape[1:]).cpu()
    return out
