"""Combining the opinions of several members about a text: logarithmic opinion pools, as functions.

A member's opinion is a row of K logits: log-probabilities (multi-class) or log-odds (multi-label). Member 0 is the encoder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logsumexp
from torch import Tensor

from lf_lightning.contract import Task


def opinions(probabilities: Float[Tensor, "*b k"], task: Task, floor: float = 1e-4) -> Float[Tensor, "*b k"]:
    """Returns probabilities as logits: log p (multi-class) or log p - log (1 - p) (multi-label).

    Args:
        probabilities: (..., K) in [0, 1].
        task: Multi-class or multi-label.
        floor: Probabilities are first clipped to [floor, 1 - floor]: an LLM's hard 0 is not proof.

    >>> opinions(torch.tensor([0.5, 0.5]), "multilabel").tolist()
    [0.0, 0.0]
    """
    p = probabilities.float().clamp(floor, 1 - floor)
    return p.log() if task == "multiclass" else p.logit()


def normalise(logits: Float[Tensor, "*b k"], task: Task) -> Float[Tensor, "*b k"]:
    """Returns logits as an opinion: log-softmax for multi-class, unchanged log-odds for multi-label; float32."""
    return logits.float().log_softmax(-1) if task == "multiclass" else logits.float()


def linear_average(
    members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"], task: Task, weights: Float[Tensor, "b m"] | None = None
) -> Float[Tensor, "b k"]:
    """Returns the logits of the (weighted) mean of the present members' probabilities (a linear opinion pool).

    Args:
        members: (B, M, K) opinions.
        present: (B, M), at least one true in a row.
        task: Multi-class or multi-label.
        weights: (B, M) non-negative; None for equal weights. Renormalised over the present members.
    """
    w = present.to(members.dtype) if weights is None else weights * present
    w = (w / w.sum(-1, keepdim=True).clamp(min=1e-12)).unsqueeze(-1)
    p = members.softmax(-1) if task == "multiclass" else members.sigmoid()
    return opinions((w * torch.where(present.unsqueeze(-1), p, 0.0)).sum(1), task, floor=1e-6)


def log_linear_pool(
    members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"], weights: Float[Tensor, " m"], bias: Float[Tensor, " k"]
) -> Float[Tensor, "b k"]:
    r"""Returns :math:`b + s \sum_m w_m \ell_m` over the present members (a logarithmic opinion pool; Genest and Zidek, 1986).

    Args:
        members: (B, M, K) opinions :math:`\ell`.
        present: (B, M), which members have an opinion.
        weights: (M,) non-negative.
        bias: (K,).

    :math:`s` is all weights over the weights present, so that a row with fewer opinions keeps the scale of its logits.

    >>> both = torch.log(torch.tensor([[[0.8, 0.2], [0.5, 0.5]]]))
    >>> log_linear_pool(both, torch.tensor([[True, True]]), torch.ones(2), torch.zeros(2)).softmax(-1)
    tensor([[0.8000, 0.2000]])
    """
    w = weights * present
    scale = weights.sum() / w.sum(-1, keepdim=True).clamp(min=1e-6)
    pooled = torch.einsum("bm,bmk->bk", w, torch.where(present.unsqueeze(-1), members, 0.0))
    return bias + scale * pooled


def fit_pool(
    members: Float[Tensor, "n m k"],
    present: Bool[Tensor, "n m"],
    labels: Tensor,
    task: Task,
    *,
    prior_rows: float = 4.0,
    bias_rows: float = 1.0,
    shift: Float[Tensor, "n k"] | None = None,
) -> tuple[Float[Tensor, " m"], Float[Tensor, " k"]]:
    r"""Fits the weights and the bias of :func:`log_linear_pool` by penalised maximum likelihood.

    Minimises :math:`\sum_i NLL_i + \frac{\lambda_w}{2} \sum_m (w_m - w^0_m)^2 + \frac{\lambda_b}{2} \sum_k b_k^2` with
    :math:`w \ge 0` by L-BFGS-B in float64: convex, hence the same answer from any start. The prior :math:`w^0_m = t_m / M` is
    each member's own inverse temperature over their number: with few rows the pool is the mean of calibrated opinions,
    and a member whose calibrated opinion is flat has no say.

    Args:
        members: (n, M, K) opinions on rows that no member was fitted on.
        present: (n, M).
        labels: (n,) int64 or (n, K) float, all labelled.
        task: Multi-class or multi-label.
        prior_rows: :math:`\lambda_w`, how many rows the prior on the weights counts for.
        bias_rows: :math:`\lambda_b`, the same for the bias.
        shift: (n, K) added to the pool's logits, see `heads.Evidence`; None for zeros.
    """
    x, y = np.where(present.cpu().numpy()[..., None], members.double().cpu().numpy(), 0.0), one_hot(labels, members.shape[-1])
    own = inverse_temperatures(members, present, labels, task, prior_rows=prior_rows, shift=shift)
    base = np.zeros_like(y) if shift is None else shift.double().cpu().numpy()
    weights, bias = _fit(x, y, task, own.double().numpy() / len(own), prior_rows, bias_rows, base)
    return torch.from_numpy(weights).float(), torch.from_numpy(bias).float()


def inverse_temperatures(
    members: Float[Tensor, "n m k"],
    present: Bool[Tensor, "n m"],
    labels: Tensor,
    task: Task,
    *,
    prior_rows: float = 4.0,
    shift: Float[Tensor, "n k"] | None = None,
) -> Float[Tensor, " m"]:
    """Returns what multiplies each member's opinion (M,) to make it as sharp as it is right; arguments as in `fit_pool`."""
    x, y = members.double().cpu().numpy(), one_hot(labels, members.shape[-1])
    base = np.zeros_like(y) if shift is None else shift.double().cpu().numpy()
    found = [
        _fit(x[seen][:, [m]], y[seen], task, np.array([0.5]), prior_rows, None, base[seen])[0][0]
        for m, seen in enumerate(present.cpu().numpy().T)
    ]
    return torch.tensor(found, dtype=torch.float32)


def fit_mixture(
    members: Float[Tensor, "n m k"], present: Bool[Tensor, "n m"], labels: Tensor, task: Task, *, prior_rows: float = 1.0
) -> Float[Tensor, " m"]:
    r"""Fits constant weights of :func:`linear_average` by maximum likelihood, which sum to 1.

    The likelihood :math:`\sum_i \log \sum_m w_m p_m(y_i)` is concave in :math:`w`; expectation-maximisation climbs it
    (Dempster, Laird and Rubin, 1977). An opinion on a label counts as a row in multi-label.

    Args:
        members: (n, M, K) opinions on rows that no member was fitted on.
        present: (n, M), at least one true in a row.
        labels: (n,) int64 or (n, K) float, all labelled.
        task: Multi-class or multi-label.
        prior_rows: So many rows on which all members are right alike.

    >>> members = torch.log(torch.tensor([[[0.9, 0.1], [0.5, 0.5]]])).repeat(50, 1, 1)
    >>> fit_mixture(members, torch.ones(50, 2, dtype=torch.bool), torch.zeros(50, dtype=torch.long), "multiclass")
    tensor([0.9782, 0.0218])
    """
    x, y, seen = members.double().cpu().numpy(), one_hot(labels, members.shape[-1]), present.cpu().numpy()
    if task == "multiclass":
        right = np.exp((x * y[:, None]).sum(2))
    else:
        right = np.where(y[:, None] > 0, expit(x), expit(-x)).transpose(0, 2, 1).reshape(-1, x.shape[1])
        seen = seen.repeat(y.shape[1], 0)
    right = np.where(seen, right, 0.0)
    weights = np.full(x.shape[1], 1 / x.shape[1])
    for _ in range(200):
        share = weights * right / np.maximum((weights * right).sum(1, keepdims=True), 1e-300)
        weights = (share.sum(0) + prior_rows / len(weights)) / (len(share) + prior_rows)
    return torch.from_numpy(weights / weights.sum()).float()


def fit_linear(
    features: Float[Tensor, "n f"],
    labels: Tensor,
    task: Task,
    ridge: float,
    *,
    offset: Float[Tensor, "n k"] | None = None,
    num_labels: int,
) -> tuple[Float[Tensor, "k f"], Float[Tensor, " k"]]:
    r"""Fits logits = offset + W x + b by penalised maximum likelihood, by L-BFGS in float64.

    Minimises :math:`\sum_i NLL_i + \frac{ridge}{2} (|W|^2 + |b|^2 / 10)`. Without an offset and with ridge = 1 / C this is
    logistic regression as scikit-learn has it, but for the light penalty on b.

    Args:
        features: (n, F).
        labels: (n,) int64 or (n, K) float, all labelled.
        task: Multi-class or multi-label.
        ridge: Strength of the penalty; large keeps the logits at the offset.
        offset: (n, K) logits to start from; None for zeros.
        num_labels: K.
    """
    y = one_hot(labels, num_labels)
    base = np.zeros_like(y) if offset is None else offset.double().cpu().numpy()
    weight, bias = _solve(features.double().cpu().numpy(), base, y, task, ridge)
    return torch.from_numpy(weight.T.copy()).float(), torch.from_numpy(bias.copy()).float()


def hold_out(
    features: Float[Tensor, "n f"],
    labels: Tensor,
    task: Task,
    ridges: Sequence[float],
    *,
    offset: Float[Tensor, "n k"],
    folds: int = 5,
) -> Iterator[tuple[float, Float[Tensor, "n k"]]]:
    """Yields each ridge with the logits (n, K) that :func:`fit_linear` gives rows which it was not fitted on.

    Args:
        features: (n, F).
        labels: (n,) or (n, K).
        task: Multi-class or multi-label.
        ridges: In descending order: each fit starts at the one before it.
        offset: (n, K).
        folds: Rows i with i mod folds = f are held out in fold f.
    """
    y, x, base = one_hot(labels, offset.shape[-1]), features.double().cpu().numpy(), offset.double().cpu().numpy()
    fold = np.arange(len(y)) % folds
    solved: list[Any] = [None] * folds
    for ridge in ridges:
        held = base.copy()
        for f in range(min(folds, len(y))):
            out = fold == f
            solved[f] = weight, bias = _solve(x[~out], base[~out], y[~out], task, ridge, solved[f], tolerance=1e-6)
            held[out] += x[out] @ weight + bias
        yield ridge, torch.from_numpy(held).float()


def choose_ridge(
    features: Float[Tensor, "n f"],
    labels: Tensor,
    task: Task,
    *,
    offset: Float[Tensor, "n k"],
    ridges: Sequence[float] = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3),
    folds: int = 5,
) -> tuple[float, Float[Tensor, "n k"]]:
    """Returns the penalty of :func:`fit_linear` with the least cross-validated NLL, and the logits (n, K) that it gave.

    Infinity (keep the offset as it is) competes too, so that few rows keep what was already known. The loss is taken to
    have one minimum: once a weaker penalty is worse than a finite one before it, none is tried any more.

    Args:
        features: (n, F).
        labels: (n,) or (n, K).
        task: Multi-class or multi-label.
        offset: (n, K).
        ridges: Candidates besides infinity, descending.
        folds: Number of folds.
    """
    y = one_hot(labels, offset.shape[-1])
    best = float(_row_nll(offset.double().cpu().numpy(), y, task).sum())
    chosen = math.inf, offset.float().cpu()
    for ridge, held in hold_out(features, labels, task, ridges, offset=offset, folds=folds):
        loss = float(_row_nll(held.double().numpy(), y, task).sum())
        if loss < best:
            best, chosen = loss, (ridge, held)
        elif math.isfinite(chosen[0]):
            break
    return chosen


def hold_out_pool(
    members: Float[Tensor, "n m k"],
    present: Bool[Tensor, "n m"],
    labels: Tensor,
    task: Task,
    *,
    folds: int = 5,
    shift: Float[Tensor, "n k"] | None = None,
) -> Float[Tensor, "n k"]:
    """Returns the logits (n, K) that :func:`fit_pool` gives rows which it was not fitted on; arguments as there."""
    held = torch.empty(members.shape[0], members.shape[2])
    fold = torch.arange(len(members)) % folds
    for f in range(min(folds, len(members))):
        out = fold == f
        kept = None if shift is None else shift[~out]
        weights, bias = fit_pool(members[~out], present[~out], labels[~out], task, shift=kept)
        held[out] = log_linear_pool(members[out], present[out], weights, bias)
    return held


def one_hot(labels: Tensor, num_labels: int) -> NDArray[np.float64]:
    """Returns labels as (n, K) float64 of 0 and 1."""
    y = labels.cpu().numpy()
    return np.eye(num_labels)[y] if y.ndim == 1 else y.astype(np.float64)


def _row_nll(z: NDArray[np.float64], y: NDArray[np.float64], task: Task) -> NDArray[np.float64]:
    if task == "multiclass":
        return np.asarray(logsumexp(z, axis=1) - (z * y).sum(1))
    return np.asarray((np.logaddexp(0, z) - y * z).sum(1))


def _nll(z: NDArray[np.float64], y: NDArray[np.float64], task: Task) -> tuple[float, NDArray[np.float64]]:
    """Returns the summed NLL and its slope in the logits."""
    if task == "multilabel":
        return float(_row_nll(z, y, task).sum()), expit(z) - y
    shifted = z - z.max(1, keepdims=True)
    p = np.exp(shifted)  # once, for loss and slope: this is where a fit spends its time
    total = p.sum(1, keepdims=True)
    return float(np.log(total).sum() - (shifted * y).sum()), p / total - y


def _solve(
    x: NDArray[np.float64],
    base: NDArray[np.float64],
    y: NDArray[np.float64],
    task: Task,
    ridge: float,
    start: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    tolerance: float = 1e-9,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the weights (F, K) and the bias (K,) of :func:`fit_linear`."""
    rows, labels = x.shape[1], y.shape[1]

    def objective(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w, b = theta[: rows * labels].reshape(rows, labels), theta[rows * labels :]
        loss, slope = _nll(base + x @ w + b, y, task)
        loss += ridge / 2 * float((w**2).sum() + (b**2).sum() / 10)
        return loss, np.concatenate([(x.T @ slope + ridge * w).ravel(), slope.sum(0) + ridge / 10 * b])

    first = np.zeros((rows + 1) * labels) if start is None else np.concatenate([start[0].ravel(), start[1]])
    options = {"maxiter": 500, "ftol": tolerance, "maxcor": 30}
    theta = minimize(objective, first, jac=True, method="L-BFGS-B", options=options).x
    return theta[: rows * labels].reshape(rows, labels), theta[rows * labels :]


def _fit(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    task: Task,
    prior: NDArray[np.float64],
    prior_rows: float,
    bias_rows: float | None,
    shift: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    _, count, num_labels = x.shape

    def objective(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w, b = theta[:count], theta[count:]
        loss, slope = _nll(np.einsum("m,nmk->nk", w, x) + b + shift, y, task)
        gap, lam = w - prior, bias_rows or 0.0
        loss += prior_rows / 2 * float((gap**2).sum()) + lam / 2 * float((b**2).sum())
        return loss, np.concatenate([np.einsum("nk,nmk->m", slope, x) + prior_rows * gap, slope.sum(0) + lam * b])

    bounds = [(0.0, None)] * count + [(0.0, 0.0) if bias_rows is None else (None, None)] * num_labels
    result = minimize(objective, np.concatenate([prior, np.zeros(num_labels)]), jac=True, method="L-BFGS-B", bounds=bounds)
    return result.x[:count], result.x[count:]
