"""`lf compare`: runs ranked by a measure, tested against each other, and what differs in their configs. Needs no torch."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lf_lightning.results.comparison import Comparison, Standing, compare_runs
from lf_lightning.results.finding import find_runs
from lf_lightning.results.measures import IN_PERCENT, LOWER_IS_BETTER, MEASURES, NAMES

TOP = 10
FORMATS = ("table", "markdown", "csv", "json")

_BESIDE = ("accuracy", "macro_f1", "nll", "ece")
_MOST_COLUMNS = 6


def main(argv: Sequence[str]) -> int:
    """`lf compare [RUNS ...] [options]`.

    Args:
        argv: The words after `lf compare`.

    Returns:
        0.
    """
    parser = argparse.ArgumentParser(prog="lf compare", allow_abbrev=False)
    parser.add_argument("runs", nargs="*", default=["runs"])
    parser.add_argument("--by", choices=MEASURES, default=MEASURES[0])
    parser.add_argument("--against")
    parser.add_argument("--top", type=int, default=TOP)
    parser.add_argument("--group", action="store_true")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0])
    given = parser.parse_args(list(argv))
    found = find_runs(given.runs)
    for problem in found.damaged:
        print(f"lf compare: left out: {problem}", file=sys.stderr)
    comparison = compare_runs(found.records, given.by, given.against, given.top, given.group)
    if given.format == "table":
        print_tables(comparison)
    else:
        print({"markdown": markdown, "csv": csv_text, "json": json_text}[given.format](comparison))
    return 0


def header(comparison: Comparison) -> list[str]:
    """Returns the names of the columns of `cells`."""
    known = any(one.cost_usd is not None for one in comparison.standings)
    return [
        "",
        "run",
        *(["seeds"] if _grouped(comparison) else []),
        _name(comparison.by),
        f"vs {_number_of_other(comparison)}",
        "p",
        *([] if _grouped(comparison) else ["McNemar p"]),
        *(_name(measure) for measure in _beside(comparison)),
        *(["scores USD"] if known else []),
    ]


def cells(comparison: Comparison) -> list[list[str]]:
    """Returns the ranking as texts, one line a run."""
    return [_line(comparison, number, one) for number, one in enumerate(comparison.standings, start=1)]


def footnotes(comparison: Comparison) -> list[str]:
    """Returns what a reader of the ranking has to know."""
    by, n = NAMES[comparison.by], len(comparison.standings)
    unit = ("group" if _grouped(comparison) else "run") + "s" * (comparison.total != 1)
    notes = [f"{n} of {comparison.total:,} {unit} shown (--top)."] if n < comparison.total else []
    if any(one.interval for one in comparison.standings):
        notes.append("Brackets: 95 % bootstrap interval over test rows.")
    if any(one.against for one in comparison.standings):
        tests = f"p: paired bootstrap of {by}" + ("" if _grouped(comparison) else "; McNemar's exact test of accuracy")
        notes.append(f"{tests}; both corrected for {n - 1} comparisons (Holm)." if n > 2 else f"{tests}.")
    if _grouped(comparison):
        notes.append("±: standard deviation over seeds; intervals hold for these seeds, differences for those of both.")
    return [*notes, *comparison.notes]


def print_tables(comparison: Comparison) -> None:
    """Prints ranking, notes and differences; plain unless on a terminal."""
    from rich.box import ASCII2, ROUNDED
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 140)  # a file has no width: no name need be folded
    box = ROUNDED if console.is_terminal else ASCII2
    better = "lower is better" if comparison.by in LOWER_IS_BETTER else "higher is better"
    unit = ("group" if _grouped(comparison) else "run") + "s" * (comparison.total != 1)
    title = f"{comparison.total:,} {unit} by {NAMES[comparison.by]} ({better}), {comparison.rows:,} test rows"
    ranking = Table(box=box, title=Text(title))
    for column, name in enumerate(header(comparison)):
        ranking.add_column(Text(name), justify="left" if column == 1 else "right", no_wrap=column != 1, overflow="fold")
    for one, line in zip(comparison.standings, cells(comparison), strict=True):
        # Text, not markup: a folder may be called `[red]`.
        ranking.add_row(*map(Text, line), style="bold" if one.name == comparison.other else None)
    console.print(ranking)
    for note in footnotes(comparison):
        console.print(Text(note), soft_wrap=True)
    if not comparison.differs:
        if len(comparison.standings) > 1:
            console.print(Text("Their configs do not differ."))
        return
    console.print()
    differences = Table(box=box, title=Text("What differs"))
    differences.add_column("", overflow="fold")
    if len(comparison.standings) <= _MOST_COLUMNS:
        for number in range(1, len(comparison.standings) + 1):
            differences.add_column(str(number), overflow="fold")
        for key, values in comparison.differs.items():
            differences.add_row(*map(Text, (key, *values)))
    else:
        differences.add_column("value: runs", overflow="fold")
        for key, values in comparison.differs.items():
            differences.add_row(Text(key), Text(" · ".join(f"{value}: {runs}" for value, runs in _who_has(values).items())))
    console.print(differences)


def markdown(comparison: Comparison) -> str:
    """Returns ranking and differences as Markdown tables."""
    names = header(comparison)
    lines = [_row(names), _row(["---:" if column != 1 else "---" for column in range(len(names))])]
    lines += [_row([_escaped(cell) for cell in line]) for line in cells(comparison)]
    lines += ["", *footnotes(comparison)]
    if comparison.differs:
        n = len(comparison.standings)
        lines += ["", _row(["what differs", *map(str, range(1, n + 1))]), _row(["---"] * (n + 1))]
        lines += [_row([_escaped(cell) for cell in (key, *values)]) for key, values in comparison.differs.items()]
    return "\n".join(lines)


def csv_text(comparison: Comparison) -> str:
    """Returns `Comparison.frame` as CSV, cells that start a formula defused."""
    from lf_lightning.results.predictions import write_csv

    frame = comparison.frame().reset_index()
    text = io.StringIO(newline="")
    rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    write_csv(text, [str(name) for name in frame.columns], rows)
    return text.getvalue().rstrip("\n")


def json_text(comparison: Comparison) -> str:
    """Returns the comparison as JSON: `by`, `against`, `rows`, `runs` (numbers unrounded), `differs`, `notes`."""
    runs = [
        {
            "name": one.name,
            "folders": [Path(folder).as_posix() for folder in one.folders],
            "figures": one.figures,
            "sd": one.sd,
            "interval": one.interval,
            "against": one.against,
            "cost_usd": one.cost_usd,
        }
        for one in comparison.standings
    ]
    head = {"by": comparison.by, "against": comparison.other, "total": comparison.total, "rows": comparison.rows}
    body = {"runs": runs, "differs": comparison.differs, "notes": footnotes(comparison)}
    return json.dumps({**head, **body}, indent=1)


def _line(comparison: Comparison, number: int, one: Standing) -> list[str]:
    by, test = comparison.by, one.against or {}
    value = _figure(by, one.figures[by])
    if one.sd is not None:
        value += f" ± {_figure(by, one.sd)}"
    if one.interval is not None:
        value += f" [{_figure(by, one.interval[0])}, {_figure(by, one.interval[1])}]"
    between = ""
    if "difference" in test:
        low, high = (_signed(by, test[end]) for end in ("low", "high"))
        between = f"{_signed(by, test['difference'])} [{low}, {high}]"
    known = any(other.cost_usd is not None for other in comparison.standings)
    return [
        str(number),
        one.name,
        *([str(one.seeds)] if _grouped(comparison) else []),
        value,
        between,
        _p(test.get("p")),
        *([] if _grouped(comparison) else [_p(test.get("mcnemar_p"))]),
        *(_figure(measure, one.figures.get(measure)) for measure in _beside(comparison)),
        *([("?" if one.cost_usd is None else f"{one.cost_usd:,.2f}")] if known else []),
    ]


def _grouped(comparison: Comparison) -> bool:
    return any(one.seeds > 1 for one in comparison.standings)


def _beside(comparison: Comparison) -> list[str]:
    return [measure for measure in _BESIDE if measure != comparison.by]


def _number_of_other(comparison: Comparison) -> int:
    return next(number for number, one in enumerate(comparison.standings, start=1) if one.name == comparison.other)


def _name(measure: str) -> str:
    return f"{NAMES[measure]} %" if measure in IN_PERCENT else NAMES[measure]


def _figure(measure: str, value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}" if measure in IN_PERCENT else f"{value:.3f}"


def _signed(measure: str, value: float) -> str:
    return f"{100 * value:+.1f}" if measure in IN_PERCENT else f"{value:+.3f}"


def _p(value: float | None) -> str:
    return "" if value is None else "<0.0001" if value < 1e-4 else f"{value:.4f}" if value < 0.001 else f"{value:.2g}"


def _who_has(values: Sequence[str]) -> dict[str, str]:
    """By value, the numbers of the runs that have it."""
    return {
        value: ", ".join(str(number) for number, own in enumerate(values, start=1) if own == value)
        for value in dict.fromkeys(values)
    }


def _row(line: Sequence[str]) -> str:
    return f"| {' | '.join(line)} |"


def _escaped(cell: str) -> str:
    return " ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
