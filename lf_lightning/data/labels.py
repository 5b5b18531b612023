"""Labels: from the cells of a table to class numbers, with an error for every cell that says something else."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError, DataError

EmptyLabel = Literal["error", "none", "unlabelled"]


def check_names(names: Sequence[str], argument: str = "labels") -> list[str]:
    """Returns label names that are distinct, also after Unicode NFC normalisation, and not empty.

    Args:
        names: The names in order.
        argument: The argument that held them, for error messages.

    Raises:
        ConfigurationError: A name is not text, is empty or comes twice, or there are fewer than two.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str):
            raise ConfigurationError(f'{argument}: {name!r} is of type {type(name).__name__}. Quote it in the YAML: "{name}".')
        if not name.strip():
            raise ConfigurationError(f"{argument}: {name!r} is an empty name. Give every label a name.")
        normal = unicodedata.normalize("NFC", name)
        if normal in seen:
            same = "comes twice" if seen[normal] == name else f"and {seen[normal]!r} are two Unicode forms of one name"
            raise ConfigurationError(f"{argument}: {name!r} {same}. Keep one of them.")
        seen[normal] = name
    if len(seen) < 2:
        raise ConfigurationError(f"{argument}: a classifier needs at least two labels, these are {list(names)!r}.")
    return list(names)


class LabelReader:
    """Reads the labels of a table; the same rules for every split.

    A cell that is missing (null, NaN), and an empty cell of a multi-class column, says that the row is unlabelled. Names are
    compared after Unicode NFC normalisation; whole numbers and booleans stand for their text (`1`, `1.0`: "1"; `True`: "True").

    Args:
        task: `multiclass`, or `multilabel` with any number of labels a row.
        column: Column with one name, several joined by `separator`, or a list of names.
        columns: One column of 0 and 1 for each label, in the order of the labels; replaces `column`.
        separator: Between the names in a cell, multi-label only.
        empty_label: What an empty cell of a multi-label column says: no label applies (`none`) or nobody looked (`unlabelled`).

    Raises:
        ConfigurationError: The separator is empty, or a name of `columns` is empty or comes twice.
    """

    def __init__(
        self,
        task: Task,
        column: str | None = "label",
        columns: Sequence[str] | None = None,
        separator: str = "|",
        empty_label: EmptyLabel = "error",
    ) -> None:
        if not separator:
            raise ConfigurationError("label_separator='' cannot separate labels. Give at least one character.")
        self.task = task
        self.column = column
        self.columns = None if columns is None else check_names(columns, "label_columns")
        self.separator = separator
        self.empty_label = empty_label

    def names_in(self, table: pd.DataFrame, where: str) -> list[str]:
        """Returns the names that occur, sorted by code point (NFC); with `columns`, those in their order.

        Raises:
            ConfigurationError: The table has no such column, or fewer than two names.
        """
        if self.columns is not None:
            return list(self.columns)
        found = {unicodedata.normalize("NFC", name) for cell in self._cells(table, where) for name in cell or ()}
        return check_names(sorted(found), f"{where}, column {self.column!r}")

    def encode(self, table: pd.DataFrame, names: Sequence[str], where: str) -> NDArray[Any]:
        """Returns the labels of n rows.

        Args:
            table: n rows.
            names: The K label names in order.
            where: The split, for error messages.

        Returns:
            Multi-class: (n,) int64 in 0..K-1, -1 where unlabelled. Multi-label: (n, K) float32, 0 or 1, NaN where unlabelled.

        Raises:
            ConfigurationError: The table has no such column.
            DataError: A cell holds an unknown label, or is none that a label column may hold; with row numbers.
        """
        if self.columns is not None:
            return self._encode_columns(table, where)
        numbers = {unicodedata.normalize("NFC", name): number for number, name in enumerate(names)}
        if self.task == "multilabel" and any(self.separator in name for name in names) and self._has_text(table):
            bad = next(name for name in names if self.separator in name)
            raise ConfigurationError(f"label_separator={self.separator!r} is part of the label {bad!r}. Choose another.")
        cells = self._cells(table, where)
        unknown: dict[str, list[int]] = {}
        found = [
            None if cell is None else [_number(name, numbers, unknown, row) for name in cell] for row, cell in enumerate(cells)
        ]
        if unknown:
            raise DataError(_unknown_message(unknown, names, where))
        if self.task == "multiclass":
            return np.array([-1 if cell is None else cell[0] for cell in found], dtype=np.int64)
        encoded = np.zeros((len(found), len(names)), dtype=np.float32)
        for row, cell in enumerate(found):
            encoded[row, slice(None) if cell is None else cell] = np.nan if cell is None else 1.0
        return encoded

    def _cells(self, table: pd.DataFrame, where: str) -> list[list[str] | None]:
        """Returns the names in each row, None where unlabelled."""
        if self.column is None or self.column not in table.columns:
            raise ConfigurationError(
                f"label_column={self.column!r}: {where} has no such column. Its columns: {', '.join(map(str, table.columns))}."
            )
        return [self._names_of(cell, row, where) for row, cell in enumerate(table[self.column])]

    def _names_of(self, cell: Any, row: int, where: str) -> list[str] | None:
        if _is_missing(cell):
            return None
        if isinstance(cell, (list, tuple, set, frozenset, np.ndarray)):
            names = [_name(item) for item in cell]
            if self.task == "multiclass" and len(names) != 1:
                raise DataError(f"{where}, row {row}: {names!r} is not one label. Way out: task: multilabel.")
        elif self.task == "multiclass" or not isinstance(cell, str):
            names = [_name(cell)]
            if names == [""]:
                return None
        elif cell == "":
            if self.empty_label == "error":
                raise DataError(
                    f"{where}, row {row}: the cell of {self.column!r} is empty. That can say that no label applies, or that "
                    "the row is unlabelled. Way out: empty_label: none, or empty_label: unlabelled."
                )
            return [] if self.empty_label == "none" else None
        else:
            names = cell.split(self.separator)
        if any(not name.strip() for name in names):
            raise DataError(f"{where}, row {row}: {cell!r} in {self.column!r} has an empty label name. Correct that cell.")
        return names

    def _has_text(self, table: pd.DataFrame) -> bool:
        return self.column in table.columns and any(isinstance(cell, str) for cell in table[self.column])

    def _encode_columns(self, table: pd.DataFrame, where: str) -> NDArray[Any]:
        columns = self.columns or []
        missing = [column for column in columns if column not in table.columns]
        if missing:
            raise ConfigurationError(f"label_columns: {where} has no column {missing[0]!r}.")
        encoded = np.stack([zero_one(table[column], column, where) for column in columns], axis=1)
        blank = np.isnan(encoded)
        partly = np.flatnonzero(blank.any(axis=1) & ~blank.all(axis=1))
        if len(partly):
            raise DataError(f"{where}, row {partly[0]}: some of label_columns are empty, others not ({len(partly)} such rows).")
        if self.task == "multilabel":
            return encoded
        labelled = ~blank.any(axis=1)
        wrong = np.flatnonzero(labelled & (np.nan_to_num(encoded).sum(axis=1) != 1))
        if len(wrong):
            raise DataError(f"{where}, row {wrong[0]}: not exactly one of label_columns is 1. Way out: task: multilabel.")
        return np.where(labelled, np.nan_to_num(encoded).argmax(axis=1), -1).astype(np.int64)


def labelled_rows(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns (n,) bool, True where a row of encoded labels is labelled."""
    rows: NDArray[np.bool_] = labels >= 0 if labels.ndim == 1 else ~np.isnan(labels[:, :1]).any(axis=1)
    return rows


def class_counts(labels: NDArray[Any], num_labels: int) -> NDArray[np.int64]:
    """Returns (K,) int64, the labelled rows of each class (multi-label: with each label)."""
    kept = labels[labelled_rows(labels)]
    if labels.ndim == 1:
        return np.bincount(kept, minlength=num_labels).astype(np.int64)
    counts: NDArray[np.int64] = kept.sum(axis=0, dtype=np.float64).astype(np.int64)
    return counts


def _is_missing(cell: Any) -> bool:
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, (float, np.floating)) and bool(np.isnan(cell)))


def _name(cell: Any) -> str:
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return str(cell)


def _number(name: str, numbers: dict[str, int], unknown: dict[str, list[int]], row: int) -> int:
    number = numbers.get(name, -1)
    if number < 0:
        number = numbers.get(unicodedata.normalize("NFC", name), -1)
        if number < 0:
            unknown.setdefault(name, []).append(row)
    return number


def _unknown_message(unknown: dict[str, list[int]], names: Sequence[str], where: str) -> str:
    name, rows = next(iter(unknown.items()))
    near = get_close_matches(name, names, n=1)
    also = f" Also unknown: {', '.join(map(repr, list(unknown)[1:6]))}." if len(unknown) > 1 else ""
    return (
        f"{where}: unknown label {name!r} in {len(rows)} rows (first: row {rows[0]})."
        + (f" Nearest known label: {near[0]!r}." if near else "")
        + f"{also} Known: {', '.join(map(repr, list(names)[:20]))}{', ...' if len(names) > 20 else ''}. "
        "Way out: correct the cell, or add the name to `labels`."
    )


_ZERO_ONE = {"0": 0.0, "1": 1.0, "False": 0.0, "True": 1.0, "false": 0.0, "true": 1.0, "": np.nan}


def zero_one(cells: Iterable[Any], column: str, where: str) -> NDArray[np.float32]:
    """Returns (n,) float32: the cells of a column of 0 and 1, NaN where a cell is empty.

    Raises:
        DataError: A cell holds something else.
    """
    values = np.empty(len(list(cells)), dtype=np.float32)
    for row, cell in enumerate(cells):
        value = np.nan if _is_missing(cell) else _ZERO_ONE.get(_name(cell))
        if value is None:
            raise DataError(f"{where}, row {row}: column {column!r} holds {cell!r}. One-hot columns hold 0, 1 or nothing.")
        values[row] = value
    return values
