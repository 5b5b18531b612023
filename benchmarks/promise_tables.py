"""The tables of deferral and of promises kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.cells import markdown, set_name

DEFAULT = "expected gain (log)"


def deferral(figures: Mapping[str, Any]) -> str:
    """What 30 % of the calls keep, and the area of each deferral's curve."""
    share = figures["share"]
    kept = []
    for name, cell in figures["sets"].items():
        line = [set_name(name)]
        for metric in ("accuracy", "macro_f1"):
            part, every = cell["methods"][DEFAULT][metric], cell[metric]["gain_of_all"]
            gap = part["minus_all_calls"]
            line += [
                f"{100 * every['value']:+.1f}",
                f"{100 * part['gain']['value']:+.1f}",
                f"{100 * gap['value']:+.1f} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}]",
            ]
        calls = cell["methods"][DEFAULT]["accuracy"]["calls_for_95_percent"]
        kept.append([*line, "–" if calls is None else f"{calls:.0%}"])
    at = f"{share:.0%}"
    titles = [f"points over the encoder, {at} of the calls by expected gain"]
    for metric in ("accuracy", "macro-F1"):
        titles += [f"{metric}: all calls", f"{at}", f"{at} − all"]
    tables = [markdown([*titles, "calls for 95 % of the gain"], kept)]
    methods = list(next(iter(figures["sets"].values()))["methods"])
    lines = []
    for method in methods:
        areas = []
        for cell in figures["sets"].values():
            own = cell["methods"][method]
            areas += [f"{100 * own['accuracy']['area']['value']:.2f}", f"{100 * own['macro_f1']['area']['value']:.2f}"]
        lines.append([method, *areas])
    names = [f"{set_name(name)} {metric}" for name in figures["sets"] for metric in ("accuracy", "F1")]
    tables.append(markdown(["area under the curve, points", *names], lines))
    rivals = []
    for name, cell in figures["sets"].items():
        for metric, word in (("accuracy", "accuracy"), ("macro_f1", "macro-F1")):
            for rival, gap in cell["area_of_default_minus"][metric].items():
                if rival != "oracle" and (gap["low"] > 0 or gap["high"] < 0):
                    sign = "above" if gap["low"] > 0 else "below"
                    rivals.append(f"{sign} {rival} ({set_name(name)}, {word} {100 * gap['value']:+.2f})")
    said = "; ".join(rivals) or "from no other"
    return "\n\n".join([*tables, f"The area of {DEFAULT} differs significantly: {said}."])


def conformal(figures: Mapping[str, Any]) -> str:
    """Coverage and size of prediction sets, and what selective answers keep."""
    sets = figures["sets"]
    rows: dict[tuple[str, str, str], list[str]] = {}
    for cell in sets.values():
        for row in cell["coverage"]:
            if row["promise"] == 0.9:
                covered, size = row["coverage"], row["size"]
                key = (row["sets"], row["calls"], row["validation"])
                rows.setdefault(key, []).append(f"{100 * covered['mean']:.1f} ± {100 * covered['sd']:.1f} ({size['mean']:.1f})")
    splits = next(iter(sets.values()))["splits"]
    title = f"90 % promised, {splits} resplits: coverage % (labels in a set)"
    lines = [[f"{by}, {calls}{', ' + how if how != 'held out' else ''}", *cells] for (by, calls, how), cells in rows.items()]
    tables = [markdown([title, *(set_name(name) for name in sets)], lines)]
    answers: dict[tuple[float, str], list[str]] = {}
    for cell in sets.values():
        for row in cell["answers"]:
            if row["validation"] == "held out":
                answers.setdefault((row["promise"], row["calls"]), []).append(
                    f"{row['answered']['mean']:.0%}, {100 * row['error']['mean']:.1f}, {row['splits_above_promise']}"
                )
    lines = [[f"{promise:.0%}, {calls}", *cells] for (promise, calls), cells in answers.items()]
    title = f"error promised with 95 % confidence: answered, error %, splits of {splits} above the promise"
    tables.append(markdown([title, *(set_name(name) for name in sets)], lines))
    return "\n\n".join(tables)
