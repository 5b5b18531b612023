"""Tables of speed and scale: growth of time and memory, start-up, and other packages on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.cells import bold_best, difference_cell, markdown, set_name

STAGES = {"join": "join a store", "head": "train a head", "predict": "predict"}
UNITS = {"rows": "rows", "labels": "labels", "scorers": "scorers", "tokens": "tokens a text"}
PEERS = {
    "zero_shot": "the LLM alone, zero-shot",
    "tfidf": "TF-IDF + logistic regression",
    "setfit": "SetFit",
    "stacking": "stacking of TF-IDF, vectors, LLM",
    "fusion": "fusion",
}


def scaling(figures: Mapping[str, Any]) -> str:
    """Each curve: its sizes, seconds and memory, and the exponent of time with its interval."""
    lines = []
    for stage, curves in figures["curves"].items():
        for what, found in curves.items():
            sizes = found["sizes"]
            fitted = found["time"]
            lines.append(
                [
                    f"{STAGES[stage]}, {UNITS[what]}: {sizes[0]:,} to {sizes[-1]:,}",
                    " · ".join(f"{seconds:.2f}" for seconds in found["seconds"]),
                    " · ".join(f"{mb:.0f}" for mb in found["extra_mb"]),
                    f"{fitted['exponent']:.2f} [{fitted['low']:.2f}, {fitted['high']:.2f}]",
                ]
            )
    base = "; ".join(
        f"{STAGES[stage]} {', '.join(f'{number:,} {UNITS[what]}' for what, number in sizes.items())}"
        for stage, sizes in figures["base"].items()
    )
    table = markdown(["what grows", "CPU seconds, by size", "memory, MB, by size", "time grows with the power"], lines)
    return f"{table}\n\nWhat does not grow: {base}. Heads: {figures['epochs']} epochs, {figures['batch']} rows a step."


def startup(figures: Mapping[str, Any]) -> str:
    """Seconds until a command has ended."""
    lines = [
        [
            f"`{name}`",
            *(f"{found[kind]['median']:.2f} [{found[kind]['low']:.2f}, {found[kind]['high']:.2f}]" for kind in ("cpu", "wall")),
        ]
        for name, found in figures["sides"].items()
    ]
    left_out = f"\n\nNot installed: {', '.join(figures['left_out'])}." if figures["left_out"] else ""
    return markdown(["median [quartiles], s", "processor", "wall"], lines) + left_out


def peers(figures: Mapping[str, Any]) -> str:
    """Quality and time of each peer, and the fusion's distance to it, one table a cell."""
    parts = []
    for cell, found in figures["cells"].items():
        rows = found["peers"]
        names = [name for name in PEERS if name in rows]
        columns = [
            bold_best(metric, [rows[name][metric] for name in names]) for metric in ("accuracy", "macro_f1", "nll", "ece")
        ]
        gaps = [
            [difference_cell(found["fusion_minus"][name][metric]) if name in found["fusion_minus"] else "" for name in names]
            for metric in ("accuracy", "macro_f1")
        ]
        seconds = [f"{rows[name]['cpu_seconds']:.1f}" for name in names]
        most = max(rows[name]["seeds"] for name in names)
        fewer = {name: f", {rows[name]['seeds']} seeds" for name in names if rows[name]["seeds"] < most}
        titles = [PEERS[name] + fewer.get(name, "") for name in names]
        lines = [list(line) for line in zip(titles, *columns, *gaps, seconds, strict=True)]
        header = ["", "accuracy %", "macro-F1 %", "NLL", "ECE", "fusion − it, accuracy", "fusion − it, macro-F1", "CPU seconds"]
        parts.append(f"**{set_name(cell)}**, {found['test_rows']:,} test rows\n\n{markdown(header, lines)}")
    left_out = [f"{PEERS[name]}: {why}." for name, why in figures["left_out"].items()]
    return "\n\n".join([*parts, *left_out])
