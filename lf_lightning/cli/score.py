"""`lf score`: texts into a score store, each once, in shards, so that a stopped run goes on where it was."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

from lf_lightning.cli.function_arguments import arguments_of
from lf_lightning.cli.score_display import LOW_LABEL_MASS, Summary, progress_bar, show_estimate, show_summary
from lf_lightning.data.tables import read_table
from lf_lightning.data.texts import texts_of
from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.base import NOT_ASKED, Advance, Scorer, Scores
from lf_lightning.scoring.engines.local import score_here
from lf_lightning.scoring.sample import balanced_sample
from lf_lightning.store import ScorerCard, ScoreStore, Status
from lf_lightning.store.manifest import FILE

TOO_MANY_FAILED = 1


def score_table(
    scorer: Scorer,
    source: str | list[str],
    store: str,
    text_columns: list[str] | None = None,
    where: dict[str, str] | None = None,
    max_words: int | None = None,
    sample: int | None = None,
    sample_by: str | None = None,
    seed: int = 0,
    limit: int | None = None,
    shard_size: int | None = None,
    max_failed: float = 0.05,
    max_cost: float | None = None,
    dry_run: bool = False,
    reparse: bool = False,
    engine: Literal["local", "ray"] = "local",
    workers: int = 2,
) -> Summary:
    """Scores the texts of a table that are not in the store yet. Equal texts are asked about once.

    Args:
        scorer: Who scores.
        source: File, folder of <label>/*.txt, package:NAME/PATH or hf:NAME:SPLIT; or a list of them.
        store: Folder of the score store, made if it is new.
        text_columns: Columns that make the text, joined by a newline (default: text).
        where: Only rows with these values, as column: value.
        max_words: Keep the first so many words of a text; say the same in the data of the training.
        sample: Take so many distinct texts, chosen by content and seed.
        sample_by: Column, such as the label, of whose values the sample takes equally many texts.
        seed: Seed of the sample.
        limit: Stop after so many texts that are not in the store yet.
        shard_size: Texts between two writes: what a killed run loses at most, unless replies are kept; none: the scorer's own.
        max_failed: Share of texts without a score above which the exit code is 1.
        max_cost: USD that the replies of this response cache, earlier runs included, may cost; it is never passed.
        dry_run: Show how many texts there are to score, and what they would cost; nothing is asked or written.
        reparse: Read the replies that are there once more, ask for nothing, and let what is read replace the scorer's rows.
        engine: local (this process), or ray (several, here or on the cluster that RAY_ADDRESS names), with the same scores.
        workers: Processes that score, of engine ray; they share the limits of the scorer's gateway, its cache and max_cost.

    Returns:
        The counts. What was answered before the scorer had to stop (`halt`) is in the store.

    Raises:
        ConfigurationError: A column is not there, no row is left, a number is out of range, or the store holds a scorer of
            this name in another mode.
    """
    numbers = (limit, sample, max_words, shard_size, workers)
    if not 0 <= max_failed <= 1 or any(number is not None and number < 1 for number in numbers):
        raise ConfigurationError(
            "workers, shard_size, limit, sample and max_words must be at least 1, max_failed within 0 and 1."
        )
    if dry_run and reparse:
        raise ConfigurationError("dry_run and reparse both ask for nothing; give one of them.")
    scorer.max_cost, scorer.offline = max_cost, dry_run or reparse
    texts = _texts(source, text_columns or ["text"], where or {}, max_words, sample, sample_by, seed)
    if reparse and scorer.estimate([]) is None:
        raise ConfigurationError(f"reparse: scorer {scorer.card.name!r} keeps no replies. Score into a new store instead.")
    distinct = list(dict.fromkeys(texts))
    if dry_run and not (Path(store) / FILE).exists():
        return Summary(scorer.card, len(texts), len(distinct), 0, estimate=scorer.estimate(distinct[:limit]))
    target = ScoreStore(store, create=not dry_run)
    _refuse_another_mode(target, scorer.card)
    todo = distinct if reparse else [texts[position] for position in target.missing(scorer.card, texts)]
    summary = Summary(scorer.card, rows=len(texts), texts=len(distinct), stored=len(distinct) - len(todo))
    todo = todo[:limit]
    if dry_run:
        summary.estimate = scorer.estimate(todo)
        return summary
    start = time.perf_counter()
    with progress_bar() as progress:
        task = progress.add_task(scorer.card.name, total=len(todo), said="")
        scorer.watch = lambda said: progress.update(task, said=said)
        with closing(_parts(engine, scorer, todo, shard_size, workers, lambda done: progress.advance(task, done))) as parts:
            for shard, scores in parts:
                _keep_shard(target, scorer.card, shard, scores, summary, reparse)
        scorer.watch = None
    if reparse:
        _discard_older_readings(target, scorer.card)
    summary.seconds = time.perf_counter() - start
    return summary


def main(argv: Sequence[str]) -> int:
    """`lf score --config FILE [--dry-run] [--max_cost USD] [--reparse] [any argument of score_table]`.

    Args:
        argv: The words after `lf score`.

    Returns:
        0; 1 where a larger share of the texts than `max_failed` got no score; the error's own code where the run was halted.
    """
    what = "Score texts into a score store, each text once."
    arguments = arguments_of(score_table, argv, "lf score", what, ["dry_run", "reparse"])
    summary = score_table(**arguments)
    if arguments["dry_run"]:
        show_estimate(summary, arguments["store"], arguments["max_cost"])
        return 0
    show_summary(summary, arguments["store"])
    again = "Run the same command again: it asks only for what has no answer yet." if not arguments["reparse"] else ""
    if summary.halt is not None:
        print(f"lf score stopped: {summary.halt} {again}", file=sys.stderr)
        return summary.halt.exit_code
    if summary.failed > arguments["max_failed"] * summary.tried:
        print(
            f"lf score: {summary.failed} of {summary.tried} texts got no score, more than "
            f"max_failed={arguments['max_failed']}. "
            f"What was scored is in the store. {again if summary.by_status[Status.ABSENT] else ''}",
            file=sys.stderr,
        )
        return TOO_MANY_FAILED
    if summary.by_status[Status.ABSENT]:
        print(f"lf score: {summary.by_status[Status.ABSENT]} texts got no answer. {again}", file=sys.stderr)
    return 0


def _texts(
    source: str | list[str],
    columns: list[str],
    where: dict[str, str],
    max_words: int | None,
    sample: int | None,
    sample_by: str | None,
    seed: int,
) -> list[str]:
    texts: list[str] = []
    groups: list[str] = []
    for name in [source] if isinstance(source, str) else source:
        table = read_table(name)
        for column in (*where, *([sample_by] if sample_by else [])):
            if column not in table.columns:
                raise ConfigurationError(f"{name} has no column {column!r}. Its columns: {', '.join(map(str, table.columns))}.")
        for column, value in where.items():
            table = table[table[column].astype(str) == value].reset_index(drop=True)
        texts += texts_of(table, columns, max_words, name)
        groups += table[sample_by].astype(str).tolist() if sample_by else [""] * len(table)
    if not texts:
        raise ConfigurationError(f"source={source!r}: no rows are left with where={where!r}.")
    if sample is None:
        return texts
    return [texts[position] for position in balanced_sample(texts, groups, sample, seed)]


def _parts(
    engine: Literal["local", "ray"],
    scorer: Scorer,
    texts: list[str],
    shard_size: int | None,
    workers: int,
    advance: Advance,
) -> Generator[tuple[list[str], Scores], None, None]:
    if engine == "local":
        return score_here(scorer, texts, shard_size, advance)
    from lf_lightning.scoring.engines.ray import score_on_ray

    return score_on_ray(scorer, texts, shard_size, workers, advance)


def _keep_shard(store: ScoreStore, card: ScorerCard, texts: list[str], scores: Scores, summary: Summary, replace: bool) -> None:
    summary.halt = summary.halt or scores.halt
    notes = scores.usage or [None] * len(texts)
    for position, note in enumerate(notes):
        status = Status(int(scores.status[position]))
        reason = "" if note is None else str(note.get("reason", ""))
        if status == Status.ABSENT and reason == NOT_ASKED:
            continue
        summary.by_status[status] += 1
        if status != Status.SCORED and reason:
            summary.reasons[reason.partition(":")[0]] += 1
        summary.cut += note is not None and "dropped_tokens" in note
        summary.low_mass += status == Status.SCORED and note is not None and note.get("label_mass", 1.0) < LOW_LABEL_MASS
    summary.changed += scores.keep_in(store, card, texts, replace=replace)


def _refuse_another_mode(store: ScoreStore, card: ScorerCard) -> None:
    """A calibrator is fitted to one mode, so one name never stands for two."""
    for other in store.cards.values():
        before, now = other.spec.get("mode"), card.spec.get("mode")
        if other.name == card.name and before != now:
            raise ConfigurationError(
                f"name={card.name!r}: the store {str(store.path)!r} holds a scorer of this name in mode {before!r}, and "
                f"this is mode {now!r}. Way out: another name, or another store."
            )


def _discard_older_readings(store: ScoreStore, card: ScorerCard) -> None:
    """Removes what older versions of the reader made of the same replies, where all of it was read anew."""
    if card.fingerprint not in store.cards:
        return
    now = set(store.table(card.fingerprint).keys.tolist())
    for fingerprint, other in store.cards.items():
        if fingerprint == card.fingerprint or (other.name, other.labels) != (card.name, card.labels):
            continue
        same = {**other.spec, "parser": 0} == {**card.spec, "parser": 0}
        if same and set(store.table(fingerprint).keys.tolist()) <= now:
            store.discard(fingerprint)
