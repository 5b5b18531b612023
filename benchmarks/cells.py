"""The parts of the rendered tables: which rows a record has, and how a number is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SYSTEM = "fusion"
MEMBERS = {"encoder": "encoder alone", "average": "average", "stack": "stack"}
BASELINES = {
    "probe": "regression on vectors",
    "naive": "vectors + probabilities",
    "naive_log": "vectors + log-probabilities",
    "tfidf": "TF-IDF + regression",
    "stacking": "scikit-learn's stacking",
}
METRICS = {
    "accuracy": "accuracy %",
    "macro_f1": "macro-F1 %",
    "micro_f1": "micro-F1 %",
    "nll": "NLL",
    "ece": "ECE",
    "ece_floor": "its floor",
    "ece_equal_width": "ECE, equal width",
}
LOWER_IS_BETTER = ("nll", "ece", "ece_floor", "ece_equal_width")
NOT_RANKED = ("ece_floor",)
SET_NAMES = {
    "bbc": "BBC News",
    "bbc_news": "BBC News",
    "rotten_tomatoes": "Rotten Tomatoes",
    "kaikoura": "HumAID Kaikoura",
    "canada": "HumAID Canada",
    "maria": "HumAID Maria",
    "fomc": "FOMC",
    "goemotions": "GoEmotions",
    "ag_news": "AG News",
}


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Returns a table whose first column is on the left, the others on the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))


def cells_of(figures: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns what `fits.table` wrote, by set, wherever in the figures it lies."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, value in figures.items():
        if not isinstance(value, Mapping):
            continue
        if isinstance(value.get("rows"), Mapping):
            found[name] = value
        else:
            found.update(cells_of(value))
    return found


def set_name(cell: str) -> str:
    """Returns a set as people call it.

    >>> set_name("kaikoura"), set_name("bbc_8")
    ('HumAID Kaikoura', 'BBC News, 8 per class')
    """
    name, _, count = cell.rpartition("_")
    if count.isdigit():
        return f"{SET_NAMES.get(name, name)}, {int(count):,} {'labels' if int(count) > 100 else 'per class'}"
    return SET_NAMES.get(cell, cell)


def scorers_of(cell: Mapping[str, Any]) -> list[str]:
    """Returns the names of the rows that are neither the encoder, a combination, nor a baseline."""
    return [name for name in cell["rows"] if name not in (SYSTEM, *MEMBERS, *BASELINES)]


def ordered(cell: Mapping[str, Any]) -> list[str]:
    """Returns the rows from the parts to the whole."""
    wanted = [*scorers_of(cell), *MEMBERS, *BASELINES, SYSTEM]
    return [name for name in wanted if name in cell["rows"]]


def title_of(row: str) -> str:
    """Returns how a table calls a row."""
    return MEMBERS.get(row) or BASELINES.get(row) or (row if row == SYSTEM else f"LLM alone: {row}")


def value(metric: str, number: Mapping[str, float]) -> str:
    """Returns mean ± standard deviation over seeds; the deviation is left out where it is 0.

    >>> value("accuracy", {"mean": 0.8125, "sd": 0.01}), value("nll", {"mean": 0.5, "sd": 0.0})
    ('81.2 ± 1.0', '0.500')
    """
    shown = (lambda x: f"{x:.3f}") if metric in LOWER_IS_BETTER else (lambda x: f"{100 * x:.1f}")
    return shown(number["mean"]) + (f" ± {shown(number['sd'])}" if number["sd"] > 0 else "")


def bold_best(metric: str, numbers: Sequence[Mapping[str, float] | None]) -> list[str]:
    """Returns the values, the best mean in bold; what is missing is a dash."""
    if metric in NOT_RANKED:
        return ["–" if n is None else value(metric, n) for n in numbers]
    means = [round(n["mean"], 4) for n in numbers if n is not None]
    best = min(means) if metric in LOWER_IS_BETTER else max(means)
    shown = ["–" if n is None else value(metric, n) for n in numbers]
    return [
        f"**{cell}**" if n is not None and round(n["mean"], 4) == best else cell for n, cell in zip(numbers, shown, strict=True)
    ]


def gap(cell: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Returns fusion minus the member that is best on the very test rows: `difference`, `low`, `high`."""
    found: dict[str, float] = cell["fusion_minus"][cell["best_member_on_test"][metric]][metric]
    return found


def mark(difference: Mapping[str, float]) -> str:
    """Returns ▲ significantly above, ▼ significantly below, ▽ below, or nothing.

    >>> [mark({"difference": d, "low": d - 1, "high": d + 1}) for d in (2, 0.5, -0.5, -2)]
    ['▲', '', '▽', '▼']
    """
    if difference["low"] > 0:
        return "▲"
    if difference["high"] < 0:
        return "▼"
    return "▽" if difference["difference"] < 0 else ""


def difference_cell(difference: Mapping[str, float]) -> str:
    """Returns the difference in points with its interval and its mark."""
    points = {name: 100 * number for name, number in difference.items()}
    return f"{points['difference']:+.1f} [{points['low']:+.1f}, {points['high']:+.1f}] {mark(difference)}".rstrip()
