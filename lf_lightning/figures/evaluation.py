"""Figures of a test: decisions, reliability, F1 of each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lf_lightning.contract import Task
from lf_lightning.figures.canvas import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    empty_figure,
    legend_below,
    printable,
    single_axes,
    tidy,
)
from lf_lightning.metrics import ece, reliability_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDEST, _NUMBERED = 13.0, 0.26
"""Inches: of all cells together at most, beyond 12 labels; and of a cell that has room for a number at least."""
_NAMED = 8
"""Points that a label's name takes at least."""
_POINTS = 72
"""In an inch."""


def confusion_matrix(decisions: NDArray[np.int64], truth: NDArray[np.int64], labels: Sequence[str]) -> Figure:
    """Rows of each true class by predicted class: colour is the share of the true class, numbers are rows.

    Beyond 50 labels a cell has no room for a number: then the colours are spread so that rare confusions show, and the title
    has the most frequent ones. Beyond 117 labels only some are named.

    Args:
        decisions: (n,) class numbers.
        truth: (n,) class numbers.
        labels: The K names.
    """
    from matplotlib.colors import PowerNorm

    k = len(labels)
    counts = np.zeros((k, k), dtype=np.int64)
    np.add.at(counts, (truth, decisions), 1)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [printable(label) for label in labels]
    cell = 0.62 if k <= 12 else min(0.42, _WIDEST / k)
    room, side = 0.075 * max(map(len, names)), max(2.6, cell * k)
    figure, axes = single_axes(side + room + 1.3, side + room + 1.0)
    numbered = cell >= _NUMBERED
    image = axes.imshow(share, cmap="Blues", norm=PowerNorm(1.0 if numbered else 0.5, vmin=0, vmax=1))
    if numbered:
        _write_counts(axes, counts, share, 9 if k <= 12 else 6.5)
    step = int(-(-_NAMED // (_POINTS * cell)))
    ticks = np.arange(0, k, step)
    size = 9 if k <= 12 else min(8, 0.65 * _POINTS * cell * step)
    slanted = 0 if max(map(len, names)) <= 3 else 45 if numbered else 90
    shown = [names[tick] for tick in ticks]
    axes.set_xticks(ticks, shown, rotation=slanted, ha="right" if slanted else "center", rotation_mode="anchor")
    axes.set_yticks(ticks, shown)
    if slanted == 90:
        for name in axes.get_xticklabels():
            name.set_verticalalignment("center")
    axes.tick_params(length=0, labelsize=size)
    if numbered:
        axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
        axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    some = "" if step == 1 else f" (one label in {step} is named)"
    axes.set_xlabel(f"predicted{some}")
    axes.set_ylabel(f"true{some}")
    title = f"Confusion matrix\n{int(np.trace(counts))} of {len(truth)} rows right"
    axes.set_title(title if numbered else f"{title}\n{_most_frequent(counts, names)}", loc="left", fontsize=11)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, aspect=20 + min(k, 30), format=lambda x, _: f"{100 * x:.0f} %")
    bar.outline.set_visible(False)
    bar.set_label("share of the true class", fontsize=8)
    bar.ax.tick_params(labelsize=8, length=0)
    return figure


def _write_counts(axes: Axes, counts: NDArray[np.int64], share: NDArray[np.float64], size: float) -> None:
    for true, made in zip(*np.nonzero(counts), strict=True):
        ink = "white" if share[true, made] > 0.55 else INK
        axes.text(made, true, f"{counts[true, made]}", ha="center", va="center", color=ink, fontsize=size)


def _most_frequent(counts: NDArray[np.int64], names: Sequence[str], most: int = 3) -> str:
    """The cells off the diagonal with the most rows, in words."""
    wrong = counts - np.diag(np.diag(counts))
    cells = [np.unravel_index(cell, wrong.shape) for cell in np.argsort(-wrong, axis=None, kind="stable")[:most]]
    told = [f"{names[true]} as {names[made]} ({wrong[true, made]})" for true, made in cells if wrong[true, made]]
    return f"most often mistaken: {', '.join(told)}" if told else ""


def label_counts(decisions: NDArray[np.int64], truth: NDArray[np.int64], labels: Sequence[str]) -> Figure:
    """For each label of a multi-label task: rows found, missed and wrongly given, most frequent label first.

    Args:
        decisions: (n, K) of 0 and 1.
        truth: (n, K) of 0 and 1.
        labels: The K names.
    """
    found = (decisions * truth).sum(0)
    missed, wrong = truth.sum(0) - found, decisions.sum(0) - found
    order = np.argsort(-truth.sum(0), kind="stable")
    k, names = len(labels), [printable(labels[i]) for i in order]
    figure, axes = single_axes(8.0, 1.5 + 0.3 * k)
    y = np.arange(k)
    axes.barh(y, found[order], color=BLUE, height=0.72, label="found (true positives)")
    axes.barh(y, missed[order], left=found[order], color=ORANGE, height=0.72, label="missed (false negatives)")
    axes.barh(y, -wrong[order], color=RED, height=0.72, label="wrongly given (false positives)")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(y, names)
    axes.set_ylim(k - 0.4, -0.6)
    axes.xaxis.set_major_formatter(lambda x, _: f"{abs(x):g}")
    axes.set_xlabel("test rows")
    tidy(axes, grid="x")
    axes.set_title("Decisions by label", loc="left", fontsize=11)
    legend_below(figure, axes, 3)
    return figure


def reliability(before: NDArray[np.float64], after: NDArray[np.float64], truth: NDArray[np.int64], task: Task) -> Figure:
    """How often the system is right at each confidence, before and after calibration, and how often it is that sure.

    Points are bins of equal mass, 15 or (below 300 rows) fewer, with 95 % Wilson intervals; ECE in the titles is of 15 bins.

    Args:
        before: (n, K) probabilities.
        after: (n, K) probabilities.
        truth: (n,) class numbers, or (n, K) of 0 and 1.
        task: `multiclass`: of the top label; `multilabel`: of all cells.
    """
    figure = empty_figure(8.4, 5.0)
    grid = figure.add_gridspec(2, 2, height_ratios=[4, 1], hspace=0.06, wspace=0.08)
    for column, (title, p, colour) in enumerate((("before calibration", before, ORANGE), ("after calibration", after, BLUE))):
        axes = figure.add_subplot(grid[0, column])
        bins = min(15, max(5, len(truth) // 20))
        curve = reliability_curve(p, truth, task, bins=bins)
        x, y = curve["confidence"], curve["accuracy"]
        low, high = _wilson(y, curve["count"])
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.fill_between(x, x, y, color=colour, alpha=0.15, linewidth=0, zorder=1)
        axes.errorbar(
            x,
            y,
            yerr=[np.maximum(y - low, 0), np.maximum(high - y, 0)],
            color=colour,
            linewidth=1.4,
            elinewidth=0.9,
            marker="o",
            markersize=4.5,
        )
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_title(f"{title}: ECE {ece(p, truth, task):.3f}", loc="left", fontsize=11)
        axes.tick_params(labelbottom=False, labelleft=column == 0)
        tidy(axes, grid="both")
        below = figure.add_subplot(grid[1, column], sharex=axes)
        confidence = p.max(1) if task == "multiclass" else p.ravel()
        below.hist(
            confidence,
            bins=np.linspace(0, 1, 31).tolist(),
            weights=np.full(len(confidence), 100 / len(confidence)),
            color=colour,
        )
        below.set_xlabel("confidence in the top label" if task == "multiclass" else "probability of a label")
        below.tick_params(labelleft=column == 0)
        below.yaxis.set_major_formatter(lambda x, _: f"{x:g} %")
        tidy(below, grid="x")
        if column == 0:
            axes.set_ylabel("share right" if task == "multiclass" else "share of rows with the label")
            below.set_ylabel("of rows" if task == "multiclass" else "of cells")
    _share_y(figure.axes[1::2])
    return figure


def per_label_f1(f1: Mapping[str, Sequence[float]], support: Sequence[int], labels: Sequence[str]) -> Figure:
    """F1 of each label for several classifiers, best label of the first one on top.

    Args:
        f1: By name of the classifier, K values; the first is the system. At most four.
        support: (K,) true rows of each label.
        labels: The K names.
    """
    first = np.asarray(next(iter(f1.values())))
    order = np.argsort(-first, kind="stable")
    k, names = len(labels), [f"{printable(labels[i])}  ({support[i]})" for i in order]
    figure, axes = single_axes(8.0, 1.7 + 0.3 * k)
    y = np.arange(k)
    values = np.stack([np.asarray(column)[order] for column in f1.values()])
    axes.hlines(y, values.min(0), values.max(0), color="#cccccc", linewidth=2.2, zorder=1)
    for position, (name, column) in reversed(list(enumerate(zip(f1, values, strict=True)))):
        colour, marker = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (RED, "D"))[position % 4]
        # The mean over all labels, as the table prints it.
        shown = f"{printable(name)} (macro {100 * column.mean():.1f})"
        axes.scatter(
            column, y, s=58 if position == 0 else 38, color=colour, marker=marker, label=shown, zorder=3 - 0.1 * position
        )
    axes.set_yticks(y, names)
    axes.set_ylim(k - 0.4, -0.6)
    axes.set_xlim(max(-0.02, min(0.9, np.floor(10 * values.min()) / 10 - 0.02)), 1.02)
    axes.set_xlabel("F1")
    tidy(axes, grid="both")
    axes.set_title("F1 by label (test rows)", loc="left", fontsize=11)
    legend_below(figure, axes, len(f1) if sum(len(name) + 16 for name in f1) <= 100 else 2, reverse=True)
    return figure


def _share_y(below: Sequence[Axes]) -> None:
    top = max(axes.get_ylim()[1] for axes in below)
    for axes in below:
        axes.set_ylim(0, top)


def _wilson(
    share: NDArray[np.float64], n: NDArray[np.float64], z: float = 1.959964
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 95 % interval of a share (Wilson 1927)."""
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half
