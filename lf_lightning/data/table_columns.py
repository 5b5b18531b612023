"""Columns of a table in the words of an error message. Imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lf_lightning.errors import ConfigurationError

_SHOWN = 12


def quoted(word: str) -> str:
    """Returns a word as a shell wants it, on one line."""
    return shlex.quote(word)


def check_columns(table: pd.DataFrame, given: Sequence[str], option: str) -> None:
    """Raises unless the table has the columns that the user gave.

    Raises:
        ConfigurationError: It lacks one.
    """
    for column in given:
        if column not in table.columns:
            known = some(map(str, table.columns))
            raise ConfigurationError(f"{option} {column!r}: there is no such column. Columns: {known}.")


def described(table: pd.DataFrame, columns: Sequence[str]) -> str:
    """Returns columns with how many different values and words they hold."""
    told = []
    for column in columns:
        known = [cell for cell in table[column] if not is_missing(cell)]
        words = np.mean([len(str(cell).split()) for cell in known]) if known else 0.0
        told.append(f"{column!r} ({len(set(map(str, known))):,} different, {words:.1f} words)")
    return ", ".join(told[:_SHOWN]) + (f", ... ({len(told)} in all)" if len(told) > _SHOWN else "")


def some(names: Iterable[str]) -> str:
    """Returns names in quotes, the first few of many."""
    listed = [repr(name) for name in names]
    return ", ".join(listed[:_SHOWN]) + (f", ... ({len(listed)} in all)" if len(listed) > _SHOWN else "")


def is_missing(cell: Any) -> bool:
    """Whether a cell is null or NaN; an empty text is not."""
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, (float, np.floating)) and bool(np.isnan(cell)))
