"""Few-shot examples of a prompt: fixed or random ones of a pool of labelled rows; never the text that is scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError
from lf_lightning.packaged import locate
from lf_lightning.scoring.sample import balanced_sample

_PREFIX = 24
"""Characters, spaces apart, in which a cut text must agree with a whole one to be taken for its beginning."""


@dataclass(frozen=True)
class Example:
    """A labelled text: its words as a prompt shows them, its label names, and the whole text."""

    text: str
    labels: tuple[str, ...]
    whole: str


class Examples(ABC):
    """Chooses examples for a text from the rows of a table, which must be training rows.

    A text is never its own example, nor is a row that begins with it or that it begins with (texts are cut, case and spaces
    differ). The choice depends on the text and the pool, not on the other texts that are scored.

    Args:
        table: CSV, TSV, JSONL or Parquet file, or package:NAME/PATH of one; its rows must be training rows.
        count: How many examples a prompt gets.
        text_column: Column of the texts.
        label_column: Column of the labels.
        where: Only rows with these values, as column: value; such as split: train.
        separator: What parts the labels of a cell in a multi-label task.
        balanced: Equally many of each label, as far as count goes.
        seed: Seed of the choice.
        max_words: Keep the first so many words of an example.

    Raises:
        ConfigurationError: `count` or `max_words` is below 1.
    """

    def __init__(
        self,
        table: str,
        count: int = 8,
        text_column: str = "text",
        label_column: str = "label",
        where: dict[str, str] | None = None,
        separator: str = "|",
        balanced: bool = True,
        seed: int = 0,
        max_words: int = 100,
    ) -> None:
        if count < 1 or max_words < 1:
            raise ConfigurationError(f"examples: count={count} and max_words={max_words} must be at least 1.")
        self.table, self.count, self.text_column, self.label_column = table, count, text_column, label_column
        self.where, self.separator, self.balanced = dict(where or {}), separator, balanced
        self.seed, self.max_words = seed, max_words

        self.labels: tuple[str, ...] = ()
        self.task: Task = "multiclass"

    @abstractmethod
    def choose(self, text: str) -> list[Example]:
        """Returns the examples for a text, in the order to show them.

        Args:
            text: The text that is scored, before it is cut.

        Raises:
            ConfigurationError: The table cannot be read, or its labels are others.
        """

    def bind(self, labels: Sequence[str], task: Task) -> None:
        """Tells the labels, among which those of the pool must be, and the task. Reads nothing yet."""
        self.labels, self.task = tuple(labels), task

    @property
    def spec(self) -> dict[str, Any]:
        """Plain values that name the pool by its content, and the way of choosing."""
        digest = sha256()
        for example in self.pool:
            digest.update(
                "\x1f".join((example.text, example.whole, *example.labels)).encode("utf-8", "surrogatepass") + b"\x1e"
            )
        return {
            "selector": type(self).__name__,
            "count": self.count,
            "balanced": self.balanced,
            "seed": self.seed,
            "pool": len(self.pool),
            "pool_sha256": digest.hexdigest(),
        }

    @cached_property
    def pool(self) -> list[Example]:
        """The distinct labelled rows of the table, the first of equal texts.

        Raises:
            ConfigurationError: As `choose`.
        """
        found = []
        for text, cell in self._rows():
            names = [name.strip() for name in cell.split(self.separator)] if self.task == "multilabel" else [cell]
            names = [name for name in names if name]
            if any(name not in self.labels for name in names) or (self.task == "multiclass" and not names):
                raise ConfigurationError(
                    f"examples: {self.table} labels {text[:40]!r} as {cell!r}; the labels are {list(self.labels)[:10]}. "
                    "Rename them in the table, or choose rows with where."
                )
            shown = " ".join(text.split(maxsplit=self.max_words)[: self.max_words]).encode("utf-8", "replace").decode("utf-8")
            found.append(Example(shown, tuple(names), text))
        return found

    def excluded(self, text: str) -> frozenset[int]:
        """Returns the positions in the pool of the text itself, whole or cut."""
        same = _plain(text)
        return frozenset(
            place
            for place in self._by_start.get(same[:_PREFIX], ())
            if (row := _plain(self.pool[place].whole)) == same
            or (min(len(row), len(same)) >= _PREFIX and (row.startswith(same) or same.startswith(row)))
        )

    def _rows(self) -> list[tuple[str, str]]:
        table = _read(self.table)
        for column in (self.text_column, self.label_column, *self.where):
            if column not in table.columns:
                raise ConfigurationError(
                    f"examples: {self.table} has no column {column!r}. Its columns: {', '.join(map(str, table.columns))}."
                )
        for column, value in self.where.items():
            table = table[table[column].astype(str) == value]
        rows: dict[str, str] = {}
        for text, label in zip(table[self.text_column], table[self.label_column], strict=True):
            if isinstance(text, str) and text.strip():
                rows.setdefault(text, str(label))
        if len(rows) <= self.count:
            raise ConfigurationError(
                f"examples: {self.table} has {len(rows)} rows with where={self.where!r}; count={self.count} needs more than "
                "that, as no text is its own example."
            )
        return list(rows.items())

    @cached_property
    def _by_start(self) -> Mapping[str, list[int]]:
        places: dict[str, list[int]] = {}
        for place, example in enumerate(self.pool):
            places.setdefault(_plain(example.whole)[:_PREFIX], []).append(place)
        return places


class FixedExamples(Examples):
    """The same examples for every text, chosen once by content and seed; a text that is one of them goes without it.

    The prompts begin alike, so that providers bill part of them at their lower rate.
    """

    def choose(self, text: str) -> list[Example]:
        """Returns the fixed examples, less the text itself."""
        without = self.excluded(text)
        return [self.pool[place] for place in self._chosen if place not in without]

    @cached_property
    def _chosen(self) -> list[int]:
        groups = [example.labels[0] if self.balanced and example.labels else "" for example in self.pool]
        return balanced_sample([example.whole for example in self.pool], groups, self.count, self.seed)


class RandomExamples(Examples):
    """Other examples for each text, drawn by the text and the seed, so that no one choice of them colours all scores."""

    def choose(self, text: str) -> list[Example]:
        """Returns drawn examples, in an order that is drawn too."""
        without = self.excluded(text)
        draw = _Draw(f"{self.seed}:{text}")
        groups = [[place for place in group if place not in without] for group in self._groups]
        groups = draw.sample([group for group in groups if group], len(groups))
        chosen: list[int] = []
        for rank, group in enumerate(groups):
            share = -(-(self.count - len(chosen)) // (len(groups) - rank))
            chosen += draw.sample(group, share)
        return [self.pool[place] for place in draw.sample(chosen, len(chosen))]

    @cached_property
    def _groups(self) -> list[list[int]]:
        return by_label(self.pool, self.balanced)


class _Draw:
    """Random choices from a SHA-256 over a seed, which no release of a library changes."""

    def __init__(self, seed: str) -> None:
        self._seed = sha256(seed.encode("utf-8", "surrogatepass")).digest()
        self._turn = 0

    def sample(self, items: Sequence[Any], size: int) -> list[Any]:
        """Returns `size` of the items without repetition, in drawn order; all of them if they are fewer."""
        rest = list(items)
        chosen = []
        for _ in range(min(size, len(rest))):
            self._turn += 1
            digest = sha256(self._seed + self._turn.to_bytes(8, "big")).digest()
            place = int.from_bytes(digest[:8], "big") % len(rest)
            rest[place], rest[-1] = rest[-1], rest[place]
            chosen.append(rest.pop())
        return chosen


def by_label(pool: Sequence[Example], balanced: bool) -> list[list[int]]:
    """Returns positions in the pool by first label; all in one group where it is not to be balanced."""
    groups: dict[str, list[int]] = {}
    for place, example in enumerate(pool):
        groups.setdefault(example.labels[0] if balanced and example.labels else "", []).append(place)
    return [groups[label] for label in sorted(groups)]


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _read(source: str) -> pd.DataFrame:
    path = Path(locate(source))
    readers = {
        ".csv": lambda: pd.read_csv(path, dtype=str, keep_default_na=False),
        ".tsv": lambda: pd.read_csv(path, dtype=str, keep_default_na=False, sep="\t"),
        ".jsonl": lambda: pd.read_json(path, lines=True, dtype=False),
        ".parquet": lambda: pd.read_parquet(path),
    }
    if path.suffix not in readers:
        raise ConfigurationError(f"examples: table={source!r} has none of the formats {', '.join(readers)}.")
    try:
        return readers[path.suffix]()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"examples: table={source!r} cannot be read: {error}.") from error
