"""`lf reason`: reasons for labelled texts into a score store, each once, so that a stopped run goes on where it was."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

from lf_lightning.cli.function_arguments import arguments_of
from lf_lightning.cli.score_display import progress_bar
from lf_lightning.data.tables import read_table
from lf_lightning.data.texts import texts_of
from lf_lightning.errors import ConfigurationError, DataError, LFError
from lf_lightning.scoring.gateway.answers import Estimate
from lf_lightning.scoring.reasons.filters import Distinct, ReasonFilter, Short
from lf_lightning.scoring.reasons.making import Made, SeesLabel, make_reasons
from lf_lightning.scoring.reasons.writer import Asked, ReasonWriter
from lf_lightning.store import ScorerCard, ScoreStore, Status
from lf_lightning.store.manifest import FILE


@dataclass
class Reasons:
    """What a run of `lf reason` found and did; a text with several reasons counts several times.

    Attributes:
        rows: Rows of the source, equal texts included.
        wanted: Distinct texts, times samples.
        stored: Those that were in the store before, kept or dropped.
        contradicted: Rows whose text came before with another label, which is not looked at.
        kept: Reasons kept.
        rationalised: Of those, how many saw the label after a first reason was dropped.
        written: Reasons written in this run.
        dropped: By filter.
        unwritten: Why no reason was written, and how often.
        seconds: Time for it.
        halt: Why the writer stopped before all were done.
        estimate: What the others would cost; of a dry run with a writer that costs something.
    """

    rows: int
    wanted: int
    stored: int
    contradicted: int
    kept: int = 0
    rationalised: int = 0
    written: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    unwritten: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    halt: LFError | None = None
    estimate: Estimate | None = None


def reason_table(
    writer: ReasonWriter,
    source: str | list[str],
    store: str,
    labels: list[str],
    name: str = "writer",
    label_column: str | None = "label",
    text_columns: list[str] | None = None,
    max_words: int | None = None,
    samples: int = 1,
    sees_label: SeesLabel = "if_wrong",
    filters: list[ReasonFilter] | None = None,
    limit: int | None = None,
    shard_size: int = 200,
    max_cost: float | None = None,
    dry_run: bool = False,
) -> Reasons:
    """Writes reasons for the texts of a table that are not in the store yet. Equal texts are asked about once.

    A row of the store has the reason where one was kept, and a note on how it came; its probabilities are even, since a reason
    that was given with sight of the label says nothing about the label. So give the folder as data.reasons, not data.scores.

    Args:
        writer: Who writes: lf_lightning.scoring.reasons.CausalLMWriter, LLMWriter, or your own.
        source: File, folder of <label>/*.txt, package:NAME/PATH or hf:NAME:SPLIT; or a list of them. Train rows only.
        store: Folder of the score store, made if it is new.
        labels: The label names, in the order of the training.
        name: What the store calls the writer; further samples are "NAME 2", "NAME 3", ...
        label_column: Column of the gold label; none: nobody knows it.
        text_columns: Columns that make the text, joined by a newline (default: text).
        max_words: Keep the first so many words of a text; say the same in the data of the training.
        samples: Reasons for each text.
        sees_label: Whether the writer is shown the gold label: never, always, or if_wrong, once its own reason was dropped.
        filters: What a reason has to pass, in this order (default: Short and Distinct).
        limit: Stop after so many texts that are not in the store yet.
        shard_size: Texts between two writes to the store.
        max_cost: USD that the replies of this response cache, earlier runs included, may cost; it is never passed.
        dry_run: Show how many reasons are wanted, and what they would cost at most; nothing is asked or written.

    Returns:
        The counts.

    Raises:
        ConfigurationError: A column is not there, or a number is out of range.
        DataError: A label is none of `labels`.
    """
    if samples < 1 or shard_size < 1 or any(number is not None and number < 1 for number in (limit, max_words)):
        raise ConfigurationError("samples, shard_size, limit and max_words must be at least 1.")
    judges = [Short(), Distinct()] if filters is None else list(filters)
    writer.max_cost = max_cost
    rows, gold, contradicted = _rows(source, text_columns or ["text"], label_column, labels, max_words)
    if label_column is None and sees_label != "never":
        raise ConfigurationError(f"sees_label={sees_label!r} without label_column. Way out: sees_label: never.")
    spec = {"scorer": "reasons", "mode": "reasons", "sees_label": sees_label, **writer.spec}
    spec["filters"] = [judge.spec for judge in judges]
    cards = [
        ScorerCard(name if i == 0 else f"{name} {i + 1}", tuple(labels), "multiclass", {**spec, "sample": i})
        for i in range(samples)
    ]
    texts = list(gold)
    target = None if dry_run and not (Path(store) / FILE).exists() else ScoreStore(store, create=not dry_run)
    missing = [set(range(len(texts)) if target is None else target.missing(card, texts)) for card in cards]
    todo = [place for place in range(len(texts)) if any(place in gaps for gaps in missing)][:limit]
    wanted = len(texts) * samples
    summary = Reasons(rows, wanted, wanted - sum(map(len, missing)), contradicted)
    if dry_run or target is None:
        shown = [
            Asked(texts[p], gold[texts[p]] if second else None, i)
            for p in todo
            for i in range(samples)
            for second in {"never": [False], "always": [True], "if_wrong": [False, True]}[sees_label]
        ]
        summary.estimate = writer.estimate(shown)
        return summary
    known = [
        reason for card in cards if card.fingerprint in target.cards for reason in target.rationales(card.fingerprint, texts)
    ]
    for judge in judges:
        judge.remember([reason for reason in known if reason])
    start = time.perf_counter()
    with progress_bar() as progress:
        task = progress.add_task(name, total=len(todo) * samples, said="")
        writer.watch = lambda said: progress.update(task, said=said)
        for first in range(0, len(todo), shard_size):
            asked = [
                (i, Asked(texts[place], gold[texts[place]], i))
                for place in todo[first : first + shard_size]
                for i in range(samples)
                if place in missing[i]
            ]
            made = make_reasons(
                writer, judges, [one for _, one in asked], sees_label, lambda done: progress.advance(task, done)
            )
            _keep(target, cards, asked, made, summary)
            if made.halt is not None:
                break
        writer.watch = None
    summary.seconds = time.perf_counter() - start
    return summary


def main(argv: Sequence[str]) -> int:
    """`lf reason --config FILE [--dry-run] [--max_cost USD] [any argument of reason_table]`.

    Args:
        argv: The words after `lf reason`.

    Returns:
        0, or the error's own code where the run was halted.
    """
    what = "Write reasons for labelled texts into a score store, each once."
    arguments = arguments_of(reason_table, argv, "lf reason", what, ["dry_run"])
    summary = reason_table(**arguments)
    show(summary, arguments["store"], arguments["dry_run"])
    if summary.halt is not None:
        print(f"lf reason stopped: {summary.halt} Run the same command again: it asks only for the rest.", file=sys.stderr)
        return summary.halt.exit_code
    return 0


def show(summary: Reasons, store: str, dry_run: bool) -> None:
    """Prints what a run did, or would do."""
    to_do = summary.wanted - summary.stored
    lines = [f"{summary.rows:,} rows, {summary.wanted:,} reasons wanted, {summary.stored:,} judged before, in {store}"]
    if summary.contradicted:
        lines.append(f"{summary.contradicted:,} rows have the text of another row and another label: not looked at")
    if dry_run:
        lines.append(f"{to_do:,} to write")
        if summary.estimate is not None:
            most = summary.estimate.upper_bound_usd
            lines.append(
                f"{summary.estimate.to_ask:,} requests at most, {summary.estimate.cached:,} answered before, "
                + ("no price known" if most is None else f"at most ${most:.4f}")
            )
    else:
        lines.append(f"{summary.written:,} written in {summary.seconds:.1f} s")
        lines += [f"  dropped by {name}: {count:,}" for name, count in summary.dropped.most_common()]
        lines += [f"  not written, {why}: {count:,}" for why, count in summary.unwritten.most_common(5)]
        lines.append(f"{summary.kept:,} kept, {summary.rationalised:,} of them rationalised (with sight of the label)")
    Console(highlight=False).print("\n".join(lines), markup=False, soft_wrap=True)


def _rows(
    source: str | list[str], columns: list[str], label_column: str | None, labels: Sequence[str], max_words: int | None
) -> tuple[int, dict[str, str | None], int]:
    """The number of rows, the distinct texts with their labels, and how many rows have another label than the first."""
    gold: dict[str, str | None] = {}
    rows = contradicted = 0
    for file in [source] if isinstance(source, str) else source:
        table = read_table(file)
        if label_column is not None and label_column not in table.columns:
            raise ConfigurationError(
                f"label_column={label_column!r}: {file} has no such column. Its columns: {', '.join(map(str, table.columns))}."
            )
        found = texts_of(table, columns, max_words, file)
        cells = [None] * len(found) if label_column is None else list(table[label_column])
        for row, (text, cell) in enumerate(zip(found, cells, strict=True)):
            label = None if cell is None or cell != cell or not str(cell).strip() else str(cell)
            if label is not None and label not in labels:
                raise DataError(f"{file}, row {row}: the label {label!r} is none of {list(labels)}.")
            if gold.setdefault(text, label) is None:
                gold[text] = label
            contradicted += label is not None and gold[text] != label
        rows += len(found)
    return rows, gold, contradicted


def _keep(
    store: ScoreStore, cards: Sequence[ScorerCard], asked: Sequence[tuple[int, Asked]], made: Made, summary: Reasons
) -> None:
    summary.halt = summary.halt or made.halt
    summary.written += made.written
    summary.rationalised += made.rationalised
    summary.dropped.update(made.dropped)
    for number, card in enumerate(cards):
        places = [place for place, (i, _) in enumerate(asked) if i == number and made.asked[place]]
        kept = [made.reasons[place] for place in places]
        notes = [made.notes[place] for place in places]
        status = [
            Status.SCORED if reason is not None else Status.REFUSED if _was_dropped(note) else Status.UNPARSED
            for reason, note in zip(kept, notes, strict=True)
        ]
        summary.kept += sum(reason is not None for reason in kept)
        if places:
            even = np.full((len(places), len(card.labels)), 1 / len(card.labels), dtype=np.float32)
            store.append(
                card, [asked[place][1].text for place in places], even, np.array(status, dtype=np.uint8), kept, [*notes]
            )
    for reason, note in zip(made.reasons, made.notes, strict=True):
        if reason is None and not _was_dropped(note):
            summary.unwritten[str(note.get("reason", "")).partition(":")[0]] += 1


def _was_dropped(note: dict[str, object]) -> bool:
    return str(note.get("reason", "")).startswith("dropped")
