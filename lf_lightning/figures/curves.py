"""The figure of a fit: learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lf_lightning.figures.canvas import BLUE, GREEN, INK, ORANGE, empty_figure, printable, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def learning_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss and quality by epoch; bands and names mark the phases, and lines do not cross from one phase to the next.

    Args:
        history: For each epoch `epoch` (from 0), `phase`, and where known `train_loss`, `validation/nll`,
            `validation/accuracy`, `validation/macro_f1`.
    """
    from matplotlib.ticker import MaxNLocator

    epochs = len(history)
    figure = empty_figure(max(8.4, min(14.0, 0.3 * epochs + 4)), 6.0)
    upper = figure.add_subplot(2, 1, 1)
    lower = figure.add_subplot(2, 1, 2, sharex=upper)
    spans = _spans(history)
    drawn = (
        (upper, "train_loss", "train loss", ORANGE, "s"),
        (upper, "validation/nll", "validation NLL", BLUE, "o"),
        (lower, "validation/accuracy", "validation accuracy", GREEN, "^"),
        (lower, "validation/macro_f1", "validation macro-F1", BLUE, "o"),
    )
    for axes, key, name, colour, marker in drawn:
        for start, stop, _ in spans:
            points = [(row["epoch"] + 1, row[key]) for row in history[start:stop] if row.get(key) is not None]
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(
                    x, y, color=colour, marker=marker, markersize=4, linewidth=1.5, label=name if start == spans[0][0] else None
                )
    for axes in (upper, lower):
        for number, (start, stop, _) in enumerate(spans):
            if number % 2:
                axes.axvspan(
                    history[start]["epoch"] + 0.5, history[stop - 1]["epoch"] + 1.5, color="#f1f1f1", zorder=0, linewidth=0
                )
        tidy(axes, grid="y")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8.5, loc="best")
    # A letter takes about 0.09 inches.
    inches = (figure.get_figwidth() - 1) / max(epochs, 1)
    crowded = any((stop - start) * inches < 0.09 * len(phase) for start, stop, phase in spans)
    for start, stop, phase in spans:
        middle = (history[start]["epoch"] + history[stop - 1]["epoch"]) / 2 + 1
        upper.annotate(
            printable(phase),
            (middle, 1.02),
            xycoords=upper.get_xaxis_transform(),
            ha="left" if crowded else "center",
            va="bottom",
            rotation=35 if crowded else 0,
            fontsize=8.5,
            color=INK,
            annotation_clip=False,
        )
    upper.set_ylabel("loss")
    upper.tick_params(labelbottom=False)
    lower.set_ylabel("validation rows")
    lower.set_xlabel("epoch")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    if epochs:
        lower.set_xlim(history[0]["epoch"] + 0.5, history[-1]["epoch"] + 1.5)
    figure.align_ylabels()
    return figure


def _spans(history: Sequence[Mapping[str, Any]]) -> list[tuple[int, int, str]]:
    """Start, stop and name of each phase."""
    spans: list[tuple[int, int, str]] = []
    for i, row in enumerate(history):
        if spans and spans[-1][2] == row["phase"]:
            spans[-1] = (spans[-1][0], i + 1, row["phase"])
        else:
            spans.append((i, i + 1, row["phase"]))
    return spans
