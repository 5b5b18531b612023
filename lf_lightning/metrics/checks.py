"""What every metric asks of its arguments: the right shapes, finite numbers, labels that exist."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lf_lightning.errors import ConfigurationError, DataError, NotFiniteError

if TYPE_CHECKING:
    import torch

    from lf_lightning.contract import Task

Values: TypeAlias = "ArrayLike | torch.Tensor"
"""A NumPy array, something that becomes one, or a tensor on any device."""


def finite(values: Values, name: str) -> NDArray[Any]:
    """Returns `values` as an array: floats as float64, integers and booleans as int64.

    Raises:
        NotFiniteError: A value is NaN or infinite.
    """
    loaded = sys.modules.get("torch")  # not imported here: who has a tensor has torch, and comparing runs needs none
    if loaded is not None and isinstance(values, loaded.Tensor):
        tensor: torch.Tensor = values.detach().cpu()
        array: NDArray[Any] = (tensor.double() if tensor.is_floating_point() else tensor).numpy()
    else:
        array = np.asarray(values)
    if array.dtype.kind in "bui":
        return array.astype(np.int64)
    if array.dtype.kind != "f":
        raise DataError(f"{name} holds {array.dtype}, not numbers. Way out: pass label numbers 0..K-1, or a table of 0 and 1.")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        number = int((~np.isfinite(array)).sum())
        raise NotFiniteError(
            f"{name} has {number} NaN or infinite values. Way out: leave rows without an opinion or label out."
        )
    return array


def check_labels(labels: Values, name: str = "labels") -> NDArray[np.int64]:
    """Returns class numbers (n,) or a table (n, K) of 0 and 1 as int64.

    Raises:
        NotFiniteError: A NaN.
        DataError: No row, a negative or fractional number, or a table with other values than 0 and 1.
        ConfigurationError: Neither one nor two dimensions.
    """
    array = finite(labels, name)
    if array.ndim not in (1, 2):
        raise ConfigurationError(f"{name} of shape {array.shape} must be (n,) or (n, K).")
    if array.size == 0:
        raise DataError(f"{name} of shape {array.shape} has no row, so there is nothing to measure.")
    whole = array.astype(np.int64)
    if (whole != array).any() or (whole < 0).any() or (array.ndim == 2 and (whole > 1).any()):
        allowed = "class numbers from 0 on" if array.ndim == 1 else "0 and 1"
        raise DataError(f"{name} must hold {allowed}, not {array.min()}..{array.max()}. Way out: leave unlabelled rows out.")
    return whole


def check_decisions(
    decisions: Values, labels: Values, num_labels: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns decisions and labels, both (n,) or both (n, K), as int64.

    Raises:
        NotFiniteError: A NaN.
        DataError: See `check_labels`; or a class number that is not below `num_labels`.
        ConfigurationError: Shapes that differ, from each other or from `num_labels`.
    """
    made, true = check_labels(decisions, "decisions"), check_labels(labels)
    if made.shape != true.shape:
        raise ConfigurationError(f"decisions of shape {made.shape} and labels of shape {true.shape} must be of one shape.")
    if num_labels is not None and true.ndim == 2 and true.shape[1] != num_labels:
        raise ConfigurationError(f"num_labels={num_labels} does not fit labels of shape {true.shape}.")
    if num_labels is not None and true.ndim == 1 and max(made.max(), true.max()) >= num_labels:
        raise DataError(f"num_labels={num_labels}, but class {max(made.max(), true.max())} occurs; classes count from 0.")
    return made, true


def check_probabilities(probabilities: Values, labels: Values, task: Task) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns probabilities (n, K) float64 and labels (n,) or (n, K) int64.

    Raises:
        NotFiniteError: A NaN.
        DataError: A probability outside [0, 1], multi-class rows that do not sum to 1 within 1e-3, or see `check_labels`.
        ConfigurationError: Shapes that do not fit the task or each other.
    """
    p, y = finite(probabilities, "probabilities").astype(np.float64), check_labels(labels)
    wanted = {"multiclass": p.shape[:1], "multilabel": p.shape}.get(task)
    if p.ndim != 2 or y.shape != wanted:
        raise ConfigurationError(
            f"probabilities of shape {p.shape} and labels of shape {y.shape} do not fit task={task!r}: "
            "multiclass takes (n, K) and (n,), multilabel (n, K) and (n, K)."
        )
    if p.min() < 0 or p.max() > 1:
        raise DataError(f"probabilities lie in [{p.min():.4g}, {p.max():.4g}]. Way out: softmax or sigmoid of the logits.")
    if task == "multiclass":
        off = float(np.abs(p.sum(1) - 1).max())
        if off > 1e-3:
            raise DataError(f"rows of multi-class probabilities must sum to 1; one is off by {off:.3g}.")
        if y.max() >= p.shape[1]:
            raise DataError(f"labels hold class {y.max()}, probabilities have {p.shape[1]} columns; classes count from 0.")
    return p, y
