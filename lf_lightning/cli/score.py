"""`lf score`: texts into a score store, each once, in shards, so that a stopped run goes on where it was."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from lf_lightning.cli import configs
from lf_lightning.cli.import_limits import limit_imports
from lf_lightning.cli.secret_check import refuse_secrets
from lf_lightning.data.tables import read_table
from lf_lightning.data.texts import texts_of
from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.base import Advance, Scorer
from lf_lightning.scoring.sample import balanced_sample
from lf_lightning.store import ScorerCard, ScoreStore, Status

TOO_MANY_FAILED = 1


@dataclass
class Summary:
    """What a run of `lf score` found and did.

    Attributes:
        card: The scorer's.
        rows: Rows of the source that were chosen, equal texts included.
        texts: Distinct texts among them.
        stored: Texts that were in the store before.
        by_status: How many of the others ended in each status; `ABSENT`: the scorer had no answer, and none was written.
        cut: Texts that were longer than the scorer reads.
        seconds: Time for the others, loading the model included.
    """

    card: ScorerCard
    rows: int
    texts: int
    stored: int
    by_status: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    cut: int = 0
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        """Texts that were tried now and have no score."""
        return sum(self.by_status.values()) - self.by_status[Status.SCORED]


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
    shard_size: int = 500,
    max_failed: float = 0.05,
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
        shard_size: Texts between two writes: what a killed run loses at most.
        max_failed: Share of texts without a score above which the exit code is 1.

    Returns:
        The counts.

    Raises:
        ConfigurationError: A column is not there, no row is left, or a number is out of range.
    """
    if (
        shard_size < 1
        or not 0 <= max_failed <= 1
        or any(number is not None and number < 1 for number in (limit, sample, max_words))
    ):
        raise ConfigurationError("shard_size, limit, sample and max_words must be at least 1, max_failed within 0 and 1.")
    texts = _texts(source, text_columns or ["text"], where or {}, max_words, sample, sample_by, seed)
    target = ScoreStore(store, create=True)
    missing = [texts[position] for position in target.missing(scorer.card, texts)]
    distinct = len(set(texts))
    summary = Summary(scorer.card, rows=len(texts), texts=distinct, stored=distinct - len(missing))
    todo = missing[:limit]
    start = time.perf_counter()
    with _progress() as progress:
        task = progress.add_task(scorer.card.name, total=len(todo))
        for first in range(0, len(todo), shard_size):
            _score_shard(target, scorer, todo[first : first + shard_size], summary, lambda done: progress.advance(task, done))
    summary.seconds = time.perf_counter() - start
    return summary


def main(argv: Sequence[str]) -> int:
    """`lf score --config FILE [--limit N] [--store PATH] [any argument of score_table]`.

    Args:
        argv: The words after `lf score`.

    Returns:
        0, or 1 where a larger share of the texts than `max_failed` got no score.
    """
    limit_imports()
    parser = ArgumentParser(prog="lf score", description="Score texts into a score store, each text once.", allow_abbrev=False)
    parser.add_argument("--config", action="config", help="A YAML file, or a packaged config by name.")
    parser.add_function_arguments(score_table, fail_untyped=True, sub_configs=False)
    words, _ = configs.resolve(["--help" if word == "--help-all" else word for word in argv])
    given = parser.parse_args(words)
    refuse_secrets("the config", parser.dump(given, skip_validation=True))
    arguments = parser.instantiate(given).as_dict()
    arguments.pop("config")
    summary = score_table(**arguments)
    _show(summary, arguments["store"])
    tried = sum(summary.by_status.values())
    if summary.failed > arguments["max_failed"] * tried:
        print(
            f"lf score: {summary.failed} of {tried} texts got no score, more than max_failed={arguments['max_failed']}. "
            "What was scored is in the store.",
            file=sys.stderr,
        )
        return TOO_MANY_FAILED
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


def _score_shard(store: ScoreStore, scorer: Scorer, texts: list[str], summary: Summary, advance: Advance) -> None:
    scores = scorer.score(texts, advance)
    for status in Status:
        summary.by_status[status] += int((scores.status == status).sum())
    summary.cut += sum(note is not None and "dropped_tokens" in note for note in scores.usage or [])
    kept = [position for position, status in enumerate(scores.status) if status != Status.ABSENT]
    if kept:
        store.append(
            scorer.card,
            [texts[position] for position in kept],
            scores.probabilities[kept],
            scores.status[kept],
            scores.rationales and [scores.rationales[position] for position in kept],
            scores.usage and [scores.usage[position] for position in kept],
        )


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True))


def _show(summary: Summary, store: str) -> None:
    tried = sum(summary.by_status.values())
    table = Table(title=f"{summary.card.name} → {store}", show_header=False)
    rows = {
        "rows": summary.rows,
        "distinct texts": summary.texts,
        "already in the store": summary.stored,
        "scored": summary.by_status[Status.SCORED],
        "refused": summary.by_status[Status.REFUSED],
        "unparsed": summary.by_status[Status.UNPARSED],
        "no answer": summary.by_status[Status.ABSENT],
        "left for another run": summary.texts - summary.stored - tried + summary.by_status[Status.ABSENT],
        "cut to the longest that is read": summary.cut,
    }
    for name, count in rows.items():
        table.add_row(name, f"{count:,}")
    table.add_row("seconds", f"{summary.seconds:.1f}")
    if tried:
        table.add_row("texts per second", f"{tried / max(summary.seconds, 1e-9):.1f}")
    table.add_row("fingerprint", summary.card.fingerprint[:12])
    Console().print(table)
