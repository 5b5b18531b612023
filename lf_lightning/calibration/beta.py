"""A curve of three numbers over the confidence: what a temperature cannot bend."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor
from torch.nn.functional import logsigmoid

from lf_lightning.calibration.calibrators import Calibrator, at_least
from lf_lightning.calibration.functional import FloatArray, log_probabilities, one_vs_rest_log_odds
from lf_lightning.calibration.rows import Rows
from lf_lightning.contract import Task

_IDENTITY = (1.0, 1.0, 0.0)
_AHEAD = 1e-3  # of the runner-up at least, in nats, so that rounding does not overtake


def fit_beta(log_p: FloatArray, log_rest: FloatArray, right: FloatArray, *, strength: float = 1.0) -> FloatArray:
    r"""Returns (a, b, c) of :math:`\sigma(a \log p - b \log(1 - p) + c)` (Kull, Silva Filho and Flach, 2017, eq. 6).

    Minimises :math:`NLL + \frac{strength}{2} |(a, b, c) - (1, 1, 0)|^2` with :math:`a, b \ge 0` by L-BFGS-B: convex, so the
    answer is the same from any start, and the curve never falls.

    Args:
        log_p: (n,) logarithms of the probabilities.
        log_rest: (n,) logarithms of 1 - p.
        right: (n,) 1 where the event happened, else 0.
        strength: Pull towards the identity (1, 1, 0), in rows.
    """
    x = np.stack([log_p, -log_rest, np.ones_like(log_p)], 1)

    def objective(theta: FloatArray) -> tuple[float, FloatArray]:
        s, gap = x @ theta, theta - _IDENTITY
        loss = float((np.logaddexp(0, s) - right * s).sum()) + strength / 2 * float((gap**2).sum())
        return loss, x.T @ (expit(s) - right) + strength * gap

    bounds = [(0.0, None), (0.0, None), (None, None)]
    return np.asarray(minimize(objective, np.array(_IDENTITY), jac=True, method="L-BFGS-B", bounds=bounds).x)


class BetaCalibration(Calibrator):
    """Beta calibration (Kull, Silva Filho and Flach, 2017) of the top label's confidence, or of every label's probability.

    Multi-class: the most probable label's probability goes through the curve, the others share the rest as they did before,
    and it stays the most probable: no decision by arg-max changes. Multi-label: one curve for all labels.

    Args:
        num_labels: K, the number of labels.
        task: `multiclass` or `multilabel`.
        strength: Pull towards no calibration, in rows; tells on few rows only.
    """

    _witness = "curve"
    curve: Tensor

    def __init__(self, num_labels: int, task: Task, strength: float = 1.0) -> None:
        super().__init__(num_labels, task)
        self.strength = at_least("strength", strength, 0.0)
        self.register_buffer("curve", torch.full((3,), torch.nan))

    def _fit(self, rows: Rows) -> None:
        self.curve.copy_(torch.tensor(_IDENTITY))
        if len(rows.values) < 2 or len(np.unique(rows.labels)) < 2:
            self.report["reason"] = f"{len(rows.values)} usable rows" if len(rows.values) < 2 else "all usable labels are equal"
            return
        log_p, log_odds = self._parts(torch.from_numpy(rows.values))
        if self.task == "multiclass":
            top = rows.values.argmax(1)
            log_p, log_odds = (part[torch.arange(len(top)), torch.from_numpy(top)] for part in (log_p, log_odds))
            right = (top == rows.labels).astype(np.float64)
        else:
            right = rows.labels.ravel()
        p, rest = log_p.flatten().numpy(), (log_p - log_odds).flatten().numpy()
        a, b, c = (float(value) for value in fit_beta(p, rest, right, strength=self.strength))
        self.curve.copy_(torch.tensor((a, b, c)))
        self.report.update(method="beta", a=a, b=b, c=c)

    def _calibrate(self, logits: Tensor) -> Tensor:
        a, b, c = self.curve
        log_p, log_odds = self._parts(logits)
        if self.task == "multilabel":
            mapped: Tensor = a * log_p - b * (log_p - log_odds) + c
            return mapped
        top = log_p.argmax(-1, keepdim=True)
        confidence = log_p.gather(-1, top)
        rest = confidence - log_odds.gather(-1, top)  # log (1 - p), without its underflow
        shares = log_p - rest  # of what is left to the others; the top label's is not used
        runner_up = shares.scatter(-1, top, -torch.inf).amax(-1, keepdim=True)
        s = torch.maximum(a * confidence - b * rest + c, runner_up + _AHEAD)
        return (shares + logsigmoid(-s)).scatter(-1, top, logsigmoid(s))

    def _parts(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Returns log p and log (p / (1 - p))."""
        return log_probabilities(logits, self.task), one_vs_rest_log_odds(logits, self.task)
