"""Probabilities of logits, and the fits of every calibration map: numbers in, numbers out, float64, no state."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, softmax
from torch import Tensor

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError

FloatArray = NDArray[np.float64]

TEMPERATURE_BOUNDS = (0.05, 20.0)
"""No fitted temperature lies outside: beyond, a few rows without an error would make every answer certain."""
SCALE_BOUNDS = (0.0, 20.0)
"""Per-label scales of vector scaling, relative to the logits given: never negative, so no label's evidence is turned round."""


def probabilities(logits: Tensor, task: Task) -> Tensor:
    """Softmax (multi-class) or sigmoid (multi-label) of logits, in float32 or better.

    Args:
        logits: (..., K), any real. NaN gives NaN: over the whole row if multi-class, in its own cell if multi-label.
        task: `multiclass` or `multilabel`.

    Returns:
        (..., K) in [0, 1], float32 (float64 for float64 logits); rows sum to 1 if multi-class.

    Example:
        >>> probabilities(torch.tensor([[0.0, 0.0]]), "multiclass")
        tensor([[0.5000, 0.5000]])
    """
    z = _float32_or_better(logits)
    return z.softmax(-1) if _is_multiclass(task) else z.sigmoid()


def log_probabilities(logits: Tensor, task: Task) -> Tensor:
    """Logarithm of `probabilities`, without its underflow. (..., K) to (..., K), at most 0.

    Example:
        >>> log_probabilities(torch.tensor([[-200.0]]), "multilabel")
        tensor([[-200.]])
    """
    z = _float32_or_better(logits)
    return z.log_softmax(-1) if _is_multiclass(task) else torch.nn.functional.logsigmoid(z)


def one_vs_rest_log_odds(logits: Tensor, task: Task) -> Tensor:
    """Log-odds log(p_k / (1 - p_k)) of each label, (..., K) to (..., K).

    Multi-label: the logits themselves. Multi-class: z_k - logsumexp of the others, which does not change when a constant is
    added to a row, and keeps its digits where p_k rounds to 1.

    Example:
        >>> one_vs_rest_log_odds(torch.tensor([[50.0, 0.0, 0.0]]), "multiclass")[0, 0]
        tensor(49.3069)
    """
    z = _float32_or_better(logits)
    if not _is_multiclass(task):
        return z
    log_p = z.log_softmax(-1)
    # p <= 1/2 everywhere but at the top label, where 1 - p would cancel: there the others are summed instead.
    log_rest = torch.log1p(-log_p.exp().clamp(max=0.75))
    top = z.argmax(-1, keepdim=True)
    others = z.scatter(-1, top, -math.inf).logsumexp(-1, keepdim=True) - z.logsumexp(-1, keepdim=True)
    return log_p - log_rest.scatter(-1, top, others)


def fit_temperature(
    logits: FloatArray,
    labels: NDArray[Any],
    task: Task,
    *,
    strength: float = 1.0,
    bounds: tuple[float, float] = TEMPERATURE_BOUNDS,
) -> float:
    """The one temperature T for which logits / T have the least negative log-likelihood (Guo et al. 2017).

    Minimises  sum_i NLL(z_i / T, y_i) + strength / 2 * (log T)^2  over `bounds`. The last term is this package's: it tells on a
    few dozen rows only, where rows without an error would otherwise drive T to its bound; 0 gives the paper's fit. For any
    strength the NLL of the rows is at most that of T = 1.

    Args:
        logits: (n, K), finite, n >= 1.
        labels: (n,) in 0..K-1 (multi-class) or (n, K) of 0 and 1 (multi-label).
        task: `multiclass` or `multilabel` (binary cross-entropy over all cells, one temperature).
        strength: Weight of the pull towards T = 1, at least 0, in units of rows' log-likelihood.
        bounds: Least and greatest T; 1 lies between.

    Returns:
        T within `bounds`; 1.0 where the logits do not tell labels apart.

    Example:
        >>> z = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])  # 98 % sure, right 3 times in 4
        >>> round(fit_temperature(z, np.array([0, 0, 0, 1]), "multiclass", strength=0.0), 3)  # 4 / log 3
        3.641
    """
    y = one_hot(labels, logits.shape[1], task)
    low, high = math.log(bounds[0]), math.log(bounds[1])
    if not low <= 0.0 <= high:
        raise ConfigurationError(f"bounds={bounds!r} must be positive with 1 between them, for example (0.05, 20.0).")

    def loss(log_t: float) -> float:
        return _nll(logits * math.exp(-log_t), y, task) + 0.5 * strength * log_t * log_t

    # Likelihood plus penalty need not have one minimum, so the cell with the least value is found before it is refined.
    grid = np.linspace(low, high, 25)
    best = int(np.argmin([loss(u) for u in grid]))
    cell = (float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)]))
    refined = float(minimize_scalar(loss, bounds=cell, method="bounded", options={"xatol": 1e-10}).x)
    candidates = (0.0, refined, low, high)
    values = [loss(u) for u in candidates]
    # On logits that say nothing all values agree but for rounding, and the first candidate, T = 1, is kept.
    if min(values) > values[0] - 1e-12 * max(1.0, abs(values[0])):
        return 1.0
    return min(max(math.exp(candidates[int(np.argmin(values))]), bounds[0]), bounds[1])


def fit_vector(
    logits: FloatArray, labels: NDArray[Any], task: Task, *, strength: float = 4.0, free: NDArray[np.bool_] | None = None
) -> tuple[FloatArray, FloatArray]:
    """Scale a_k and bias b_k of each label for a_k z_k + b_k (vector scaling, Guo et al. 2017), shrunk towards identity.

    Minimises  sum_i NLL(a * z_i + b, y_i) + strength / 2 * sum_k ((a_k - 1)^2 + b_k^2)  by L-BFGS-B; convex. A prior of
    standard deviation 1 / sqrt(strength): with few rows little moves, with many rows it does not matter.

    Args:
        logits: (n, K), finite, n >= 1; best on the scale of calibrated logits, so that identity is a sensible centre.
        labels: As in `fit_temperature`.
        task: `multiclass` or `multilabel`.
        strength: Weight of the pull towards identity, at least 0.
        free: (K,) which labels may move; the others stay at scale 1 and bias 0. None: all.

    Returns:
        Scale (K,) within `SCALE_BOUNDS`, and bias (K,).

    Example:
        >>> two_of_three = np.repeat([[1.0], [1.0], [0.0]], 30, axis=0)
        >>> scale, bias = fit_vector(np.zeros((90, 1)), two_of_three, "multilabel", strength=0.0)
        >>> bias.round(3)  # log(2 / 1)
        array([0.693])
    """
    n, k = logits.shape
    y = one_hot(labels, k, task)
    moves = np.ones(k, dtype=bool) if free is None else free

    def loss(theta: FloatArray) -> tuple[float, FloatArray]:
        a, b = theta[:k], theta[k:]
        z = logits * a + b
        residual = (softmax(z, axis=1) if _is_multiclass(task) else expit(z)) - y
        penalty = 0.5 * strength * float(((a - 1.0) ** 2).sum() + (b**2).sum())
        gradient = np.concatenate([(residual * logits).sum(0) + strength * (a - 1.0), residual.sum(0) + strength * b])
        return (_nll(z, y, task) + penalty) / n, gradient / n

    identity = np.concatenate([np.ones(k), np.zeros(k)])
    bounds = [SCALE_BOUNDS if m else (1.0, 1.0) for m in moves] + [(None, None) if m else (0.0, 0.0) for m in moves]
    options = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9}
    found = minimize(loss, identity, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    theta = found if loss(found)[0] <= loss(identity)[0] else identity
    return theta[:k].copy(), theta[k:].copy()


def fit_platt(scores: FloatArray, positive: NDArray[Any]) -> tuple[float, float]:
    """Slope a and intercept b of sigmoid(a s + b) with Platt's (1999) smoothed targets.

    The targets are (n_pos + 1) / (n_pos + 2) for positives and 1 / (n_neg + 2) for negatives, so that the fit is finite on rows
    that are told apart without an error.

    Args:
        scores: (n,), finite.
        positive: (n,) of 0 and 1.

    Returns:
        a and b. The slope may be negative where a score speaks against its label.

    Example:
        >>> a, b = fit_platt(np.array([-1.0, -1.0, 1.0, 1.0]), np.array([0, 0, 1, 1]))
        >>> round(a, 3), round(abs(b), 3)  # sigmoid(a) = 3 / 4
        (1.099, 0.0)
    """
    positives = float(np.sum(positive))
    negatives = len(positive) - positives
    target = np.where(positive > 0, (positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0))
    # Standardised, the two parameters are of one size and L-BFGS meets its tolerance.
    centre, width = float(scores.mean()), float(scores.std()) or 1.0
    s = (scores - centre) / width

    def loss(theta: FloatArray) -> tuple[float, FloatArray]:
        z = theta[0] * s + theta[1]
        residual = expit(z) - target
        return float((np.logaddexp(0.0, z) - target * z).mean()), np.array([(residual * s).mean(), residual.mean()])

    start = np.array([0.0, math.log((positives + 1.0) / (negatives + 1.0))])
    a, b = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-15, "gtol": 1e-10}).x
    return float(a / width), float(b - a * centre / width)


def fit_isotonic(scores: FloatArray, positive: NDArray[Any], knots: int = 256) -> tuple[FloatArray, FloatArray]:
    """Knots of the non-decreasing function of the score that is nearest to the labels (Zadrozny and Elkan 2002).

    Between knots it is linear, outside constant; values are clipped to [1/(n+2), 1-1/(n+2)], so that no log loss is infinite.

    Args:
        scores: (n,), finite.
        positive: (n,) of 0 and 1.
        knots: Length of the answer, at least 2. Shorter functions repeat their last knot; of longer ones (seldom below
            100,000 rows) evenly spaced knots are kept, still non-decreasing.

    Returns:
        x (knots,) and y (knots,), both non-decreasing.

    Example:
        >>> x, y = fit_isotonic(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0, 1, 0, 1]), knots=4)
        >>> x, y.round(3)
        (array([0., 1., 2., 3.]), array([0.167, 0.5  , 0.5  , 0.833]))
    """
    # scikit-learn takes a second to import, and applying a fitted map does not need it.
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(scores, np.asarray(positive, dtype=np.float64))
    x, y = model.X_thresholds_, model.y_thresholds_
    keep = np.linspace(0, len(x) - 1, knots).round().astype(int) if len(x) > knots else np.arange(len(x))
    keep = np.pad(keep, (0, knots - len(keep)), mode="edge")
    least = 1.0 / (len(scores) + 2.0)
    return x[keep].astype(np.float64), np.clip(y[keep], least, 1.0 - least).astype(np.float64)


def one_hot(labels: NDArray[Any], num_labels: int, task: Task) -> FloatArray:
    """Labels as (n, K) float64 of 0 and 1: multi-class (n,) numbers are spread, multi-label tables pass through."""
    if not _is_multiclass(task):
        return np.asarray(labels, dtype=np.float64)
    spread: FloatArray = np.eye(num_labels)[np.asarray(labels, dtype=np.int64)]
    return spread


def _nll(z: FloatArray, y: FloatArray, task: Task) -> float:
    if not _is_multiclass(task):
        return float((np.logaddexp(0.0, z) - z * y).sum())
    top = z.max(axis=1)
    return float((top + np.log(np.exp(z - top[:, None]).sum(axis=1))).sum() - (z * y).sum())


def _float32_or_better(logits: Tensor) -> Tensor:
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def _is_multiclass(task: Task) -> bool:
    if task not in ("multiclass", "multilabel"):
        raise ConfigurationError(f"task={task!r} is neither 'multiclass' nor 'multilabel'.")
    return task == "multiclass"
