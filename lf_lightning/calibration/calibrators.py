"""Calibrators: modules that turn logits into calibrated logits, fitted on validation rows.

What a fit does when rows are short, the same everywhere (`report` tells which):
  fewer than `min_rows` usable rows for temperature scaling, or labels of one kind only   -> identity
  vector, Platt, isotonic: a label with fewer than `min_rows` rows with it, or without it -> temperature scaling for that label
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from lf_lightning.calibration.fitted import FittedModule
from lf_lightning.calibration.functional import FloatArray, fit_temperature, fit_vector, one_hot
from lf_lightning.calibration.rows import Rows, usable_rows
from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError


class Calibrator(FittedModule):
    """Base of calibrators. A subclass registers NaN buffers and writes `_fit` and `_calibrate`; the rest is here.

    Args:
        num_labels: K, the number of labels; at least 2 if multi-class, 1 if multi-label.
        task: `multiclass` or `multilabel`.
    """

    _witness = "temperature"

    def __init__(self, num_labels: int, task: Task) -> None:
        super().__init__()
        least = 2 if task == "multiclass" else 1
        if task not in ("multiclass", "multilabel") or num_labels < least:
            raise ConfigurationError(
                f"task={task!r}, num_labels={num_labels!r}: multiclass takes 2 or more labels, multilabel 1 or more."
            )
        self.num_labels = num_labels
        self.task: Task = task

    @torch.no_grad()
    def fit(self, logits: Tensor, labels: Tensor) -> None:
        """Fits on validation rows; the same rows in any order give the same fit up to rounding.

        Args:
            logits: (n, K), any device and dtype. Rows of NaN (no opinion) are ignored.
            labels: (n,) integers, negative where unlabelled; or (n, K) of 0 and 1, rows of NaN where unlabelled. Unlabelled
                rows are ignored.

        Raises:
            ConfigurationError: Shapes that do not fit.
            NotFiniteError: A logit is infinite, or NaN in a row that has others.
            DataError: A label that is not one of the K.
        """
        rows = usable_rows(logits, labels, self.num_labels, self.task)
        self.report = {"method": "identity", "reason": "", "rows": len(rows.values), "ignored_rows": rows.ignored}
        self._fit(rows)
        self._seen_fitted = False

    def forward(self, logits: Float[Tensor, "rows labels"]) -> Float[Tensor, "rows labels"]:
        """Calibrated logits (B, K) float32 of logits (B, K); NaN where they are NaN (multi-class: the whole row).

        Softmax or sigmoid of the answer gives calibrated probabilities. Computed in float32 whatever the input or autocast
        says.

        Raises:
            NotFittedError: Before `fit`.
        """
        self._require_fitted()
        z = logits.float()
        missing = torch.isnan(z)
        if self.task == "multiclass":
            missing = missing.any(-1, keepdim=True)
        # Zeros in between, so that no gradient of a row with values meets a NaN.
        return self._calibrate(z.masked_fill(missing, 0.0)).masked_fill(missing, torch.nan)

    @abstractmethod
    def _fit(self, rows: Rows) -> None:
        """Fills the buffers from the usable rows, of which there may be none, and completes `report`."""

    @abstractmethod
    def _calibrate(self, logits: Tensor) -> Tensor:
        """(B, K) float32 without NaN to (B, K) float32."""

    def _temperature_of(self, rows: Rows, min_rows: int, strength: float) -> float | None:
        """The temperature, noted in the report; None (identity) where rows are short or of one kind."""
        if len(rows.values) < min_rows:
            self.report["reason"] = f"{len(rows.values)} usable rows, temperature scaling needs {min_rows}"
            return None
        if len(np.unique(rows.labels)) < 2:
            self.report["reason"] = "all usable rows have one label" if self.task == "multiclass" else "all labels are equal"
            return None
        temperature = fit_temperature(rows.values, rows.labels, self.task, strength=strength)
        self.report.update(method="temperature", temperature=temperature)
        return temperature

    def _enough(self, rows: Rows, min_rows: int, method: str) -> NDArray[np.bool_]:
        """(K,) which labels have `min_rows` rows with and without them; notes in the report what becomes of the others."""
        with_label = one_hot(rows.labels, self.num_labels, self.task).sum(0)
        fewer = np.minimum(with_label, len(rows.values) - with_label).astype(int)
        enough: NDArray[np.bool_] = fewer >= min_rows
        short = np.flatnonzero(~enough)
        if enough.any():
            self.report["method"] = method
        if len(short):
            named = ", ".join(f"{k} has {fewer[k]}" for k in short[:5]) + (", ..." if len(short) > 5 else "")
            self.report["reason"] = f"{method} needs {min_rows} rows with and without a label, label {named}: temperature there"
        return enough


class IdentityCalibration(Calibrator):
    """No calibration: logits pass through. Has no state and is always fitted.

    Args:
        num_labels: K, the number of labels.
        task: `multiclass` or `multilabel`.
    """

    @property
    def is_fitted(self) -> bool:
        """Always True."""
        return True

    def _fit(self, rows: Rows) -> None:
        pass

    def _calibrate(self, logits: Tensor) -> Tensor:
        return logits


class TemperatureScaling(Calibrator):
    """Logits divided by one temperature; keeps the order of labels, so no decision by arg-max changes.

    Args:
        num_labels: K, the number of labels.
        task: `multiclass` or `multilabel`.
        strength: Pull towards a temperature of 1, in rows; tells on few rows only, 0 turns it off.
        min_rows: Fewer usable rows leave the logits as they are; at least 2.
    """

    temperature: Tensor

    def __init__(self, num_labels: int, task: Task, strength: float = 1.0, min_rows: int = 2) -> None:
        super().__init__(num_labels, task)
        self.strength = at_least("strength", strength, 0.0)
        self.min_rows = int(at_least("min_rows", min_rows, 2))
        self.register_buffer("temperature", torch.tensor(torch.nan))

    def _fit(self, rows: Rows) -> None:
        self.temperature.fill_(self._temperature_of(rows, self.min_rows, self.strength) or 1.0)

    def _calibrate(self, logits: Tensor) -> Tensor:
        return logits / self.temperature


class VectorScaling(Calibrator):
    """A scale and a bias for each label, shrunk towards temperature scaling, which is itself shrunk towards identity.

    The temperature T is fitted first, then the scale and bias of each label on logits / T, pulled towards 1 and 0; so the
    likelihood of the rows is never below that of temperature scaling. Labels with few rows keep scale 1/T and bias 0.

    Args:
        num_labels: K, the number of labels.
        task: `multiclass` or `multilabel`.
        strength: Pull towards temperature scaling: a prior of standard deviation 1/sqrt(strength) on each scale and bias.
        min_rows: A label needs as many rows with it, and without it, to get its own scale and bias.
    """

    _witness = "scale"
    scale: Tensor
    bias: Tensor

    def __init__(self, num_labels: int, task: Task, strength: float = 4.0, min_rows: int = 5) -> None:
        super().__init__(num_labels, task)
        self.strength = at_least("strength", strength, 0.0)
        self.min_rows = int(at_least("min_rows", min_rows, 1))
        self.register_buffer("scale", torch.full((num_labels,), torch.nan))
        self.register_buffer("bias", torch.full((num_labels,), torch.nan))

    def _fit(self, rows: Rows) -> None:
        temperature = self._temperature_of(rows, 2, 1.0)
        scale: FloatArray = np.full(self.num_labels, 1.0 / (temperature or 1.0))
        bias: FloatArray = np.zeros(self.num_labels)
        if temperature is not None and (enough := self._enough(rows, self.min_rows, "vector")).any():
            own, bias = fit_vector(rows.values / temperature, rows.labels, self.task, strength=self.strength, free=enough)
            scale = scale * own
        self.scale.copy_(torch.from_numpy(scale))
        self.bias.copy_(torch.from_numpy(bias))

    def _calibrate(self, logits: Tensor) -> Tensor:
        return logits * self.scale + self.bias


def at_least(name: str, value: float, least: float) -> float:
    """Returns `value`, or raises ConfigurationError where it is NaN or below `least`."""
    if not value >= least:
        raise ConfigurationError(f"{name}={value!r} must be at least {least:g}.")
    return value
