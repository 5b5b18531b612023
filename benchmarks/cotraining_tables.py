"""The tables of co-training: methods, what weights can gain, injected noise, and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.cells import METRICS, SET_NAMES, mark, markdown
from benchmarks.cotraining_figures import FUSED, POOLED

METRIC_NAMES = ("accuracy", "macro_f1")
COTRAINING = "co-training"


def cotraining(figures: Mapping[str, Any]) -> str:
    """Every method by number of gold labels, co-training's differences, and in words where it loses."""
    tables = figures["tables"]
    alone = [name for name in _rows(tables) if not name.endswith(POOLED) and name != FUSED]
    joined = [name for name in _rows(tables) if name not in alone]
    parts = [_means(tables, alone, "learned without the LLM at prediction time")]
    parts.append(_means(tables, joined, "and with it"))
    lines = [
        [f"{name} − {other}", *_gaps(t["minus"].get(name, {}).get(other) for t in tables.values())]
        for name in (COTRAINING, COTRAINING + POOLED, FUSED)
        for other in dict.fromkeys(o for t in tables.values() for o in t["minus"].get(name, {}))
    ]
    for name in dict.fromkeys(name for t in tables.values() for name in t["further"]):
        for other in ("weights = 1", COTRAINING):
            found = [t["further"].get(name) for t in tables.values()]
            lines.append([f"{name} − {other}", *_gaps(f["minus"][other] if f else None for f in found)])
    parts.append(markdown(["points [95 %]", *_columns(tables)], lines))
    parts.append(_events(tables))
    return "\n\n".join([*parts, losers(tables), _basis(figures)])


def _events(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The main differences on each event, which differ in how good the LLM is."""
    known = dict.fromkeys((event, pair) for t in tables.values() for event, pairs in t["events"].items() for pair in pairs)
    lines = [
        [f"{_event(event)}: {pair}", *_gaps(t["events"].get(event, {}).get(pair) for t in tables.values())]
        for event, pair in known
    ]
    return markdown(["by event, points [95 %]", *_columns(tables)], lines)


def _event(name: str) -> str:
    return " and ".join(SET_NAMES.get(event, event) for event in name.split(" and "))


def losers(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns in words which methods co-training is below, on average."""
    parts = []
    for size, table in tables.items():
        for metric in METRIC_NAMES:
            gaps = table["minus"][COTRAINING]
            signs = {other: mark(_shaped(gap[metric])) for other, gap in gaps.items()}
            below = [other + (" ▼" if sign == "▼" else "") for other, sign in signs.items() if sign in ("▼", "▽")]
            parts.append(f"{size}, {METRICS[metric].removesuffix(' %')}: {', '.join(below) or 'none'}")
    return f"Co-training is below (▼: significantly): {'; '.join(parts)}."


def _basis(figures: Mapping[str, Any]) -> str:
    parts = []
    for size, table in figures["tables"].items():
        counts: dict[str, list[str]] = {}
        for event, _, subset in table["cells"]:
            counts.setdefault(SET_NAMES.get(event, event), []).append(str(subset))
        told = ", ".join(f"{event} (published subsets {', '.join(found)})" for event, found in counts.items())
        areas = table["weights"].get(COTRAINING, {})
        said = f"; its first weights rank right above wrong labels with AUC {areas['first 1']:.2f} and {areas['first 2']:.2f}"
        further = ", ".join(f"{name} {found['cells']}" for name, found in table["further"].items())
        parts.append(f"{size}: {told}{said if 'first 1' in areas else ''}{f'; cells of {further}' if further else ''}.")
    steps = figures["steps"]
    budget = f"{sum(steps.values())} steps a net ({', '.join(f'{count} {name}' for name, count in steps.items())})"
    learns = "; the whole encoder learns" if figures["frozen_layers"] == 0 else ""
    return f"{' '.join(parts)} {budget}{learns}."


def weights(figures: Mapping[str, Any]) -> str:
    """Each weighting on frozen vectors, beside weights = 1."""
    tables = figures["tables"]
    lines = []
    for name in next(iter(tables.values())):
        cells = []
        for table in tables.values():
            for metric in METRIC_NAMES:
                found = table[name][metric]
                gap = "" if name == "weights = 1" else f" ({_gap(found['minus weights = 1'])})"
                cells.append(f"{100 * found['mean']:.1f}{gap}")
        lines.append([name, *cells])
    areas = [f"{key.replace('_', ' ')} {area:.2f}" for key, (area, _) in figures["weights"][COTRAINING].items()]
    shares = [f"{key.replace('_', ' ')} {100 * share:.0f} %" for key, share in figures["right_labels"].items()]
    said = f"Right labels in the pool: {', '.join(shares)}. AUC of co-training's first weights: {', '.join(areas)}."
    return "\n\n".join([markdown(["%, and minus weights = 1 [95 %]", *_columns(tables)], lines), said])


def noise(figures: Mapping[str, Any]) -> str:
    """Each method by share of flipped labels, and what the weights are worth."""
    rates = figures["rates"]
    methods = list(dict.fromkeys(m for rate in rates.values() for m in rate["rows"]))
    lines = [[m, *(_value(rate["rows"].get(m), metric) for rate in rates.values() for metric in METRIC_NAMES)] for m in methods]
    lines.append(["co-training − weights = 1", *_gaps(rate["minus weights = 1"] for rate in rates.values())])
    areas = [f"{rate['weights']['first 1']:.2f}, {rate['weights']['first 2']:.2f}" for rate in rates.values()]
    lines.append(["AUC of the first weights, by net", *(cell for area in areas for cell in (area, ""))])
    return markdown(["% [95 %]", *_columns(rates)], lines)


def cost(figures: Mapping[str, Any]) -> str:
    """Time and memory of history and weights."""
    sides = figures["cpu_seconds_an_epoch"]
    lines = [
        ["time over training two nets without history and weights", f"{100 * figures['extra_time']:+.1f} %"],
        ["… in each epoch", ", ".join(f"{100 * extra:+.1f} %" for extra in figures["extra_time_of_each_epoch"])],
        ["processor time of an epoch, with and without", f"{sides['weighted']:.1f} s, {sides['plain']:.1f} s"],
        *([f"history of {name}", f"{size:.1f} bytes a row and net"] for name, size in figures["bytes_a_row_and_net"].items()),
    ]
    return markdown(["", "measured"], lines)


# ---- parts


def _rows(tables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for table in tables.values() for name in table["rows"]))


def _columns(tables: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {METRICS[metric].removesuffix(' %')}" for name in tables for metric in METRIC_NAMES]


def _means(tables: Mapping[str, Mapping[str, Any]], names: Sequence[str], title: str) -> str:
    lines = [[name, *(_value(t["rows"].get(name), m) for t in tables.values() for m in METRIC_NAMES)] for name in names]
    return markdown([f"{title}, % [95 %]", *_columns(tables)], lines)


def _value(row: Mapping[str, Any] | None, metric: str) -> str:
    if row is None:
        return "–"
    found = row[metric]
    return f"{100 * found['mean']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def _gaps(found: Iterable[Mapping[str, Mapping[str, float]] | None]) -> list[str]:
    return [cell for gap in found for cell in ([_gap(gap[m]) for m in METRIC_NAMES] if gap else ["–", "–"])]


def _gap(found: Mapping[str, float]) -> str:
    points = [100 * found[name] for name in ("mean", "low", "high")]
    return f"{points[0]:+.1f} [{points[1]:+.1f}, {points[2]:+.1f}] {mark(_shaped(found))}".rstrip()


def _shaped(found: Mapping[str, float]) -> dict[str, float]:
    return {"difference": found["mean"], "low": found["low"], "high": found["high"]}
