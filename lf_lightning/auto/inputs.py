"""Texts and labels from whatever a scikit-learn user holds, and predictions back into the form that the labels came in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from lf_lightning.contract import Task
from lf_lightning.data.texts import texts_of
from lf_lightning.errors import ConfigurationError, DataError

SEPARATOR = "|"
_USUAL_NAMES = ("text", "texts", "content", "message", "review", "sentence")

FORMS = ("labels", "indicator", "lists", "joined")
Form = Literal["labels", "indicator", "lists", "joined"]
"""One label a row; (n, K) of 0 and 1; lists of labels; or labels joined by `|`."""


@dataclass(frozen=True)
class Targets:
    """What a classifier decides among.

    Attributes:
        task: One label a row, or any number.
        classes: (K,) the labels as they came in.
        form: How they came in, and how predictions go out.
    """

    task: Task
    classes: NDArray[Any]
    form: Form

    @property
    def names(self) -> list[str]:
        """The K labels as text, for LLMs and tables."""
        return [str(name) for name in self.classes.tolist()]

    def given_back(self, decisions: NDArray[np.int64]) -> Any:
        """Returns decisions (n,), or multi-label (n, K) of 0 and 1, in the form that the labels came in."""
        if self.form == "labels":
            return self.classes[decisions]
        if self.form == "indicator":
            return decisions
        rows = [self.classes[row.astype(bool)].tolist() for row in decisions]
        return rows if self.form == "lists" else np.array([SEPARATOR.join(row) for row in rows], dtype=object)


def read_texts(X: Any, text_column: str | None, max_words: int | None) -> list[str]:
    """Returns n texts.

    Args:
        X: Data frame, or strings as list, tuple, Series or array of n, (n, 1) allowed.
        text_column: Column of a data frame; None: the one called text, or the only one of strings.
        max_words: Words kept of each text, None for all.

    Raises:
        ConfigurationError: No such column, or something that holds no texts.
        DataError: A text is no string, or there is none.
    """
    if isinstance(X, pd.DataFrame):
        cells = list(X[_text_column(X, text_column)])
    elif isinstance(X, str) or not hasattr(X, "__len__") or isinstance(X, (dict, bytes)):
        raise ConfigurationError(
            f"X is a {type(X).__name__}. Way out: a list of texts, for one text too: predict([text]); or a data frame."
        )
    else:
        values = np.empty(len(X), dtype=object)
        shape: tuple[int, ...] = tuple(np.shape(X)) if hasattr(X, "shape") else (len(X),)
        if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
            raise ConfigurationError(f"X has the shape {shape}; one text a row is (n,). Way out: a list of n strings.")
        values[:] = list(np.ravel(X)) if len(shape) == 2 else list(X)
        cells = values.tolist()
    if not cells:
        raise DataError("X has 0 rows. Way out: at least one text.")
    return texts_of(pd.DataFrame({"text": pd.Series(cells, dtype=object)}), ["text"], max_words, "X")


def read_targets(
    X: Any, y: Any, label_columns: Sequence[Any] | None, label_column: str, multi_label: bool | None
) -> tuple[Targets, NDArray[Any]]:
    """Returns what there is to decide among, and the labels of n rows.

    Args:
        X: The rows; a data frame may hold the labels.
        y: Labels (n,), an (n, K) indicator of 0 and 1 as array or data frame, n lists of labels; None: those in `X`.
        label_columns: The labels in order: names of one-hot columns, or of what `y` holds; one name: the column with labels.
        label_column: Column of `X` with labels, where `label_columns` are none of its columns.
        multi_label: Whether a row may have several labels, or none; None: as the labels show.

    Returns:
        The targets, and (n,) int64 class numbers, -1 where a row of `X` has no label; or (n, K) float32 of 0 and 1, NaN.

    Raises:
        ConfigurationError: No labels, or no such column.
        DataError: A label is missing in `y`, or is none of `label_columns`.
    """
    names = None if label_columns is None else list(label_columns)
    in_table = y is None
    if in_table:
        y, names = _labels_in(X, names, label_column)
    if isinstance(y, pd.DataFrame):
        matrix = y.to_numpy(dtype=object)
        many = (not in_table or not _all_one_hot(matrix)) if multi_label is None else multi_label
        return _of_indicator(matrix, list(y.columns) if names is None else names, many, in_table)
    if _are_lists(y):
        return _of_lists([None if cell is None else list(cell) for cell in y], names, "lists")
    values = y.to_numpy(dtype=object) if isinstance(y, pd.Series) else np.asarray(y)
    if values.ndim == 2 and values.shape[1] > 1:
        check_classification_targets(values)
        return _of_indicator(values, names, multi_label is not False, in_table)
    values = column_or_1d(values, warn=True)
    if multi_label:
        cells = [None if pd.isna(cell) else [part for part in str(cell).split(SEPARATOR) if part] for cell in values]
        return _of_lists(cells, names, "joined")
    return _of_labels(values, names, in_table)


def labelled(encoded: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns (n,) bool, True where a row of `read_targets` has a label."""
    return np.asarray(encoded >= 0 if encoded.ndim == 1 else ~np.isnan(encoded).any(1))


def table_of(texts: Sequence[str], targets: Targets, encoded: NDArray[Any]) -> pd.DataFrame:
    """Returns the columns `text` and `label` that `ScoredTextDataModule` reads; all rows are labelled."""
    names = targets.names
    cells: list[Any] = (
        [names[number] for number in encoded]
        if encoded.ndim == 1
        else [[name for name, given in zip(names, row, strict=True) if given] for row in encoded.tolist()]
    )
    return pd.DataFrame({"text": pd.Series(list(texts), dtype=object), "label": pd.Series(cells, dtype=object)})


def _text_column(table: pd.DataFrame, given: str | None) -> str:
    known = [str(column) for column in table.columns]
    if given is not None:
        if given not in table.columns:
            raise ConfigurationError(f"text_column={given!r}: X has no such column. Its columns: {', '.join(known)}.")
        return given
    usual = [name for name in _USUAL_NAMES if name in table.columns]
    textual = [c for c in table.columns if len(table) and isinstance(table[c].iloc[0], str)]
    if not usual and len(textual) != 1:
        raise ConfigurationError(f"text_column=None, and the column with the texts is not clear. Name it: {', '.join(known)}.")
    return usual[0] if usual else str(textual[0])


def _labels_in(X: Any, names: list[Any] | None, label_column: str) -> tuple[Any, list[Any] | None]:
    if not isinstance(X, pd.DataFrame):
        raise ConfigurationError(
            "AutoFusionClassifier requires y to be passed, but the target y is None. Way out: fit(texts, labels), or a data "
            "frame with a column of labels."
        )
    if names and all(name in X.columns for name in names):
        return (X[names], names) if len(names) > 1 else (X[names[0]], None)
    if label_column not in X.columns:
        known = ", ".join(map(str, X.columns))
        raise ConfigurationError(
            f"X has neither the column label_column={label_column!r} nor all of label_columns={names!r}. Its columns: {known}."
        )
    return X[label_column], names


def _of_labels(values: NDArray[Any], names: list[Any] | None, in_table: bool) -> tuple[Targets, NDArray[Any]]:
    missing = np.array([bool(cell is None or cell is pd.NA or cell != cell) for cell in values], dtype=np.bool_)
    if not in_table:
        assert_all_finite(values, input_name="y")
        if missing.any():
            raise DataError(f"Input y contains NaN or None in {int(missing.sum())} rows. Way out: remove those rows.")
    there = values[~missing]
    if not len(there):
        raise DataError("y has no label. Way out: at least one row of each of two classes.")
    there = np.array(there.tolist()) if there.dtype == object and not isinstance(there[0], str) else there
    classes = _classes_of(there, names)
    check_classification_targets(there)
    numbers = {label: number for number, label in enumerate(classes.tolist())}
    encoded = np.full(len(values), -1, dtype=np.int64)
    encoded[~missing] = [_number(label, numbers) for label in there.tolist()]
    if len(classes) < 2:
        raise DataError(f"y holds one class, {classes.tolist()!r}; there is nothing to tell apart. Way out: a second class.")
    return Targets("multiclass", classes, "labels"), encoded


def _of_indicator(matrix: NDArray[Any], names: list[Any] | None, many: bool, in_table: bool) -> tuple[Targets, NDArray[Any]]:
    values = np.where(pd.isna(matrix), np.nan, matrix).astype(np.float32)
    if not in_table and np.isnan(values).any():
        raise DataError("Input y contains NaN. Way out: remove those rows.")
    unlabelled = np.isnan(values).any(1)
    wrong = ~unlabelled & ~np.isin(values, (0, 1)).all(1)
    if wrong.any():
        raise DataError(f"row {int(wrong.argmax())}: an indicator of labels holds 0 and 1 only.")
    if names is not None and len(names) != values.shape[1]:
        raise ConfigurationError(f"label_columns={names!r} are {len(names)} labels, y has {values.shape[1]} columns.")
    classes = np.arange(values.shape[1]) if names is None else _array(names)
    values[unlabelled] = np.nan
    if many:
        return Targets("multilabel", classes, "indicator"), values
    if (values[~unlabelled].sum(1) != 1).any():
        raise DataError("multi_label=False, but not exactly one label is 1 in each row. Way out: multi_label=True.")
    return Targets("multiclass", classes, "labels"), np.where(unlabelled, -1, np.nan_to_num(values).argmax(1)).astype(np.int64)


def _of_lists(cells: list[list[Any] | None], names: list[Any] | None, form: Form) -> tuple[Targets, NDArray[Any]]:
    there = _array([label for cell in cells for label in cell or ()])
    classes = _classes_of(there, names)
    numbers = {label: number for number, label in enumerate(classes.tolist())}
    encoded = np.zeros((len(cells), len(classes)), dtype=np.float32)
    for row, cell in enumerate(cells):
        if cell is None:
            encoded[row] = np.nan
        for label in cell or ():
            encoded[row, _number(label, numbers)] = 1
    return Targets("multilabel", classes, form), encoded


def _classes_of(labels: NDArray[Any], names: list[Any] | None) -> NDArray[Any]:
    if names is not None and len(names) > 1:
        return _array(names)
    try:
        return np.unique(labels)
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in labels})
        raise DataError(f"y mixes labels of the types {', '.join(kinds)}. Way out: one type.") from error


def _number(label: Any, numbers: dict[Any, int]) -> int:
    if label not in numbers:
        raise DataError(f"y holds the label {label!r}, which is none of label_columns={list(numbers)!r}.")
    return numbers[label]


def _array(values: Sequence[Any]) -> NDArray[Any]:
    found = np.asarray(values)
    return found if found.ndim == 1 and found.dtype.kind not in "US" else np.array(list(values), dtype=object)


def _are_lists(y: Any) -> bool:
    """Whether each row is a list of labels; rows of 0 and 1 of one length are an indicator, as in scikit-learn."""
    if (isinstance(y, np.ndarray) and y.dtype != object) or not hasattr(y, "__len__"):
        return False
    rows = [cell for cell in y if cell is not None]
    if not rows or not all(isinstance(cell, (list, tuple, set, frozenset)) for cell in rows):
        return False
    indicator = len({len(cell) for cell in rows}) == 1 and len(rows) == len(y) and len(rows[0]) > 1
    return not (indicator and all(type(label) in (int, float) and label in (0, 1) for cell in rows for label in cell))


def _all_one_hot(matrix: NDArray[Any]) -> bool:
    known = ~pd.isna(matrix).any(1)
    return bool((matrix[known].astype(np.float32).sum(1) == 1).all())
