"""What a fitted system says of its validation rows with none, some and all scorers asked: what promises are fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lf_lightning.calibration.fitted import FittedModule
from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError


class ValidationRows(FittedModule):
    """Calibrated probabilities and labels of n validation rows, at each stage of asking M scorers; no texts.

    Plans, prediction sets and abstentions are made of these rows when they are asked for: each depends on what a user promises
    and pays, which nobody knows at the fit.

    Args:
        num_labels: K.
        num_scorers: M.
        task: Multi-class or multi-label.
        max_rows: Of more rows so many are kept, drawn at random.
    """

    _witness = "labels"
    probabilities: Tensor
    labels: Tensor
    values: Tensor

    def __init__(self, num_labels: int, num_scorers: int, task: Task, max_rows: int = 2000) -> None:
        super().__init__()
        if max_rows < 1:
            raise ConfigurationError(f"max_rows={max_rows}: give at least 1.")
        self.num_labels, self.num_scorers, self.max_rows = num_labels, num_scorers, max_rows
        self.task: Task = task
        self.register_buffer("probabilities", torch.full((num_scorers + 1, 1, num_labels), torch.nan))
        self.register_buffer("labels", torch.full((1,) if task == "multiclass" else (1, num_labels), torch.nan))
        self.register_buffer("values", torch.full((1, num_scorers), torch.nan))

    def chosen(self, n: int) -> Tensor:
        """Returns which of n rows to keep, ascending; always the same ones."""
        return torch.randperm(n, generator=torch.Generator().manual_seed(0))[: self.max_rows].sort().values

    @torch.no_grad()
    def keep(self, probabilities: Tensor, labels: Tensor, values: Tensor) -> None:
        """Keeps rows.

        Args:
            probabilities: (M + 1, n, K), calibrated: with none, one, ..., all M scorers asked.
            labels: (n,) or (n, K), all labelled.
            values: (n, M), what asking each was worth by the deferral; NaN without one.

        Raises:
            ConfigurationError: Shapes that do not fit, or no row.
        """
        n = len(labels)
        wanted = (self.num_scorers + 1, n, self.num_labels)
        if not n or tuple(probabilities.shape) != wanted or tuple(values.shape) != (n, self.num_scorers):
            raise ConfigurationError(
                f"probabilities {tuple(probabilities.shape)}, labels {tuple(labels.shape)} and values {tuple(values.shape)} "
                f"do not fit {wanted}."
            )
        device = self.labels.device
        self.probabilities = probabilities.float().to(device)
        self.labels = labels.float().to(device)
        self.values = values.float().to(device)
        self._seen_fitted = False

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        """Returns `probabilities`, `labels` (int64) and `values` as arrays.

        Raises:
            NotFittedError: Before `keep`.
        """
        self._require_fitted()
        p, y, v = (tensor.detach().cpu().double().numpy() for tensor in (self.probabilities, self.labels, self.values))
        return p, y.astype(np.int64), v

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, buffer in list(self._buffers.items()):  # they are as long as the rows of that fit
            kept = state_dict.get(prefix + name)
            if isinstance(kept, Tensor) and buffer is not None:
                self._buffers[name] = buffer.new_full(kept.shape, torch.nan)
        super()._load_from_state_dict(state_dict, prefix, *rest)
