"""Which columns of a table are labels, of what task, and what they hold. Imports no torch."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from lf_lightning.data.table_columns import check_columns, described, is_missing, quoted, some
from lf_lightning.errors import ConfigurationError, DataError

Task = Literal["multiclass", "multilabel"]

LABEL_NAMES = ("label", "labels", "class", "category", "target", "topic", "sentiment", "emotion", "emotions", "intent")
SEPARATORS = ("|", "; ", ";", ", ", ",")
MOST_LABELS = 200
LEAST_ROWS_OF_A_LABEL = 2
_FLAGS = {"0", "1", "False", "True", "false", "true", ""}
_TRUE = ("1", "True", "true")


@dataclass(frozen=True)
class Labels:
    """Where the labels lie.

    Attributes:
        task: One label a row, or any number.
        names: The label names: those of a column sorted by code point, those of several columns in their order.
        column: The column, None where there is one for each label.
        columns: One column of 0 and 1 for each label, None where there is one column.
        separator: Between the labels of a cell, None where a cell holds one name or a list.
        cells: For each row the names that it has, None where it is unlabelled.
        rejected: Columns of 0 and 1 that almost all rows have, or hardly one, with the number of rows that have them.
    """

    task: Task
    names: list[str]
    column: str | None
    columns: list[str] | None
    separator: str | None
    cells: list[list[str] | None]
    rejected: dict[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each label."""
        found = Counter(name for cell in self.cells for name in cell or ())
        return {name: found[name] for name in self.names}

    @property
    def unlabelled(self) -> int:
        """Rows without a label cell."""
        return sum(cell is None for cell in self.cells)


def label_columns(
    table: pd.DataFrame, taken: Sequence[str], given: Sequence[str] | None, empty: str | None = None
) -> tuple[Labels, list[str]]:
    """Returns the labels, and what else could be labels.

    Args:
        table: n rows.
        taken: Columns that are something else.
        given: What the user says: one column of names, or several of 0 and 1.
        empty: What an empty multi-label cell says: `none` or `unlabelled`; None where the user has not said it.

    Raises:
        ConfigurationError: There is no such column; or no column looks like labels; or several do, and none has a usual name;
            or a multi-label cell is empty and `empty` is None.
        DataError: What the user named holds no labels.
    """
    if given is not None:
        check_columns(table, given, "--labels")
        return (_of_flags(table, list(given)) if len(given) > 1 else _of_column(table, given[0], empty)), []
    free = [str(column) for column in table.columns if column not in taken]
    flags = [column for column in free if _is_flag(table[column])]
    flags = flags if len(flags) > 2 else []  # two columns of 0 and 1 are as well two questions
    names = [column for column in free if column not in flags and _is_label(table[column])]
    usual = [column for column in names if column.lower() in LABEL_NAMES]
    if len(usual) == 1 or (len(names) == 1 and not flags):
        chosen = usual[0] if len(usual) == 1 else names[0]
        others = [column for column in names if column != chosen]
        return _of_column(table, chosen, empty), others + ([some(flags)] if flags else [])
    if flags and not names:
        return _of_flags(table, flags), []
    if not flags and not names:
        raise ConfigurationError(
            f"No column looks like labels: {described(table, free)}. Way out: --labels COLUMN, or --labels COLUMN COLUMN ... "
            "with a column of 0 and 1 for each label."
        )
    ways = [f"--labels {quoted(column)} ({described(table, [column])})" for column in names]
    if flags:
        ways.append(f"--labels {' '.join(map(quoted, flags))} ({len(flags)} columns of 0 and 1)")
    raise ConfigurationError(f"Several columns look like labels. Way out, one of: {'; or '.join(ways)}.")


def _is_flag(cells: pd.Series[Any]) -> bool:
    found = {_name(cell) for cell in cells if not is_missing(cell)}
    return found <= _FLAGS and bool(found - {""})


def _is_label(cells: pd.Series[Any]) -> bool:
    """Whether there are a few short names, each in several rows; an id, a date or a measure has hardly two rows alike."""
    separator = _separator(cells)
    names = Counter(name for cell in cells for name in _parts(cell, separator))
    if not 2 <= len(names) <= MOST_LABELS or sum(names.values()) < LEAST_ROWS_OF_A_LABEL * len(names):
        return False
    return all(len(name.split()) <= 8 and not re.fullmatch(r"-?\d+\.\d*[1-9]\d*", name) for name in names)


def _of_column(table: pd.DataFrame, column: str, empty: str | None) -> Labels:
    cells = table[column]
    separator = _separator(cells)
    lists = any(isinstance(cell, (list, tuple, np.ndarray)) for cell in cells)
    many = separator is not None or any(len(cell) != 1 for cell in cells if isinstance(cell, (list, tuple, np.ndarray)))
    strings = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
    if strings and sum(cell.strip().startswith("[") and cell.strip().endswith("]") for cell in strings) > len(strings) / 2:
        raise DataError(
            f"column {column!r} holds lists as text, such as {strings[0]!r:.60}. Way out: lists in JSONL or Parquet, or names "
            "joined by |."
        )
    blank = sum(isinstance(cell, str) and not cell for cell in cells) if many and not lists else 0
    if blank and empty is None:
        raise ConfigurationError(
            f"{blank} cells of {column!r} are empty. That can say that no label applies, or that nobody looked. Way out: "
            "--empty none, or --empty unlabelled."
        )
    read: list[list[str] | None] = []
    for cell in cells:
        blank_cell = is_missing(cell) or (isinstance(cell, str) and not cell and not (many and empty == "none"))
        read.append(None if blank_cell else _parts(cell, separator))
    names = sorted({name for row in read for name in row or ()})
    if len(names) < 2:
        raise DataError(f"column {column!r} holds {len(names)} label, {names!r:.60}; a classifier needs two or more.")
    if len(names) > 1000:
        raise DataError(
            f"column {column!r} holds {len(names):,} different values, such as {names[0]!r:.60}: too many for labels. "
            "Way out: --labels with another column."
        )
    if any(not name.strip() for name in names):
        raise DataError(f"column {column!r} holds an empty label name. Way out: correct these cells.")
    return Labels("multilabel" if many else "multiclass", names, column, None, separator, read)


def _of_flags(table: pd.DataFrame, columns: list[str]) -> Labels:
    for column in columns:
        if not _is_flag(table[column]):
            odd = next((cell for cell in table[column] if is_missing(cell) or _name(cell) not in _FLAGS), "")
            raise DataError(
                f"column {column!r} holds {odd!r:.60}, but of several label columns each holds 0, 1 or nothing. "
                "Way out: name one column of label names, or leave this one out."
            )
    counts = {column: sum(_name(cell) in _TRUE for cell in table[column]) for column in columns}
    rejected = {c: n for c, n in counts.items() if min(n, len(table) - n) < LEAST_ROWS_OF_A_LABEL}
    kept = [column for column in columns if column not in rejected]
    if len(kept) < 2:
        raise DataError(f"of the columns of 0 and 1, {some(columns)}, fewer than two differ from row to row.")
    rows = table[kept].itertuples(index=False, name=None)
    cells: list[list[str] | None] = [
        None
        if all(is_missing(cell) or cell == "" for cell in row)
        else [name for name, cell in zip(kept, row, strict=True) if _name(cell) in _TRUE]
        for row in rows
    ]
    single = all(len(cell) == 1 for cell in cells if cell is not None)
    return Labels("multiclass" if single else "multilabel", kept, None, kept, None, cells, rejected)


def _separator(cells: pd.Series[Any]) -> str | None:
    """What joins several names in a cell: where it stands, most parts are parts of other cells too."""
    distinct = {cell for cell in cells if isinstance(cell, str) and cell}
    if not distinct or len(distinct) > 50_000:
        return None
    for separator in SEPARATORS:
        joined = [cell for cell in distinct if separator in cell]
        uses = Counter(part for cell in distinct for part in set(cell.split(separator)))
        parts = {part for cell in joined for part in cell.split(separator)}
        shared = sum(uses[part] > 1 for part in parts)
        if joined and shared > 0.6 * len(parts) and len(uses) <= MOST_LABELS and all(part.strip() for part in parts):
            return separator
    return None


def _parts(cell: Any, separator: str | None) -> list[str]:
    if isinstance(cell, (list, tuple, np.ndarray)):
        return [_name(item) for item in cell]
    if is_missing(cell) or cell == "":
        return []
    name = _name(cell)
    return name.split(separator) if separator else [name]


def _name(cell: Any) -> str:
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return unicodedata.normalize("NFC", str(cell))
