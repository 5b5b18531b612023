"""The rows of a page: which ones are shown, and what the script gets of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lf_lightning.results.predictions import Predictions

LONGEST_TEXT = 1500
LONGEST_REASON = 600
SHOWN_LABELS = 4


def shown_labels(labels: Sequence[str]) -> list[str]:
    """Returns label names on one line, `(blank)` for one that is white space only."""
    return [" ".join(label.split()) or "(blank)" for label in labels]


def right_of(run: Predictions) -> dict[str, NDArray[np.bool_]]:
    """Returns (n,) by name of an opinion: labelled, decided and wholly right."""
    found: dict[str, NDArray[np.bool_]] = {}
    for name, made in run.decisions.items():
        same = np.asarray((made == run.truth).reshape(len(made), -1).all(axis=1))
        found[name] = np.asarray(same & run.labelled)
    return found


def known_of(made: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns (n,) whether there is a decision."""
    return np.asarray((made >= 0).reshape(len(made), -1).all(axis=1))


def confidence_of(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (n,) how far the decision is from being another: the greatest probability; 0 without an opinion."""
    return np.asarray(np.nan_to_num(p, nan=0.0).max(axis=1))


def chosen_rows(wrong: NDArray[np.bool_], split: NDArray[np.bool_], sure: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Returns the rows to show, at most so many: mistakes first, then where opinions differ; the surest of each first.

    Args:
        wrong: (n,) whether the system is wrong.
        split: (n,) whether opinions differ.
        sure: (n,) how sure the system is.
        most: How many.
    """
    order = np.lexsort((-sure, ~split, ~wrong))
    return order[:most]


def row_data(
    run: Predictions,
    names: Sequence[str],
    rows: NDArray[np.int64],
    right: Mapping[str, NDArray[np.bool_]],
) -> list[dict[str, Any]]:
    """Returns what the script gets of each row.

    `n` is its number, `x` the text, `c` the characters of a text that was cut, `y` the true labels, `r` the reasons, and each
    of `o` an opinion: `[right (1, 0, or -1 without an opinion), decided labels, [[label, probability], ...]]`.

    Args:
        run: The test rows.
        names: Of the opinions, in order.
        rows: Which rows, in order.
        right: See `right_of`.
    """
    found: list[dict[str, Any]] = []
    scorers = [name for name in names if name in run.rationales]
    known = {name: known_of(run.decisions[name]) for name in names}
    for row in rows.tolist():
        one: dict[str, Any] = {"n": run.rows[row], "y": _labels(run.truth[row])}
        if run.texts is not None:
            text = run.texts[row]
            one["x"] = text[:LONGEST_TEXT]
            if len(text) > LONGEST_TEXT:
                one["c"] = len(text)
        one["o"] = [
            [int(right[name][row]), _labels(run.decisions[name][row]), _top(run, name, row)]
            if known[name][row]
            else [-1, [], []]
            for name in names
        ]
        reasons = {name: run.rationales[name][row] for name in scorers if run.rationales[name][row]}
        if reasons:
            one["r"] = {name: _cut(reason) for name, reason in reasons.items()}
        found.append(one)
    return found


def _labels(value: Any) -> list[int]:
    if np.ndim(value) == 0:
        return [int(value)] if value >= 0 else []
    return [int(k) for k in np.flatnonzero(value > 0)]


def _top(run: Predictions, name: str, row: int) -> list[list[float]]:
    """The most probable labels, and with them those that are true or decided."""
    if name not in run.probabilities:
        return []
    p = run.probabilities[name][row]
    best = np.argsort(-p, kind="stable")[:SHOWN_LABELS].tolist()
    rest = [k for k in (*_labels(run.truth[row]), *_labels(run.decisions[name][row])) if k not in best]
    return [[k, round(float(p[k]), 4)] for k in (*best, *dict.fromkeys(rest))]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"
