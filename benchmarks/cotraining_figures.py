"""Means, differences and intervals of co-training's cells, over published subsets and test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lf_lightning.metrics import evaluate

METRICS = ("accuracy", "macro_f1")
POOLED = ", with the LLM"
FUSED = "co-trained, then fused with the LLM"
NEEDED = ("co-training", "weights = 1")
"""Methods without which a cell is not in the table."""
EVENTS = ("kaikoura", "canada")
"""The events of a plain run. Maria has three times the rows; where it is measured, the table says the means without it, too."""
RIVALS = ("weights = 1", "LLM labels only", "two-net ensemble")
"""What co-training is compared with on each event."""
Cell = Mapping[str, Mapping[str, Any]]
"""What is kept of each method on the same rows."""
Cells = Mapping[tuple[str, int, int], Cell]
"""By event, gold labels per class, and published subset."""


def figures_of(decided: Sequence[int], labels: Sequence[int]) -> dict[str, float]:
    """Returns accuracy and macro-F1 (over the labels that occur)."""
    made, true = np.asarray(decided), np.asarray(labels)
    k = max(made.max(), true.max()) + 1
    found = evaluate(np.eye(k)[made], true, "multiclass", made)
    return {"accuracy": found["accuracy"], "macro_f1": found["macro_f1"]}


def table(cells: Cells, methods: Sequence[str], llm: str) -> dict[str, Any]:
    """Returns the means over cells with 95 % intervals, differences, and the weights' areas.

    The cells are those of co-training and weights = 1. Methods that are there in all of them are compared with each other, each
    further one with these two, where it is there.

    Args:
        cells: Of one number of gold labels per class, one cell at least with both.
        methods: All methods, in the order of the table.
        llm: How the LLM's own row is called.
    """
    whole = {key: cell for key, cell in cells.items() if set(NEEDED) <= set(cell)}
    main = [name for name in methods if all(name in cell for cell in whole.values())]
    every = [rows_of(cell, llm) for cell in whole.values()]
    order = [*main, llm, *(name + POOLED for name in main), FUSED]
    names = [name for name in order if all(name in rows for rows in every)]
    draws = resampled(whole, every, names)
    out: dict[str, Any] = {"cells": [list(key) for key in whole], "rows": {}, "minus": {}, "further": {}}
    for name in names:
        out["rows"][name] = {metric: interval(draws[name][metric]) for metric in METRICS}
    served_with_llm = (NEEDED[0], llm, RIVALS[-1] + POOLED)
    against = {NEEDED[0]: [*main, llm], NEEDED[0] + POOLED: served_with_llm, FUSED: served_with_llm}
    for name, others in against.items():
        if name in draws:
            out["minus"][name] = {
                other: {metric: interval(draws[name][metric] - draws[other][metric]) for metric in METRICS}
                for other in others
                if other != name and other in draws
            }
    for name in methods:
        there = {key: cell for key, cell in whole.items() if name in cell}
        if there and name not in main:
            out["further"][name] = {"cells": len(there)} | differences(there, name, NEEDED, llm)
    out["weights"] = areas_of(whole)
    known = list(dict.fromkeys(event for event, _, _ in whole))
    out["events"] = {event: by_event(whole, [event], names, llm) for event in known}
    if set(EVENTS) < set(known):
        out["events"][" and ".join(EVENTS)] = by_event(whole, EVENTS, names, llm)
    return out


def by_event(cells: Cells, events: Sequence[str], names: Sequence[str], llm: str) -> dict[str, Any]:
    """Returns the differences on some events: co-training's to its main rivals, and the fusion's to the LLM.

    Args:
        cells: Of all events.
        events: Which.
        names: The rows that all cells have.
        llm: How the LLM's own row is called.
    """
    here = {key: cell for key, cell in cells.items() if key[0] in events}
    draws = resampled(here, [rows_of(cell, llm) for cell in here.values()], names)
    pairs = [(NEEDED[0], other) for other in RIVALS] + [(FUSED, llm)]
    return {
        f"{name} − {other}": {metric: interval(draws[name][metric] - draws[other][metric]) for metric in METRICS}
        for name, other in pairs
        if name in draws and other in draws
    }


def differences(cells: Cells, name: str, others: Sequence[str], llm: str) -> dict[str, Any]:
    """Returns a method's figures, and its differences to others on the same cells."""
    draws = resampled(cells, [rows_of(cell, llm) for cell in cells.values()], [name, *others])
    return {
        "row": {metric: interval(draws[name][metric]) for metric in METRICS},
        "minus": {o: {metric: interval(draws[name][metric] - draws[o][metric]) for metric in METRICS} for o in others},
    }


def rows_of(cell: Cell, llm: str) -> dict[str, Sequence[int]]:
    """Returns decisions by row of the table: each method, each method pooled with the LLM, the fusion, and the LLM alone."""
    rows: dict[str, Sequence[int]] = {}
    for method, kept in cell.items():
        rows[method] = kept["system"]
        if "llm" in kept:
            rows[llm] = kept["llm"]
            rows[method + POOLED] = kept["with_llm"]
        if "fused" in kept:
            rows[FUSED] = kept["fused"]
    return rows


def areas_of(cells: Cells) -> dict[str, dict[str, float]]:
    """Returns by method the mean over cells of what its weights are worth, as areas under the ROC curve."""
    found: dict[str, dict[str, float]] = {}
    for method in dict.fromkeys(name for cell in cells.values() for name in cell):
        areas = [cell[method]["weights"] for cell in cells.values() if method in cell and cell[method]["weights"]]
        if areas:
            known = set(areas[0]).intersection(*areas)
            found[method] = {name: float(np.mean([a[name] for a in areas])) for name in areas[0] if name in known}
    return found


def resampled(
    cells: Cells, every: Sequence[Mapping[str, Sequence[int] | NDArray[np.int64]]], names: Sequence[str], resamples: int = 1000
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Returns each row's mean figures over cells (1 + resamples,): first as they are, then of resamples.

    A resample draws an event's test rows, the same ones for all its cells, and among the cells of an event those of its
    published subsets.

    Args:
        cells: The cells.
        every: Decisions by row of the table, of each cell.
        names: The rows.
        resamples: Of the bootstrap.
    """
    keys = list(cells)
    events = list(dict.fromkeys(event for event, _, _ in keys))
    sums = {name: {metric: np.zeros(resamples + 1) for metric in METRICS} for name in names}
    for event in events:
        here = [i for i, key in enumerate(keys) if key[0] == event]
        rng = np.random.default_rng(sum(event.encode()))
        shares = np.vstack([np.ones(len(here)), rng.multinomial(len(here), np.full(len(here), 1 / len(here)), size=resamples)])
        labels = np.asarray(next(iter(cells[keys[here[0]]].values()))["labels"])
        drawn = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=resamples).astype(float)
        weights = np.vstack([np.ones(len(labels)), drawn])
        for share, i in zip(shares.T, here, strict=True):
            for name in names:
                for metric, values in figures_by_weights(np.asarray(every[i][name]), labels, weights).items():
                    sums[name][metric] += share * values
    return {name: {metric: total / len(keys) for metric, total in metrics.items()} for name, metrics in sums.items()}


def figures_by_weights(
    made: NDArray[np.int64], labels: NDArray[np.int64], weights: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Returns accuracy and macro-F1 (over the labels that occur) for each weighting of rows (resamples, n).

    Args:
        made: (n,) decisions, or (seeds, n), whose figures are averaged.
        labels: (n,) the truth.
        weights: (resamples, n).
    """
    if made.ndim == 2:
        each = [figures_by_weights(row, labels, weights) for row in made]
        return {metric: np.asarray(np.mean([found[metric] for found in each], 0)) for metric in METRICS}
    k = labels.max() + 1
    right = (made == labels).astype(float)
    true, said = np.eye(k)[labels], np.eye(max(k, made.max() + 1))[made][:, :k]
    hits, support, claimed = weights @ (true * right[:, None]), weights @ true, weights @ said
    f1 = 2 * hits / np.maximum(support + claimed, 1e-12)
    occurs = support + claimed > 0
    return {"accuracy": weights @ right / weights.sum(1), "macro_f1": (f1 * occurs).sum(1) / occurs.sum(1)}


def interval(values: NDArray[np.float64]) -> dict[str, float]:
    """Returns the first value, and the 95 % interval of the others."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return {"mean": float(values[0]), "low": float(low), "high": float(high)}


def claim_of(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns in a sentence how co-training stands to its baselines, from the figures alone."""
    parts = []
    for size, figures in tables.items():
        said = [f"{100 * gap['macro_f1']['mean']:+.1f} over {other}" for other, gap in figures["minus"]["co-training"].items()]
        parts.append(f"{size}, mean of {len(figures['cells'])} cells: {', '.join(said)}")
    return f"Co-training, macro-F1 in points. {'; '.join(parts)}."
