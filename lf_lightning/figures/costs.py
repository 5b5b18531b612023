"""The cost-accuracy curve: what calls to LLMs bring, in the order in which they pay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lf_lightning.figures.canvas import BLUE, GREEN, GREY, INK, ORANGE, RED, legend_below, printable, single_axes, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (RED, ":"), (GREY, "-"), (INK, (0, (1, 1))))


def cost_accuracy(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], metric: str = "accuracy", encoder: float | None = None
) -> Figure:
    """Several deferrals over what they cost; the line from no call to all calls is asking at random.

    Args:
        curves: By name (the first is drawn on top, at most six): costs in [0, 1], and the metric in [0, 1].
        metric: Its name, as the axis shows it.
        encoder: The metric of the encoder alone, drawn as a level line.
    """
    figure, axes = single_axes(6.4, 4.4)
    for position, (name, (cost, values)) in reversed(list(enumerate(curves.items()))):
        colour, style = _STYLES[position % len(_STYLES)]
        x, y = [100 * c for c in cost], [100 * v for v in values]
        axes.plot(x, y, color=colour, linestyle=style, linewidth=1.8 if position == 0 else 1.3, label=printable(name))
    cost, values = next(iter(curves.values()))
    axes.plot([0, 100], [100 * values[0], 100 * values[-1]], color="#cccccc", linewidth=1.2, zorder=1, label="by chance")
    if encoder is not None:
        axes.axhline(100 * encoder, color="#cccccc", linewidth=1.2, linestyle=(0, (4, 3)), zorder=1, label="encoder alone")
    axes.set_xlim(-1, 101)
    axes.set_xlabel("cost, % of asking about every text")
    axes.set_ylabel(f"{printable(metric)}, %")
    axes.set_title("What calls bring", loc="left", fontsize=11)
    tidy(axes, grid="both")
    legend_below(figure, axes, 3, reverse=True)
    return figure
