"""The table of the reasoning benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.cells import METRICS, bold_best, difference_cell, markdown, set_name

LAYOUTS = ("label", "reason_label", "multitask", "label_reason")
LONGER = "label, 4 times the steps"
TOKENS_ALIKE = {f"{layout}, every token alike": layout for layout in ("reason_label", "label_reason")}
"""The paper's loss, in which the label is one token of many, and the layout."""
LLM_ROW = "the LLM's own label"
MAJORITY = "always the most frequent label"
_METRICS = ("accuracy", "macro_f1", "nll", "ece", "ece_floor")


def reasoning(figures: Mapping[str, Any]) -> str:
    """The layouts and what stands beside them, for each set; fusion with its members; and the cached prefix."""
    parts = []
    for name, found in figures["sets"].items():
        size = found["rows_of_split"]
        parts += [f"**{set_name(name)}**, {size['train']:,} train rows, {size['test']:,} test rows", layouts(found)]
        if cues := found.get("cues"):
            named = [
                f"`{cue}` {100 * said['centred_accuracy']:.0f}% right, {said['nll']:.1f} nats" for cue, said in cues.items()
            ]
            parts.append(
                "Before any fit, by the words that stand before the label: "
                f"{'; '.join(named)} (48 train rows; right once each label's mean is taken off). The first is used."
            )
        if "fusion" in found:
            fused = found["fusion"]
            parts.append(
                f"Fusion of the encoder and the fitted layout `label`, learnt from {size['rest_train']:,} other rows, minus "
                f"the better of them on the test rows ({fused['best_member_on_test']}): "
                f"{difference_cell(fused['fusion_minus_best'])} points accuracy."
            )
            parts.append(fused_rows(fused))
    if speed := figures.get("speed"):
        parts.append(
            f"{speed['labels']:.0f} labels of two tokens behind a prefix of 96: {speed['times_faster']:.1f} times faster in "
            "one pass than in separate ones."
        )
    return "\n\n".join(parts)


def layouts(found: Mapping[str, Any]) -> str:
    """One line a method."""
    order = [LLM_ROW, MAJORITY, "encoder", *LAYOUTS, *TOKENS_ALIKE, LONGER]
    names = [name for name in order if name in found["rows"]]
    rows = [found["rows"][name] for name in names]
    columns = [bold_best(metric, [row["metrics"].get(metric) for row in rows]) for metric in _METRICS]
    lines = []
    for place, (name, row) in enumerate(zip(names, rows, strict=True)):
        bounds = f" [{100 * row['accuracy']['low']:.1f}, {100 * row['accuracy']['high']:.1f}]"
        gap = found["minus_label_only"].get(name)
        cells = [column[place] for column in columns]
        told = [str(len(row["seeds"])), str(row["steps"])] if "steps" in row else ["–", "–"]
        cost = f"{row['seconds_per_text']:.3f}" if "seconds_per_text" in row else "–"
        first, *rest = name.split(", ")
        title = ", ".join([f"`{first}`" if first in LAYOUTS else first, *rest])
        lines.append([title, *told, cells[0] + bounds, *cells[1:], difference_cell(gap) if gap else "", cost])
    header = ["", "seeds", "steps", "accuracy % [95 %]", *(METRICS[m] for m in _METRICS[1:]), "− `label`", "s a text"]
    return markdown(header, lines)


def fused_rows(fused: Mapping[str, Any]) -> str:
    """Fusion and its members, one line each."""
    columns = [bold_best(metric, [row[metric] for row in fused["rows"].values()]) for metric in _METRICS]
    lines = [[name, *cells] for name, *cells in zip(fused["rows"], *columns, strict=True)]
    return markdown(["", *(METRICS[metric] for metric in _METRICS)], lines)
