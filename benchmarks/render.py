"""Writes the tables of README.md, benchmarks/README.md and docs/ from benchmarks/results/*.json; no figure is typed by hand.

    python -m benchmarks.render           writes
    python -m benchmarks.render --check   exit code 1 if a file differs from what would be written

A table stands between `<!-- results:NAME -->` and `<!-- /results:NAME -->`; NAME is one of `TABLES`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.cells import (
    METRICS,
    SYSTEM,
    bold_best,
    cells_of,
    difference_cell,
    gap,
    mark,
    markdown,
    ordered,
    scorers_of,
    set_name,
    title_of,
)
from benchmarks.cotraining_tables import cost, cotraining, noise, weights
from benchmarks.plan import table as plan
from benchmarks.promise_tables import conformal, deferral
from benchmarks.reasoning_tables import reasoning
from benchmarks.scale_tables import peers, scaling, startup
from benchmarks.scoring_tables import gateway, injection, real_server

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = (
    "README.md",
    "benchmarks/README.md",
    "docs/how-to/budget.md",
    "docs/how-to/llm-scores.md",
    "docs/how-to/promises.md",
    "docs/scale.md",
)
COMMANDS = {
    name: f"python -m benchmarks.{name} --data FOLDER"
    for name in (
        "fusion_llm_labels",
        "fusion_ag_news",
        "goemotions",
        "deferral",
        "conformal",
        "reasoning",
        "cotraining",
        "cotraining_weights",
    )
}
"""Of the benchmarks that need an argument; the others are `python -m benchmarks.NAME`."""

Record = Mapping[str, Any]
Cells = Mapping[str, Mapping[str, Any]]

_MARKED = re.compile(r"(<!-- results:([\w-]+) -->\n).*?(<!-- /results:\2 -->)", re.DOTALL)


# ---- tables


def by_set(cells: Cells, metric: str) -> str:
    """Returns one line a set: each row's metric, and fusion against the better member."""
    one_scorer = all(len(scorers_of(cell)) <= 1 for cell in cells.values())
    names = list(dict.fromkeys(name for cell in cells.values() for name in ordered(cell)))
    if one_scorer:
        names = ["LLM", *(name for name in names if all(name not in scorers_of(cell) for cell in cells.values()))]
    lines = []
    for key, cell in cells.items():
        known = dict(cell["rows"])
        if one_scorer and scorers_of(cell):
            known["LLM"] = known[scorers_of(cell)[0]]
        numbers = [known[name][metric] if name in known else None for name in names]
        lines.append([set_name(key), *bold_best(metric, numbers), difference_cell(gap(cell, metric))])
    titles = ["LLM alone" if name == "LLM" else title_of(name) for name in names]
    return markdown([METRICS[metric], *titles, "fusion − better member"], lines)


def by_member(cell: Mapping[str, Any]) -> str:
    """Returns one line a row of a set: all metrics that there are."""
    names = ordered(cell)
    metrics = [metric for metric in METRICS if all(metric in cell["rows"][name] for name in names)]
    columns = [bold_best(metric, [cell["rows"][name][metric] for name in names]) for metric in metrics]
    titles = [title_of(name) for name in names] if SYSTEM in names else names
    lines = [[title, *cells] for title, *cells in zip(titles, *columns, strict=True)]
    if "fusion_minus" in cell:
        shown = {metric: difference_cell(gap(cell, metric)) for metric in metrics if metric in cell["best_member_on_test"]}
        lines.append(["fusion − better member", *(shown.get(metric, "") for metric in metrics)])
    return markdown(["", *(METRICS[metric] for metric in metrics)], lines)


def verdict(cells: Cells) -> str:
    """Returns in words where fusion is below its better member."""
    marks: dict[str, str] = {}
    for key, cell in cells.items():
        for metric in cell["best_member_on_test"]:
            found = gap(cell, metric)
            name = f"{set_name(key)} ({METRICS[metric].removesuffix(' %')} {100 * found['difference']:+.1f})"
            marks[name] = mark(found)
    worse, below = ([name for name, shown in marks.items() if shown == sign] for sign in ("▼", "▽"))
    return (
        f"Fusion significantly below its better member (▼): {', '.join(worse) or 'nowhere'}. "
        f"Below, within the interval (▽): {', '.join(below) or 'nowhere'}. "
        f"Significantly above (▲): {sum(shown == '▲' for shown in marks.values())} of {len(marks)}."
    )


def footer(record: Record) -> str:
    """Returns what the figures were measured on."""
    machine, seeds = record["machine"], record["seeds"] or []
    parts = [
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}" if seeds else "",
        machine["gpu"] or f"{machine['cpus']} CPU cores",
        f"torch {record['versions'].get('torch', '?')}",
        record["date"],
        f"`{record['command']}`",
    ]
    return f"<sub>{' · '.join(part for part in parts if part)}</sub>"


def quickstart(record: Record) -> str:
    """The quick start's table."""
    (cell,) = cells_of(record["figures"]).values()
    labelled = cell["labelled_rows"]
    intro = (
        f"BBC News, {labelled['train']} labelled train rows, {labelled['validation']} validation rows, {cell['test_rows']:,} "
        f"test rows, mean ± standard deviation over {len(record['seeds'])} seeds:"
    )
    return "\n\n".join([intro, by_member(cell), footer(record)])


def both_metrics(record: Record) -> str:
    """Accuracy and macro-F1 of several sets, and where fusion is below."""
    cells = cells_of(record["figures"])
    tables = [by_set(cells, metric) for metric in ("accuracy", "macro_f1")]
    return "\n\n".join([*tables, verdict(cells), footer(record)])


def every_row(record: Record) -> str:
    """All metrics of each set."""
    parts = []
    for key, cell in cells_of(record["figures"]).items():
        rows = f", {cell['test_rows']:,} test rows" if "test_rows" in cell else ""
        parts += [f"**{set_name(key)}**{rows}", by_member(cell)]
    return "\n\n".join([*parts, footer(record)])


def goemotions(record: Record) -> str:
    """Thresholds of 0.5 and tuned ones."""
    (cell,) = cells_of(record["figures"]).values()
    gain = difference_cell(cell["tuned_minus_half"]["macro_f1"])
    said = f"Tuned thresholds over 0.5, macro-F1: {gain} points, {cell['labels']} labels, {cell['test_rows']:,} test rows."
    return "\n\n".join([by_member(cell), said, footer(record)])


def throughput(record: Record) -> str:
    """Speed against three rivals."""
    figures = record["figures"]
    names = {
        "loop": "hand-written loop",
        "transformers_trainer": "`transformers.Trainer`",
        "loop_padded_to_256": "loop, padded to 256 tokens",
    }
    lines = [
        [f"speed over that of: {title}", *(_ratio(figures[kind]["ratio"][name]) for kind in ("training", "prediction"))]
        for name, title in names.items()
        if name in figures["training"]["ratio"]
    ]
    own = ["rows a second", *(f"{figures[k]['rows_per_second']['lf_lightning']:.1f}" for k in ("training", "prediction"))]
    return "\n\n".join([markdown(["median [quartiles]", "training", "prediction"], [*lines, own]), footer(record)])


def _ratio(number: Mapping[str, float]) -> str:
    return f"{number['median']:.2f} [{number['low']:.2f}, {number['high']:.2f}]"


def prediction(record: Record) -> str:
    """Speed of prediction against `transformers.pipeline`, and of other ways to predict."""
    rivals = {"pipeline": "`transformers.pipeline`", "pipeline_sorted": "the same, texts sorted by length for it"}
    ways = {"bfloat16": "`dtype: bfloat16`", "compiled": "`compile: true`", "onnxruntime": "ONNX, in onnxruntime"}
    sets = record["figures"]["sets"]
    lines = [
        [f"speed over that of {title}", *(_ratio(s["ratio"][name]) for s in sets.values())] for name, title in rivals.items()
    ]
    lines += [
        [f"{title}, over ours", *(_ratio(s["ways_over_ours"][name]) for s in sets.values())] for name, title in ways.items()
    ]
    lines.append(["texts a second", *(f"{s['texts_per_second']['lf_lightning']:.1f}" for s in sets.values())])
    return "\n\n".join([markdown(["median [quartiles]", *(set_name(name) for name in sets)], lines), footer(record)])


def serving(record: Record) -> str:
    """A server that batches beside one that does not, by length of the texts."""
    figures = record["figures"]
    titles = {"batched": "batches of up to 32", "one_by_one": "one text at a time"}
    lines = []
    for title, found in figures["sets"].items():
        for name, side in titles.items():
            n = found[name]
            times = [f"{n['milliseconds'][q]:.0f}" for q in ("50", "95", "99")]
            server = n["cpu_milliseconds_per_request"]["server"]
            cost = "–" if server is None else f"{server:.1f}"
            ratio = _ratio(found["ratio"]) if name == "batched" else ""
            rate = f"{n['requests_per_second']:.1f}"
            lines.append([f"{title}, {side}", f"{n['requests']:,}", str(n["errors"]), rate, ratio, *times, cost])
    rate = ["requests a second", "over one at a time"]
    header = ["", "requests", "errors", *rate, "median ms", "95 %", "99 %", "server's CPU ms a request"]
    said = f"{figures['clients']} clients for {figures['seconds_each']:.0f} s each, on the server's cores."
    return "\n\n".join([markdown(header, lines), said, footer(record)])


def store_join(record: Record) -> str:
    """Time and memory of a join by number of texts."""
    figures = record["figures"]
    lines = [
        [f"{int(rows):,}", f"{n['append_seconds']:.1f}", f"{n['seconds']:.1f}", f"{n['extra_mb']:.0f}"]
        for rows, n in figures["rows"].items()
    ]
    header = [
        f"texts ({figures['scorers']} scorers, {figures['labels']} labels)",
        "append, s",
        "open and join, s",
        "memory, MB",
    ]
    return "\n\n".join([markdown(header, lines), footer(record)])


def _footed(table: Callable[[Mapping[str, Any]], str]) -> Callable[[Record], str]:
    return lambda record: f"{table(record['figures'])}\n\n{footer(record)}"


TABLES: dict[str, tuple[str, Callable[[Record], str]]] = {
    "quickstart": ("quickstart", quickstart),
    "fusion_llm_labels": ("fusion_llm_labels", both_metrics),
    "fusion_llm_labels-all": ("fusion_llm_labels", every_row),
    "fusion_low_data": ("fusion_low_data", both_metrics),
    "fusion_low_data-all": ("fusion_low_data", every_row),
    "fusion_ag_news-all": ("fusion_ag_news", every_row),
    "goemotions": ("goemotions", goemotions),
    "throughput": ("throughput", throughput),
    "prediction": ("prediction", prediction),
    "serving": ("serving", serving),
    "store_join": ("store_join", store_join),
    "deferral": ("deferral", _footed(deferral)),
    "conformal": ("conformal", _footed(conformal)),
    "gateway": ("gateway", _footed(gateway)),
    "real_server": ("real_server", _footed(real_server)),
    "injection": ("injection", _footed(injection)),
    "reasoning": ("reasoning", _footed(reasoning)),
    "cotraining": ("cotraining", _footed(cotraining)),
    "cotraining_weights": ("cotraining_weights", _footed(weights)),
    "cotraining_noise": ("cotraining_noise", _footed(noise)),
    "cotraining_cost": ("cotraining_cost", _footed(cost)),
    "peers": ("peers", _footed(peers)),
    "plan": ("plan", _footed(plan)),
    "scaling": ("scaling", _footed(scaling)),
    "startup": ("startup", _footed(startup)),
}
"""Each table: the record that it is made from, and the function that makes it."""


# ---- documents


def block(name: str, results: Path = RESULTS) -> str:
    """Returns the text between the markers of a table; without its record, the command that makes it.

    Args:
        name: One of `TABLES`.
        results: The folder of the records.

    Raises:
        KeyError: There is no such table.
    """
    stem, render = TABLES[name]
    path = results / f"{stem}.json"
    if not path.is_file():
        return f"*Not measured yet: `{COMMANDS.get(stem, f'python -m benchmarks.{stem}')}` makes this table.*"
    return render(json.loads(path.read_text(encoding="utf-8")))


def rendered(text: str, results: Path = RESULTS) -> str:
    """Returns a document with every table made anew."""
    return _MARKED.sub(lambda found: f"{found[1]}{block(found[2], results)}\n{found[3]}", text)


def outdated(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Yields each document that differs from its rendering, with the rendering."""
    for name in DOCUMENTS:
        path = root / name
        before = path.read_text(encoding="utf-8")
        after = rendered(before)
        if after != before:
            yield path, after


def main() -> int:
    """Writes the documents, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if something would be written")
    check = parser.parse_args().check
    found = list(outdated())
    for path, text in found:
        print(f"{'outdated' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            path.write_text(text, encoding="utf-8")
    return int(check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
