"""Small SVG drawings, written by hand: they take their colours from the page's styles, in light and in dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, sqrt
from typing import Any

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 460.0, 330.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 14.0, 14.0, 44.0
_Z = 1.959964


class Axes:
    """A drawing with two axes from which positions are taken.

    Args:
        x: Least and greatest value.
        y: Least and greatest value.
        names: Of the axes.
        title: What a screen reader says.
    """

    def __init__(self, x: tuple[float, float], y: tuple[float, float], names: tuple[str, str], title: str) -> None:
        self.x, self.y, self.names, self.title = x, y, names, title
        self.parts: list[str] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Returns where a point lies on the drawing."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    def line(self, points: Sequence[tuple[float, float]], css: str) -> None:
        """Draws a line through points."""
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (self.at(*point) for point in points))
        self.parts.append(f'<polyline class="{escape(css)}" points="{path}"/>')

    def point(self, x: float, y: float, css: str, says: str, shape: str = "circle") -> None:
        """Draws a point that says something when the pointer rests on it."""
        px, py = self.at(x, y)
        self.parts.append(f"<g>{marker(px, py, css, shape)}<title>{escape(says)}</title></g>")

    def text(self, x: float, y: float, says: str, anchor: str = "start") -> None:
        """Writes beside a point, moved so that it stays on the drawing."""
        px, py = self.at(x, y)
        py = min(max(py - 9, _TOP + 10), _HEIGHT - _BOTTOM - 6)
        self.parts.append(f'<text class="note" x="{px:.1f}" y="{py:.1f}" text-anchor="{anchor}">{escape(says)}</text>')

    def drawn(self, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> Markup:
        """Returns the SVG, with ticks in percent."""
        grid = []
        for value in x_ticks:
            px, bottom = self.at(value, self.y[0])
            grid.append(f'<text class="tick" x="{px:.1f}" y="{bottom + 17:.1f}" text-anchor="middle">{100 * value:.0f}</text>')
        for value in y_ticks:
            left, py = self.at(self.x[0], value)
            grid.append(f'<line class="grid" x1="{left:.1f}" x2="{_WIDTH - _RIGHT}" y1="{py:.1f}" y2="{py:.1f}"/>')
            grid.append(f'<text class="tick" x="{left - 7:.1f}" y="{py + 4:.1f}" text-anchor="end">{100 * value:.0f}</text>')
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        names = (
            f'<text class="axis" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(self.names[0])}</text>'
            f'<text class="axis" x="12" y="{_HEIGHT / 2 - 8}" text-anchor="middle" '
            f'transform="rotate(-90 12 {_HEIGHT / 2 - 8})">{escape(self.names[1])}</text>'
        )
        head = f'<svg class="chart" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" aria-label="{escape(self.title)}">'
        return Markup(head + "".join(grid) + "".join(self.parts) + names + "</svg>")  # noqa: S704 (every text is escaped above)


def marker(x: float, y: float, css: str, shape: str = "circle", size: float = 4.2) -> str:
    """Returns a circle, square or triangle about a place."""
    kind = f'class="{escape(css)}"'
    if shape == "square":
        return f'<rect {kind} x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size:.1f}" height="{2 * size:.1f}"/>'
    if shape == "triangle":
        reach = 1.25 * size
        return f'<path {kind} d="M{x:.1f} {y - reach:.1f}l{reach:.1f} {1.9 * reach:.1f}h{-2 * reach:.1f}z"/>'
    return f'<circle {kind} cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}"/>'


def reliability(curves: Mapping[str, Mapping[str, Any]], task: str) -> Markup:
    """Returns how often the system is right at each confidence, before and after calibration, with 95 % Wilson intervals.

    Args:
        curves: See `RunRecord.reliability`.
        task: `multiclass` or `multilabel`.
    """
    names = ("confidence %", "right %") if task == "multiclass" else ("probability of a label %", "rows with the label %")
    axes = Axes((0, 1), (0, 1), names, "Reliability diagram before and after calibration")
    axes.line([(0, 0), (1, 1)], "ideal")
    for when, css, shape in (("before", "line c2 dashed", "square"), ("after", "line c1", "circle")):
        curve = curves[when]
        points = list(zip(curve["confidence"], curve["accuracy"], curve["count"], strict=True))
        axes.line([(x, y) for x, y, _ in points], css)
        for x, y, n in points:
            low, high = wilson(y, n)
            colour = css.split()[1]
            if when == "after":
                axes.line([(x, low), (x, high)], f"whisker {colour}")
            between = f"{n:.0f} rows, {100 * low:.0f} to {100 * high:.0f} %"
            says = f"{when} calibration: {100 * x:.1f} % sure, {100 * y:.1f} % right ({between})"
            axes.point(x, y, f"dot {colour}", says, shape)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    return axes.drawn(ticks, ticks)


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], x_name: str, y_name: str, title: str) -> Markup:
    """Returns lines from nobody asked to everybody, the first ones in the strongest colours.

    Args:
        lines: By name, points (share, value).
        x_name: Name of the axis across.
        y_name: Name of the axis upwards.
        title: What a screen reader says.
    """
    values = [y for points in lines.values() for _, y in points]
    low, high = min(values), max(values)
    room = max(0.08 * (high - low), 0.005)
    span = (max(0.0, low - room), min(1.0, high + room))
    axes = Axes((0, 1), span, (x_name, y_name), title)
    styles = ("line c1", "line c2 dashed", "line c3", "line c4 dashed", "line c5")
    for number, (name, points) in reversed(list(enumerate(lines.items()))):
        css = styles[number % len(styles)]
        axes.line(points, css)
        for x, y in points[:: max(1, len(points) // 20)]:
            axes.point(x, y, f"spot {css.split()[1]}", f"{name}: {100 * x:.0f} % asked, {y_name.rstrip(' %')} {100 * y:.1f} %")
    return axes.drawn([0, 0.2, 0.4, 0.6, 0.8, 1], ticks(*span))


def forest(
    entries: Sequence[tuple[float, float, float]], span: tuple[float, float], at: float | None = None, css: str = "c1"
) -> list[Markup]:
    """Returns, for each value with its interval, a small drawing on a common scale.

    Args:
        entries: `low`, `value`, `high` each.
        span: Of the scale.
        at: Where a line marks the value to compare with.
        css: Class that gives the colour.
    """
    width, reach = 150.0, span[1] - span[0] or 1.0

    def place(value: float) -> float:
        return 6 + (min(max(value, span[0]), span[1]) - span[0]) / reach * (width - 12)

    drawn = []
    for low, value, high in entries:
        line = "" if at is None else f'<line class="ideal" x1="{place(at):.1f}" x2="{place(at):.1f}" y1="0" y2="18"/>'
        drawn.append(
            Markup(  # noqa: S704 (numbers only)
                f'<svg class="forest" viewBox="0 0 {width:.0f} 18" aria-hidden="true">{line}'
                f'<line class="whisker {css}" x1="{place(low):.1f}" x2="{place(high):.1f}" y1="9" y2="9"/>'
                f"{marker(place(value), 9, f'dot {css}')}</svg>"
            )
        )
    return drawn


def dots(values: Sequence[tuple[float, str, str, str]], least: float = 0.0) -> Markup:
    """Returns values from `least` to 1 as marks on one line.

    Args:
        values: `value`, class that gives the colour, shape, and what the mark says.
        least: Where the line begins, below 1.
    """
    width = 150.0
    marks = ""
    for value, css, shape, says in reversed(values):
        x = 6 + (value - least) / (1 - least) * (width - 12)
        marks += f"<g>{marker(x, 9, f'dot {css}', shape, 4.0)}<title>{escape(says)}</title></g>"
    line = f'<line class="grid" x1="6" x2="{width - 6:.0f}" y1="9" y2="9"/>'
    return Markup(f'<svg class="forest" viewBox="0 0 {width:.0f} 18" aria-hidden="true">{line}{marks}</svg>')  # noqa: S704


def ticks(low: float, high: float) -> list[float]:
    """Returns three to seven round values between two.

    Example:
        >>> [round(value, 2) for value in ticks(0.81, 0.93)]
        [0.82, 0.84, 0.86, 0.88, 0.9, 0.92]
    """
    step = next((size for size in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / size <= 7), 1.0)
    first = floor(low / step) + (low / step != floor(low / step))
    return [step * number for number in range(int(first), floor(high / step) + 1)]


def wilson(share: float, n: float) -> tuple[float, float]:
    """Returns the 95 % interval of a share of n rows (Wilson 1927).

    Example:
        >>> [round(end, 3) for end in wilson(0.9, 100)]
        [0.826, 0.945]
    """
    middle = (share + _Z * _Z / (2 * n)) / (1 + _Z * _Z / n)
    half = _Z / (1 + _Z * _Z / n) * sqrt(share * (1 - share) / n + _Z * _Z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
