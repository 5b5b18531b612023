"""The figures of the reasoning benchmark, from its cells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.fits import over_seeds
from benchmarks.reasoning_tables import LAYOUTS, LLM_ROW, MAJORITY

LLM = "gemma4_31b"
Cell = Mapping[str, Any]
"""One method and seed: labels, probabilities and decisions of the test rows, steps, losses, seconds."""


def table_of(methods: Mapping[str, Mapping[int, Cell]], folder: Path) -> dict[str, Any]:
    """Returns a set's figures: mean and standard deviation over seeds, and gaps paired by seed and test row.

    Args:
        methods: By method and seed.
        folder: With the tables of the rows that were taken.
    """
    tables = {path.stem: pd.read_csv(path, dtype=str, keep_default_na=False) for path in folder.glob("*.csv")}
    labels = sorted(set(tables["train"]["label"]))
    truth = np.array([labels.index(name) for name in tables["test"]["label"]])
    rows = {method: row_of(cells) for method, cells in methods.items()}
    plain = {MAJORITY: np.full(len(truth), labels.index(tables["train"]["label"].mode()[0]))}
    if LLM in tables["test"]:
        plain[LLM_ROW] = np.array([labels.index(said) for said in tables["test"][LLM]])
    for name, decided in plain.items():
        found = over_seeds(truth, [np.eye(len(labels))[decided]], [decided])
        rows[name] = {
            "metrics": {metric: found[metric] for metric in ("accuracy", "macro_f1")},
            "accuracy": interval(decided == truth),
        }
    figures: dict[str, Any] = {"rows_of_split": {name: len(table) for name, table in sorted(tables.items())}, "rows": rows}
    only = methods.get("label", {})
    figures["minus_label_only"] = {
        method: gap for method, cells in methods.items() if method != "label" and (gap := difference(cells, only))
    }
    if "fusion" in methods:
        figures["fusion"] = fusion_of(methods["fusion"])
    return figures


def row_of(cells: Mapping[int, Cell]) -> dict[str, Any]:
    """Returns a method's figures over its seeds."""
    each = list(cells.values())
    truth = np.array(each[0]["labels"])
    probabilities = [evened(cell) for cell in each]
    metrics = over_seeds(truth, probabilities, [np.array(cell["decisions"]) for cell in each])
    quarter = max(1, len(each[0]["losses"]) // 4)
    return {
        "metrics": metrics,
        "accuracy": interval(np.mean([right(cell) for cell in each], 0)),
        "seeds": sorted(cells),
        "steps": each[0]["steps"],
        "loss_of_quarters": {
            name: float(np.mean([np.mean(cell["losses"][part]) for cell in each]))
            for name, part in (("first", slice(quarter)), ("last", slice(-quarter, None)))
        },
        "fit_seconds": float(np.mean([cell["seconds"] for cell in each])),
        "seconds_per_text": float(np.mean([cell["seconds_per_text"] for cell in each])),
    }


def fusion_of(cells: Mapping[int, Cell]) -> dict[str, Any]:
    """Returns fusion beside its members on the same rows, and its gap to the member that is best on the test rows."""
    members = {
        name: {seed: {**cell["members"][name], "labels": cell["labels"]} for seed, cell in cells.items()}
        for name in next(iter(cells.values()))["members"]
    }
    truth = np.array(next(iter(cells.values()))["labels"])
    rows = {
        name: over_seeds(truth, [evened(c) for c in each.values()], [np.array(c["decisions"]) for c in each.values()])
        for name, each in {**members, "fusion": cells}.items()
    }
    single = [name for name in members if name not in ("average", "stack")]
    best = max(single, key=lambda name: rows[name]["accuracy"]["mean"])
    return {"rows": rows, "best_member_on_test": best, "fusion_minus_best": difference(cells, members[best])}


def difference(cells: Mapping[int, Cell], others: Mapping[int, Cell]) -> dict[str, float]:
    """Returns the mean gain in accuracy over the seeds of both, with a 95 % interval over test rows; {} without such seeds."""
    seeds = sorted(set(cells) & set(others))
    if not seeds:
        return {}
    mean, low, high = interval(np.mean([right(cells[seed]) - right(others[seed]) for seed in seeds], 0)).values()
    return {"difference": mean, "low": low, "high": high, "seeds": float(len(seeds))}


def interval(values: NDArray[Any], resamples: int = 1000) -> dict[str, float]:
    """Returns the mean over test rows and a bootstrap's 95 % interval."""
    values = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(0).choice(values, (resamples, len(values))).mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def right(cell: Cell) -> NDArray[np.float64]:
    """Returns 1 for each test row that is decided right, else 0."""
    return np.asarray(np.array(cell["decisions"]) == np.array(cell["labels"]), dtype=np.float64)


def evened(cell: Cell) -> NDArray[np.float64]:
    """Returns the probabilities, which were rounded, with rows that sum to 1."""
    p = np.array(cell["probabilities"])
    return np.asarray(p / p.sum(1, keepdims=True))


def shown(cell: Cell) -> str:
    """Returns a cell in a line."""
    row = row_of({0: cell})
    found, loss = row["metrics"], row["loss_of_quarters"]
    counts = np.bincount(np.array(cell["decisions"]), minlength=len(cell["probabilities"][0]))
    return (
        f"accuracy {100 * found['accuracy']['mean']:.1f}, macro-F1 {100 * found['macro_f1']['mean']:.1f}, "
        f"NLL {found['nll']['mean']:.3f}, ECE {found['ece']['mean']:.3f}, decided {counts.tolist()}, "
        f"loss {loss['first']:.3f} to {loss['last']:.3f}, {cell['steps']} steps in {cell['seconds']:.0f} s, "
        f"{cell['seconds_per_text']:.3f} s a text"
    )


def claim_of(sets: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns in a sentence how the layouts with reasons stand to label only, from the figures alone."""
    parts = []
    for name, figures in sets.items():
        gaps = [
            f"{method} {100 * gap['difference']:+.1f} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}]"
            for method, gap in figures["minus_label_only"].items()
            if method in LAYOUTS
        ]
        if gaps:
            parts.append(f"{name}: {', '.join(gaps)}")
    return (
        "Accuracy in points against label only at equal steps. " + "; ".join(parts) + "." if parts else "No pair is finished."
    )
