"""What all figures share: colours, texts that can be drawn, bare axes."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008), "Color Universal Design": told apart by colour-blind eyes.
BLUE, ORANGE, GREEN, RED, GREY, INK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#999999", "#222222"
_LONGEST = 28


def printable(text: str, longest: int = _LONGEST) -> str:
    """Returns a text that matplotlib draws as it is, with the font at hand and without warnings.

    `$` is escaped, so that nothing is set as mathematics. What the font lacks, right-to-left letters (which matplotlib would
    set backwards) and control characters become escapes of their code points. Long texts are cut.
    """
    has, shown = _font_has(), ""
    for c in text:
        drawn = c == " " or (
            has(c) and unicodedata.category(c)[0] not in "CZ" and unicodedata.bidirectional(c) not in ("R", "AL", "AN")
        )
        piece = c if drawn else c.encode("unicode_escape").decode("ascii")
        if len(shown) + len(piece) > longest:
            shown += "…"
            break
        shown += piece
    return shown.replace("$", r"\$") or "''"


@lru_cache(maxsize=1)
def _font_has() -> Any:
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))  # comes with matplotlib
    return lambda c: font.get_char_index(ord(c)) != 0


def empty_figure(width: float, height: float) -> Figure:
    """Returns a figure of so many inches, ready to be drawn without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def single_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Returns a figure of so many inches and its only axes."""
    figure = empty_figure(width, height)
    return figure, figure.add_subplot()


def tidy(axes: Axes, grid: str) -> None:
    """Takes the frame's upper and right side and the tick marks away; `grid` is x, y or both."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#e6e6e6", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9)


def legend_below(figure: Figure, axes: Axes, columns: int, reverse: bool = False) -> None:
    """Puts the legend under the axes, in so many columns."""
    handles, names = axes.get_legend_handles_labels()
    if reverse:
        handles, names = handles[::-1], names[::-1]
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
