"""What the page of a comparison shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lf_lightning.report import drawings
from lf_lightning.report.rows import chosen_rows, confidence_of, right_of, row_data, shown_labels
from lf_lightning.results.comparison import Comparison, Standing, compare_runs
from lf_lightning.results.measures import IN_PERCENT, LOWER_IS_BETTER, NAMES
from lf_lightning.results.predictions import SYSTEM, Predictions, read_predictions
from lf_lightning.results.record import RunRecord
from lf_lightning.results.wording import p_value

_BESIDE = ("accuracy", "macro_f1", "nll", "ece")


def comparison_facts(records: Mapping[Path, RunRecord], by: str, most_runs: int, most_rows: int) -> dict[str, Any]:
    """Returns everything that `comparison.html` shows.

    Args:
        records: By run folder.
        by: The measure that ranks.
        most_runs: Runs shown at most, the best ones.
        most_rows: Rows with text at most.
    """
    comparison = compare_runs(records, by, top=most_runs)
    experiments = sorted({record.experiment for record in records.values()})
    return {
        "title": f"{', '.join(experiments[:3])}: {comparison.total} runs",
        "experiments": experiments,
        "comparison": comparison,
        "by": NAMES[by],
        "better": "lower" if by in LOWER_IS_BETTER else "higher",
        "beside": [NAMES[measure] + (" %" if measure in IN_PERCENT else "") for measure in _beside(by)],
        "runs": _runs(comparison),
        "best": _figure(by, comparison.standings[0].figures[by]),
        "unit": "%" if by in IN_PERCENT else "",
        "data": _data(comparison, records, most_rows),
    }


def _runs(comparison: Comparison) -> list[dict[str, Any]]:
    by = comparison.by
    entries = [_entry(one, by) for one in comparison.standings]
    span = (min(low for low, _, _ in entries), max(high for _, _, high in entries))
    other = next(one for one in comparison.standings if one.name == comparison.other)
    pictures = drawings.forest(entries, span, other.figures[by])
    found = []
    for one, picture in zip(comparison.standings, pictures, strict=True):
        test = one.against or {}
        found.append(
            {
                "name": one.name,
                "own": one.name == comparison.other,
                "value": _figure(by, one.figures[by]),
                "interval": "" if one.interval is None else f"{_figure(by, one.interval[0])} to {_figure(by, one.interval[1])}",
                "forest": picture,
                "difference": _signed(by, test["difference"]) if "difference" in test else "",
                "between": f"{_signed(by, test['low'])} to {_signed(by, test['high'])}" if "low" in test else "",
                "p": p_value(test["p"]).removeprefix("= ") if "p" in test else "",
                "mcnemar_p": p_value(test["mcnemar_p"]).removeprefix("= ") if "mcnemar_p" in test else "",
                "figures": [_figure(measure, one.figures.get(measure)) for measure in _beside(by)],
            }
        )
    return found


def _beside(by: str) -> list[str]:
    return [measure for measure in _BESIDE if measure != by]


def _entry(one: Standing, by: str) -> tuple[float, float, float]:
    value = one.figures[by]
    low, high = one.interval or (value, value)
    return low, value, high


def _figure(measure: str, value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}" if measure in IN_PERCENT else f"{value:.3f}"


def _signed(measure: str, value: float) -> str:
    return f"{100 * value:+.1f}" if measure in IN_PERCENT else f"{value:+.3f}"


def _data(comparison: Comparison, records: Mapping[Path, RunRecord], most_rows: int) -> dict[str, Any] | None:
    """The rows, those on which the runs differ first."""
    tables = {}
    for one in comparison.standings:
        folder = one.folders[0]
        record = records[folder]
        run = read_predictions(folder, record)
        if run is not None:
            tables[one.name] = run
    if not tables:
        return None
    first = next(iter(tables.values()))
    merged = Predictions(
        first.rows,
        first.texts,
        first.truth,
        first.labelled,
        {name: run.decisions[SYSTEM] for name, run in tables.items()},
        {name: run.probabilities[SYSTEM] for name, run in tables.items()},
        {},
    )
    right = right_of(merged)
    votes = np.stack([merged.decisions[name].reshape(len(first.rows), -1) for name in tables])
    split = np.asarray((votes != votes[0]).any(axis=(0, 2)))
    wrong = np.asarray(np.stack([~right[name] for name in tables]).any(0))
    best = next(iter(tables))
    numbers = {one.name: number for number, one in enumerate(comparison.standings, start=1)}
    rows = chosen_rows(split, wrong, confidence_of(merged.probabilities[best]), most_rows)
    return {
        "kind": "comparison",
        "task": comparison.task,
        "labels": shown_labels(comparison.labels),
        "opinions": [{"key": name, "name": f"{numbers[name]} · {name}", "kind": "run"} for name in tables],
        "total": len(first.rows),
        "mistakes": int(split.sum()),
        "texts": first.texts is not None,
        "rows": row_data(merged, list(tables), rows, right),
    }
