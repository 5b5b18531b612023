"""Measures as sums over rows, so that one set of resamples gives the intervals and the paired tests of any number of runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lf_lightning.errors import ConfigurationError
from lf_lightning.metrics.decisions import f1_of_counts, right_rows
from lf_lightning.results.predictions import SYSTEM, Predictions

LOWER_IS_BETTER = ("nll", "brier", "ece")
MEASURES = ("macro_f1", "accuracy", "micro_f1", "weighted_f1", "roc_auc", *LOWER_IS_BETTER)
NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "weighted_f1": "weighted F1",
    "roc_auc": "ROC AUC",
    "nll": "NLL",
    "brier": "Brier score",
    "ece": "ECE",
}
IN_PERCENT = ("accuracy", "macro_f1", "micro_f1", "weighted_f1")

_EPS = float(np.finfo(np.float64).eps)
_BINS = 15
_WEIGHTS_AT_ONCE = 20_000_000


def check_measure(by: str) -> None:
    """Raises unless `by` is a measure.

    Raises:
        ConfigurationError: It is none; the message lists them.
    """
    if by not in MEASURES:
        raise ConfigurationError(f"by={by!r}: expected one of {', '.join(MEASURES)}.")


def resampled(by: str, runs: Sequence[Predictions], n: int = 1000, seed: int = 0) -> NDArray[np.float64] | None:
    """Returns a measure of R runs on n bootstrap resamples (n, R) of their common test rows; None where it is no sum over rows.

    Every run is measured on the same resamples, so differences between columns are paired. Percentiles of ECE are taken
    about its value, since every resample is less well calibrated than the rows (its bias is subtracted).

    Args:
        by: A measure.
        runs: Of the same labelled rows in the same order.
        n: Number of resamples.
        seed: Of the resamples.
    """
    tables = [row_statistics(by, run) for run in runs]
    if not runs or any(table is None for table in tables):
        return None
    statistics = [table for table in tables if table is not None]
    rows = len(statistics[0])
    drawn = np.empty((n, len(runs)))
    rng = np.random.default_rng(seed)
    at_once = max(1, _WEIGHTS_AT_ONCE // rows)
    for start in range(0, n, at_once):
        part = range(start, min(start + at_once, n))
        weights = np.stack([np.bincount(rng.integers(rows, size=rows), minlength=rows) for _ in part]).astype(np.float64)
        for column, table in enumerate(statistics):
            drawn[part.start : part.stop, column] = of_sums(by, weights @ table, rows)
    if by == "ece":
        whole = np.array([of_sums(by, table.sum(0), rows) for table in statistics])
        drawn = np.maximum(drawn - (drawn.mean(0) - whole), 0.0)
    return drawn


def row_statistics(by: str, run: Predictions) -> NDArray[np.float64] | None:
    """Returns (n, S) what each labelled row adds to the sums that a measure is made of; None where it is made of none."""
    rows = run.labelled
    truth, made = run.truth[rows], run.decisions[SYSTEM][rows]
    if by == "accuracy":
        return right_rows(made, truth)[:, None].astype(np.float64)
    if by.endswith("_f1"):
        k = truth.shape[1] if truth.ndim == 2 else run.probabilities[SYSTEM].shape[1]
        said, true = (x.astype(np.float64) if x.ndim == 2 else np.eye(k)[x] for x in (made, truth))
        return np.concatenate([said * true, said, true], axis=1)
    if by == "roc_auc":
        return None
    p = run.probabilities[SYSTEM][rows]
    table = truth.astype(np.float64) if truth.ndim == 2 else np.eye(p.shape[1])[truth]
    if by == "brier":
        squares = (p - table) ** 2
        return np.asarray((squares.mean(1) if truth.ndim == 2 else squares.sum(1))[:, None])
    if by == "nll":
        if truth.ndim == 2:
            return np.asarray(-np.log(np.where(table == 1, p, 1 - p).clip(_EPS, 1 - _EPS)).mean(1, keepdims=True))
        return np.asarray(-np.log(p[np.arange(len(p)), truth].clip(_EPS, 1 - _EPS))[:, None])
    return _calibration_gaps(p, truth)


def of_sums(by: str, sums: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """Returns (...) a measure of statistics (..., S) summed over so many rows."""
    if by.endswith("_f1"):
        hits, decided, actual = np.split(sums, 3, axis=-1)
        return f1_of_counts(hits, decided, actual, by.removesuffix("_f1"))  # type: ignore[arg-type]
    if by == "ece":
        return np.asarray(np.abs(sums).sum(-1) / rows)
    return np.asarray(sums[..., 0] / rows)


def _calibration_gaps(p: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, 15): in the row's bin of equal mass, as of `metrics.ece`, right less confidence; multi-label: mean over its cells."""
    from scipy.stats import rankdata

    n, k = p.shape
    many = truth.ndim == 2
    confidence = p.ravel() if many else p.max(1)
    right = truth.ravel() if many else p.argmax(1) == truth
    place = ((rankdata(confidence) - 0.5) * _BINS / len(confidence)).astype(np.int64)
    row = np.repeat(np.arange(n), k) if many else np.arange(n)
    gaps = np.bincount(row * _BINS + place, weights=right - confidence, minlength=n * _BINS)
    return gaps.reshape(n, _BINS) / (k if many else 1)
