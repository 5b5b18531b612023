"""Figures of co-training: weights against the truth, and how far the nets agree over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lf_lightning.figures.canvas import BLUE, GREEN, INK, ORANGE, empty_figure, legend_below, printable, single_axes, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def weights_by_truth(scores: Mapping[str, NDArray[np.float64]], right: NDArray[np.bool_]) -> Figure:
    """How scores of rows are spread where the LLM's label is right and where it is wrong; titles say how well they part them.

    Args:
        scores: By name, (n,) finite.
        right: (n,) whether the LLM's label is the true one.
    """
    from sklearn.metrics import roc_auc_score

    figure = empty_figure(3.2 * len(scores) + 1.2, 3.6)
    for position, (name, values) in enumerate(scores.items()):
        axes = figure.add_subplot(1, len(scores), position + 1)
        edges = np.linspace(values.min(), max(values.max(), values.min() + 1e-6), 21).tolist()
        for chosen, colour, title in ((right, BLUE, "LLM right"), (~right, ORANGE, "LLM wrong")):
            if chosen.any():
                shares = np.full(int(chosen.sum()), 100 / chosen.sum())
                label = f"{title} ({int(chosen.sum())} rows)"
                axes.hist(values[chosen], bins=edges, weights=shares, color=colour, alpha=0.6, label=label)
        known = right.any() and not right.all()
        area = f"\nAUC {roc_auc_score(right, values):.2f}" if known else ""
        axes.set_title(f"{printable(name)}{area}", loc="left", fontsize=10)
        axes.yaxis.set_major_formatter(lambda x, _: f"{x:g} %")
        tidy(axes, grid="y")
        if position == 0:
            axes.set_ylabel("of rows")
    legend_below(figure, figure.axes[0], 2)
    return figure


def net_agreement(history: Sequence[Mapping[str, Any]]) -> Figure:
    """On how many rows the two nets decide alike, epoch by epoch; bands mark the phases.

    Args:
        history: For each epoch `epoch` (from 0), `phase`, and where known `validation` and `train`, shares in [0, 1].
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = single_axes(max(6.4, min(12.0, 0.25 * len(history) + 4)), 3.8)
    for key, title, colour, mark in (
        ("validation", "validation rows", BLUE, "o"),
        ("train", "rows of the batches, with dropout", GREEN, "s"),
    ):
        points = [(row["epoch"] + 1, 100 * row[key]) for row in history if row.get(key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, marker=mark, markersize=4, linewidth=1.5, label=title)
    starts = [i for i, row in enumerate(history) if i == 0 or history[i - 1]["phase"] != row["phase"]]
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(history)], strict=True)):
        left, right = history[start]["epoch"] + 0.5, history[stop - 1]["epoch"] + 1.5
        if number % 2:
            axes.axvspan(left, right, color="#f1f1f1", zorder=0, linewidth=0)
        name = axes.annotate(
            printable(str(history[start]["phase"])),
            (left, 1.02),
            xycoords=axes.get_xaxis_transform(),
            va="bottom",
            fontsize=8.5,
            color=INK,
            annotation_clip=False,
        )
        name.set_in_layout(False)  # it may be wider than a short phase
    axes.set_title(" ", fontsize=10)  # room for the names
    if history:
        axes.set_xlim(history[0]["epoch"] + 0.5, history[-1]["epoch"] + 1.5)
    axes.set_ylim(top=101)
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:g} %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("the nets decide alike")
    tidy(axes, grid="y")
    legend_below(figure, axes, 2)
    return figure
