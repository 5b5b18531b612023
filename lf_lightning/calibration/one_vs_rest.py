"""Calibrators that treat each label by itself, against the rest, and renormalise where the labels exclude each other."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lf_lightning.calibration.calibrators import Calibrator, at_least
from lf_lightning.calibration.functional import (
    FloatArray,
    fit_isotonic,
    fit_platt,
    log_probabilities,
    one_hot,
    one_vs_rest_log_odds,
)
from lf_lightning.calibration.rows import Rows
from lf_lightning.contract import Task


class _OneVsRest(Calibrator):
    """A map of each label's log-odds to its own log-odds; labels with few rows take those of temperature scaling.

    Multi-class answers are log-probabilities, p_k / sum p; multi-label answers are logits.
    """

    _method: str
    temperature: Tensor
    own: Tensor

    def __init__(self, num_labels: int, task: Task, min_rows: int) -> None:
        super().__init__(num_labels, task)
        self.min_rows = int(at_least("min_rows", min_rows, 1))
        self.register_buffer("temperature", torch.tensor(torch.nan))
        # 1 where a label has its own map, 0 where temperature scaling stands in.
        self.register_buffer("own", torch.full((num_labels,), torch.nan))

    def _fit(self, rows: Rows) -> None:
        temperature = self._temperature_of(rows, 2, 1.0)
        self.temperature.fill_(temperature or 1.0)
        self.own.zero_()
        self._clear()
        if temperature is None:
            return
        enough = self._enough(rows, self.min_rows, self._method)
        log_odds = one_vs_rest_log_odds(torch.from_numpy(rows.values), self.task).numpy()
        positive = one_hot(rows.labels, self.num_labels, self.task)
        for label in np.flatnonzero(enough):
            self._fit_label(int(label), log_odds[:, label], positive[:, label])
        self.own.copy_(torch.from_numpy(enough))

    def _calibrate(self, logits: Tensor) -> Tensor:
        own = self.own.bool()
        shared = one_vs_rest_log_odds(logits / self.temperature, self.task)
        log_odds = torch.where(own, self._map(one_vs_rest_log_odds(logits, self.task)), shared)
        if self.task == "multilabel":
            return log_odds
        return log_probabilities(logsigmoid(log_odds), "multiclass")

    @abstractmethod
    def _clear(self) -> None:
        """Fills the maps with finite values; a NaN that `torch.where` passes over would still spoil gradients."""

    @abstractmethod
    def _fit_label(self, label: int, log_odds: FloatArray, positive: FloatArray) -> None:
        """Fits the map of one label on log-odds (n,) and 0/1 (n,)."""

    @abstractmethod
    def _map(self, log_odds: Tensor) -> Tensor:
        """Calibrated log-odds (B, K) of log-odds (B, K); anything in labels without a map of their own."""


class PlattScaling(_OneVsRest):
    """A sigmoid for each label, sigmoid(a s + b) of its log-odds s, with Platt's smoothed targets.

    Args:
        num_labels: K, the number of labels.
        task: `multiclass` (one against the rest, renormalised) or `multilabel`.
        min_rows: A label needs as many rows with it, and without it, to get its own sigmoid; else temperature scaling.
    """

    _method = "platt"
    scale: Tensor
    bias: Tensor

    def __init__(self, num_labels: int, task: Task, min_rows: int = 5) -> None:
        super().__init__(num_labels, task, min_rows)
        self.register_buffer("scale", torch.full((num_labels,), torch.nan))
        self.register_buffer("bias", torch.full((num_labels,), torch.nan))

    def _clear(self) -> None:
        self.scale.fill_(1.0)
        self.bias.zero_()

    def _fit_label(self, label: int, log_odds: FloatArray, positive: FloatArray) -> None:
        self.scale[label], self.bias[label] = fit_platt(log_odds, positive)

    def _map(self, log_odds: Tensor) -> Tensor:
        return log_odds * self.scale + self.bias


class IsotonicCalibration(_OneVsRest):
    """A non-decreasing step-like function for each label, of its log-odds; needs more rows than the others.

    The probabilities of a label lie in [1/(n+2), 1-1/(n+2)] for n rows, before renormalisation.

    Args:
        num_labels: K, the number of labels.
        task: `multiclass` (one against the rest, renormalised) or `multilabel`.
        min_rows: A label needs as many rows with it, and without it, to get its own function; else temperature scaling.
        knots: Number of knots kept for each label, whatever the number of rows, so that every state dict has one shape.
    """

    _method = "isotonic"
    knots_x: Tensor
    knots_y: Tensor

    def __init__(self, num_labels: int, task: Task, min_rows: int = 10, knots: int = 256) -> None:
        super().__init__(num_labels, task, min_rows)
        self.knots = int(at_least("knots", knots, 2))
        self.register_buffer("knots_x", torch.full((num_labels, knots), torch.nan))
        self.register_buffer("knots_y", torch.full((num_labels, knots), torch.nan))

    def _clear(self) -> None:
        self.knots_x.zero_()
        self.knots_y.fill_(0.5)

    def _fit_label(self, label: int, log_odds: FloatArray, positive: FloatArray) -> None:
        x, y = fit_isotonic(log_odds, positive, self.knots)
        self.knots_x[label].copy_(torch.from_numpy(x))
        self.knots_y[label].copy_(torch.from_numpy(y))

    def _map(self, log_odds: Tensor) -> Tensor:
        s = log_odds.T.contiguous()
        right = torch.searchsorted(self.knots_x, s, right=True).clamp(1, self.knots - 1)
        x0, x1 = self.knots_x.gather(1, right - 1), self.knots_x.gather(1, right)
        y0, y1 = self.knots_y.gather(1, right - 1), self.knots_y.gather(1, right)
        # Knots that coincide in float32 (and the repeated last one) are a step: its upper end from the knot on.
        width = x1 - x0
        part = torch.where(width > 0, (s - x0) / width.where(width > 0, torch.ones_like(width)), (s >= x1).to(s))
        return torch.logit((y0 + part.clamp(0.0, 1.0) * (y1 - y0)).T)
