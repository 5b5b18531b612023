"""The history of an agreement or a margin, row by row and net by net, over the epochs of a fit and the processes of a run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class History(Metric):
    """Mean and deviation over epochs of what each net said of each row, and what it says in the epoch that is under way.

    The epoch's values are sum-states, so that every rank gets those of all ranks: a registered buffer would be overwritten from
    rank 0. They are divided by how often a row came, since the processes' shares repeat rows to be equal in number. Mean and
    deviation, the same on all ranks, stay on the CPU (Welford 1962: exact also where the deviation is small).

    20 bytes a row and net for one net, 18 for two.

    Args:
        rows: N, all rows of the train split.
        nets: Number of nets.
    """

    full_state_update = False
    told: Tensor
    times: Tensor

    def __init__(self, rows: int, nets: int) -> None:
        super().__init__()
        self.add_state("told", torch.zeros(rows, nets), "sum")
        self.add_state("times", torch.zeros(rows, dtype=torch.uint8), "sum")
        self.mean = torch.zeros(rows, nets)
        """(N, nets), as `confidence`, but 0 where there was no epoch."""
        self.squares = torch.zeros(rows, nets)
        """(N, nets), the sum of squared deviations from the mean."""
        self.epochs = torch.zeros(rows, dtype=torch.int16)
        """(N,), how many epochs have told of the row."""

    @property
    def confidence(self) -> Tensor:
        """(N, nets), the mean over a row's epochs, NaN where there was none."""
        return self.mean.masked_fill((self.epochs == 0).unsqueeze(-1), torch.nan)

    @property
    def deviation(self) -> Tensor:
        """(N, nets), the population standard deviation over a row's epochs; 0 where there were fewer than two."""
        return (self.squares / self.epochs.clamp(min=1).unsqueeze(-1)).sqrt()

    def update(self, index: Tensor, values: Tensor) -> None:
        """Adds a batch to the epoch.

        Args:
            index: (B,) rows.
            values: (B, nets), detached.
        """
        self.told.index_add_(0, index, values.to(self.told))
        self.times.index_add_(0, index, torch.ones_like(index, dtype=torch.uint8))

    def compute(self) -> Tensor:
        """Returns the epoch's values (N, nets) of all ranks, NaN at rows that did not come."""
        return self.told / torch.where(self.times > 0, self.times, torch.nan).unsqueeze(-1)

    def end_epoch(self) -> Tensor:
        """Takes the epoch's values into mean and deviation, begins another epoch, and returns them, on the CPU."""
        values: Tensor = self.compute().cpu()
        self.take_in(values)
        self.reset()
        return values

    def take_in(self, values: Tensor) -> None:
        """Takes in an epoch's values (N, nets) that are already those of all ranks; rows of NaN are left as they are."""
        came = values.isfinite().all(-1)
        new = values[came]
        self.epochs[came] += 1
        before = new - self.mean[came]
        self.mean[came] += before / self.epochs[came].unsqueeze(-1)
        self.squares[came] += before * (new - self.mean[came])

    def kept(self) -> dict[str, Tensor]:
        """Returns what a checkpoint keeps, of an epoch under way what all processes were told: every one has to ask."""
        kept = {name: getattr(self, name).clone() for name in ("told", "times", "mean", "squares", "epochs")}
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for name in ("told", "times"):
                torch.distributed.all_reduce(kept[name])
        return {name: value.cpu() for name, value in kept.items()}

    def restore(self, kept: dict[str, Any]) -> None:
        """Takes it back.

        In a run of several processes every one is given what all were told in an unfinished epoch, which must count once.
        """
        for name, value in kept.items():
            setattr(self, name, value.to(getattr(self, name).device))
        if torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_rank():
            self.told, self.times = torch.zeros_like(self.told), torch.zeros_like(self.times)
        self._update_count = 1  # else torchmetrics would warn of an epoch whose every batch came before the restart
