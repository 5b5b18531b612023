"""The rows that a calibrator or a threshold is fitted on: checked, and without those that say nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError, DataError, NotFiniteError


class Rows(NamedTuple):
    """Rows to fit on.

    Attributes:
        values: (n, K) float64, finite: logits or probabilities.
        labels: (n,) int64 in 0..K-1 (multi-class), or (n, K) float64 of 0 and 1 (multi-label).
        ignored: Number of rows left out because they are unlabelled or give no opinion.
    """

    values: NDArray[np.float64]
    labels: NDArray[Any]
    ignored: int


def usable_rows(values: Tensor, labels: Tensor, num_labels: int, task: Task, *, name: str = "logits") -> Rows:
    """Returns the rows that have a label and an opinion, in float64 on the CPU.

    Left out: unlabelled rows (a negative label; multi-label: any NaN in the row), and rows of NaN values only.

    Args:
        values: (n, K) real.
        labels: (n,) integers, or (n, K) of 0, 1 and NaN.
        num_labels: K.
        task: `multiclass` or `multilabel`.
        name: What the values are called in messages.

    Raises:
        ConfigurationError: Shapes that do not fit each other or K.
        NotFiniteError: A value is infinite, or NaN in a row that has other values.
        DataError: A label is not one of the K, or not 0 or 1.
    """
    wanted = (values.shape[0],) if task == "multiclass" else (values.shape[0], num_labels)
    if values.ndim != 2 or values.shape[1] != num_labels or tuple(labels.shape) != wanted:
        raise ConfigurationError(
            f"{name} of shape {tuple(values.shape)} and labels of shape {tuple(labels.shape)} do not fit "
            f"num_labels={num_labels}, task={task!r}: expected {name} (n, {num_labels}) and labels "
            f"{'(n,)' if task == 'multiclass' else f'(n, {num_labels})'}."
        )
    z = values.detach().to("cpu", torch.float64).numpy()
    opinion = ~np.isnan(z).all(axis=1)
    broken = opinion & ~np.isfinite(z).all(axis=1)
    if broken.any():
        raise NotFiniteError(
            f"{name} has {int(broken.sum())} row(s) with NaN or infinite values, the first is row {int(np.argmax(broken))}. "
            "Way out: a row without an opinion is NaN throughout; clip probabilities before taking their logarithm."
        )
    if task == "multiclass":
        y: NDArray[Any] = labels.detach().to("cpu", torch.int64).numpy()
        labelled = y >= 0
        bad = labelled & (y >= num_labels)
    else:
        y = labels.detach().to("cpu", torch.float64).numpy()
        labelled = ~np.isnan(y).any(axis=1)
        bad = labelled & ~((y == 0) | (y == 1)).all(axis=1)
    if bad.any():
        allowed = f"0..{num_labels - 1}, or -1 where unlabelled" if task == "multiclass" else "0 and 1, or NaN where unlabelled"
        raise DataError(f"labels, row {int(np.argmax(bad))}: {y[bad][0].tolist()!r} is not allowed; allowed are {allowed}.")
    use = opinion & labelled
    return Rows(z[use], y[use], int((~use).sum()))
