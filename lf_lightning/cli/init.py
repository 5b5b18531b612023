"""`lf init`: a commented starter config from a data file, and what it assumed. Imports no torch."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lf_lightning.cli.starter_config import FEW_ROWS, LENGTHS, PROVIDERS, Starter, fit_config, printable, score_config
from lf_lightning.data.head_of_table import Head, read_head
from lf_lightning.data.inspection import SPLITS, duplicates, joined_texts, split_column, text_columns, token_quantile
from lf_lightning.data.label_inspection import Labels, label_columns
from lf_lightning.data.table_columns import quoted
from lf_lightning.data.tables import HUB, read_table
from lf_lightning.errors import ConfigurationError, DataError
from lf_lightning.packaged import PREFIX

LEAST_ROWS = 10
"""Labelled rows; with fewer there is nothing left to validate and test on."""

_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".csv.gz", ".tsv.gz", ".jsonl.gz", ".ndjson.gz")
_WORD = re.compile(r"[A-Za-z]+")


def main(argv: Sequence[str]) -> int:
    """`lf init FILE [options]`; the options are on its help page.

    Args:
        argv: The words after `lf init`.

    Returns:
        0.

    Raises:
        ConfigurationError: A choice that matters is the user's: the message names the candidates and the option; or a file that
            would be written is there.
        DataError: The table cannot be read, or has too few labelled rows.
    """
    options = _parsed(argv)
    out = Path(options.out or f"{_stem(options.source)}.yaml")
    if out.suffix not in (".yaml", ".yml"):
        raise ConfigurationError(f"--out {str(out)!r}: a config ends in .yaml.")
    sources, notes = _splits(options.source)
    head = read_head(sources["train"])
    if not len(head.table):
        raise DataError(f"{sources['train']} has no rows.")
    parted = _parts_of(head, sources, options) if len(sources) == 1 else {}
    taken = [] if not parted else [parted.pop("column")]
    plan = _plan(head, sources, taken, notes, options, out, parted)
    written = {out: fit_config(plan)}
    if plan.llm != "none":
        written[out.with_name(f"{out.stem}_score.yaml")] = score_config(plan)
    files = [*written, *(Path(plan.sources[split]) for split in parted)]
    there = [str(file) for file in files if file.exists()]
    if there and not options.force:
        raise ConfigurationError(f"{', '.join(there)} exists and was not touched. Way out: --out another.yaml, or --force.")
    try:
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
        for split, table in parted.items():
            _write_rows(Path(plan.sources[split]), table)
        for file, text in written.items():
            file.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigurationError(
            f"--out {str(out)!r}: {error.strerror} ({error.filename}). Way out: another folder."
        ) from error
    _show(plan, files, out)
    return 0


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lf init", allow_abbrev=False, add_help=False)
    parser.add_argument("source")
    parser.add_argument("--text", nargs="+")
    parser.add_argument("--labels", nargs="+")
    parser.add_argument("--empty", choices=("none", "unlabelled"))
    parser.add_argument("--llm", choices=(*PROVIDERS, "local", "none"), default="none")
    parser.add_argument("--encoder")
    parser.add_argument("--out")
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args(argv)
    options.words = list(argv)
    return options


def _plan(
    head: Head,
    sources: dict[str, str],
    taken: list[str],
    notes: list[str],
    options: argparse.Namespace,
    out: Path,
    parted: dict[str, pd.DataFrame],
) -> Starter:
    table = head.table
    part = f"all {len(table):,} rows" if head.whole else f"the first {len(table):,} rows"
    texts, more_texts = text_columns(table, [*taken, *(options.labels or ())], options.text)
    labels, more_labels = label_columns(table, [*taken, *texts], options.labels, options.empty)
    read = joined_texts(table, texts, "train")
    labelled = len(table) - labels.unlabelled
    if labelled < LEAST_ROWS:
        raise DataError(f"{sources['train']} has {labelled} labelled rows. Way out: label {LEAST_ROWS} or more.")
    _without_strangers(sources, notes, [*texts, *(labels.columns or [str(labels.column)])])
    repeated, other = duplicates(read, labels.cells)
    if parted:
        for split, own in parted.items():
            sources[split] = str(out.with_name(f"{out.stem}_{split}.jsonl"))
            notes.append(f"{split}: {len(own):,} rows of column {taken[0]!r}, written to {sources[split]}")
        own_rows = [_of(said) == "train" for said in table[taken[0]]]
        labelled = sum(cell is not None and inside for cell, inside in zip(labels.cells, own_rows, strict=True))
    notes = [f"read: {part} of {options.source}", *notes]
    notes.append(_text_note(texts, more_texts, read, options.text is not None))
    notes.append(_label_note(labels, more_labels, options.labels is not None))
    for column, rows in labels.rejected.items():
        notes.append(f"left out: column {column!r}, 1 in {rows:,} of {len(table):,} rows, cannot be learned")
    if labels.unlabelled:
        notes.append(f"no label: {labels.unlabelled:,} rows, which train leaves out")
    if empty := sum(not text.strip() for text in read):
        notes.append(f"empty: {empty:,} texts, which are kept")
    if repeated:
        conflict = f", {other:,} of them with other labels" if other else ""
        notes.append(f"repeated: {repeated:,} texts{conflict}; drop_duplicates keeps the first of each")
    rare = [name for name, count in labels.counts.items() if count < 5]
    if rare:
        notes.append(f"rare: fewer than 5 rows of {_listed(rare)}")
    tokens = token_quantile(read)
    if tokens > LENGTHS[-1]:
        notes.append(f"long: of 20 texts one has over {tokens:,} tokens; max_length cuts at {LENGTHS[-1]}")
    unused = [str(column) for column in table.columns if column not in {*texts, *taken, labels.column, *(labels.columns or ())}]
    unused = [column for column in unused if column not in labels.rejected]
    if unused:
        notes.append(f"not used: {_listed(unused)}")
    if not head.whole:
        notes.append("counts are of the rows that were read; a label that comes only later is an error that names it")
    plan = Starter(
        command=printable(f"lf init {' '.join(quoted(word) for word in options.words)}"),
        sources=sources,
        text_columns=texts,
        labels=labels,
        empty_label=options.empty if labels.task == "multilabel" and labels.columns is None else None,
        labelled=labelled,
        duplicates=repeated,
        tokens=tokens,
        foreign=_foreign(read),
        llm=options.llm,
        name=out.stem,
        notes=notes,
        encoder=options.encoder,
        part=part,
    )
    how = f"frozen, below {FEW_ROWS:,} train labels" if plan.few else f"fine-tuned, {FEW_ROWS:,} train labels or more"
    plan.notes.append(f"encoder: {how}")
    return plan


def _splits(source: str) -> tuple[dict[str, str], list[str]]:
    """Returns the source of each split that lies beside the one given, and what to say of them."""
    path = Path(source)
    if source.startswith((HUB, PREFIX)) or not path.exists():
        return {"train": source}, []
    if path.is_dir():
        inside = [file for file in sorted(path.iterdir()) if _split_of(file) == "train" and _is_table(file)]
        if any(path.glob("*/*.txt")) or not inside:
            return {"train": source}, []
        if len(inside) > 1:
            raise ConfigurationError(f"{source} has several train files: {_listed(file.name for file in inside)}. Name one.")
        path = inside[0]
    if _split_of(path) != "train":
        return {"train": str(path)}, []
    found, notes = {"train": str(path)}, []
    for file in sorted(path.parent.iterdir()):
        split = _split_of(file)
        if split in (None, "train") or not _is_table(file) or _without_split(file) != _without_split(path):
            continue
        if split in found:
            raise ConfigurationError(f"{found[split]} and {file} could both be the {split} rows. Way out: move one away.")
        found[split] = str(file)
        notes.append(f"{split}: {file}, because of its name")
    return {split: found[split] for split in ("train", "validation", "test") if split in found}, notes


def _without_strangers(sources: dict[str, str], notes: list[str], columns: list[str]) -> None:
    """Removes sources of validation and test rows that lack a column, and says so."""
    for split in [split for split in sources if split != "train"]:
        there = read_head(sources[split], split).table.columns
        if lacking := [column for column in columns if column not in there]:
            notes.append(f"{split}: {sources.pop(split)} has no column {_listed(lacking)}, so it is not used")


def _is_table(file: Path) -> bool:
    return file.is_file() and file.name.lower().endswith(_TABLES)


def _split_of(file: Path) -> str | None:
    found = {SPLITS[word] for word in _WORD.findall(file.name.split(".")[0].lower()) if word in SPLITS}
    return found.pop() if len(found) == 1 else None


def _without_split(file: Path) -> tuple[str, ...]:
    return tuple(word for word in _WORD.findall(file.name.lower()) if word not in SPLITS)


def _parts_of(head: Head, sources: dict[str, str], options: argparse.Namespace) -> dict[str, Any]:
    """Returns the rows of each split that a column names, and that `column`; empty where there is none."""
    column = split_column(head.table, [*(options.text or ()), *(options.labels or ())])
    if column is None:
        return {}
    table = head.table if head.whole else read_table(sources["train"])
    said = table[column].map(_of)
    if said.isna().any():
        raise DataError(f"column {column!r} says {table[column][said.isna()].iloc[0]!r:.40}, which is no split.")
    parts = {split: table[said == split].drop(columns=column) for split in ("train", "validation", "test")}
    return {"column": column, **{split: rows for split, rows in parts.items() if len(rows)}}


def _of(cell: Any) -> str | None:
    return SPLITS.get(str(cell).lower())


def _write_rows(file: Path, table: pd.DataFrame) -> None:
    # JSON keeps every cell as it is, also carriage returns and lone surrogates.
    with file.open("w", encoding="ascii", newline="\n") as stream:
        for row in table.to_dict("records"):
            stream.write(json.dumps({str(name): _plain(cell) for name, cell in row.items()}) + "\n")


def _plain(cell: Any) -> Any:
    if isinstance(cell, np.ndarray):
        return [_plain(item) for item in cell.tolist()]
    if isinstance(cell, (list, tuple)):
        return [_plain(item) for item in cell]
    cell = cell.item() if isinstance(cell, np.generic) else cell
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    return cell if isinstance(cell, (str, int, float, bool)) else str(cell)


def _text_note(columns: list[str], others: list[str], texts: list[str], given: bool) -> str:
    words = int(np.median([len(text.split()) for text in texts]))
    why = "as you say" if given else "assumed"
    also = f"; other candidates: {_listed(others)} (--text)" if others else ""
    return f"text: column {_listed(columns)}, {why}, half of them up to {words} words{also}"


def _label_note(labels: Labels, others: list[str], given: bool) -> str:
    where = f"column {labels.column!r}" if labels.columns is None else f"{len(labels.columns)} columns of 0 and 1"
    how = "one a row" if labels.task == "multiclass" else "several a row"
    joined = f", joined by {labels.separator!r}" if labels.separator else ""
    counts = labels.counts
    few, many = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
    spread = f"{counts[few]:,} rows of {few!r} to {counts[many]:,} of {many!r}"
    spread = f"{counts[few]:,} rows of each" if counts[few] == counts[many] else spread
    also = f"; other candidates: {', '.join(others)} (--labels)" if others else ""
    return (
        f"labels: {where}, {'as you say' if given else 'assumed'}: {len(counts)}, {how} ({labels.task}){joined}; {spread}{also}"
    )


def _foreign(texts: list[str]) -> bool:
    letters = [character for text in texts[:2000] for character in text[:2000] if character.isalpha()]
    return sum(not character.isascii() for character in letters) > 0.2 * max(len(letters), 1)


def _listed(names: Iterable[str], most: int = 12) -> str:
    listed = [repr(str(name)) for name in names]
    return ", ".join(listed[:most]) + (f", ... ({len(listed)} in all)" if len(listed) > most else "")


def _stem(source: str) -> str:
    name = Path(source.rsplit(":", 1)[-1] if source.startswith((HUB, PREFIX)) else Path(source).absolute()).name
    return re.sub(r"[^\w-]+", "_", name.split(".")[0]).strip("_") or "config"


def _show(plan: Starter, files: list[Path], out: Path) -> None:
    for note in plan.notes:
        print(printable(note).encode(sys.stdout.encoding or "utf-8", "backslashreplace").decode(sys.stdout.encoding or "utf-8"))
    print(f"\nwritten: {', '.join(map(str, files))}. Next:\n")
    if plan.llm in PROVIDERS:
        print(f"  export {PROVIDERS[plan.llm].key}=...")
    if plan.llm != "none":
        print(f"  lf score --config {quoted(str(out.with_name(f'{out.stem}_score.yaml')))}")
    print(f"  lf fit --config {quoted(str(out))}")
    print(f"  lf test --run {quoted(f'runs/{out.stem}/latest')}")
