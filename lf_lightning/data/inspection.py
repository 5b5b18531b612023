"""What a table holds: which columns are the text, which says the split, and how long and how often texts are. No torch.

A column is taken only where there is one candidate, or one with the usual name; otherwise all candidates are named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lf_lightning.data.table_columns import check_columns, described, quoted
from lf_lightning.errors import ConfigurationError, DataError

SPLIT_NAMES = ("split", "set", "fold", "partition", "subset")
SPLITS = {
    "train": "train",
    "training": "train",
    "dev": "validation",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def text_columns(table: pd.DataFrame, taken: Sequence[str], given: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Returns the text columns, and the other candidates.

    Args:
        table: n rows.
        taken: Columns that are something else.
        given: What the user says.

    Raises:
        ConfigurationError: There is no such column; or none looks like a text; or several do, and none is called `text`.
    """
    if given is not None:
        check_columns(table, given, "--text")
        return list(given), []
    free = [str(column) for column in table.columns if column not in taken]
    found = [column for column in free if _is_text(table[column])]
    if "text" in free and (not found or "text" in found):
        return ["text"], [column for column in found if column != "text"]
    if len(found) == 1:
        return found, []
    if not found:
        raise ConfigurationError(f"No column looks like a text: {described(table, free)}. Way out: --text COLUMN.")
    raise ConfigurationError(
        f"Several columns look like texts: {described(table, found)}. Way out: --text {quoted(found[0])}; or several, to be "
        f"joined by a newline: --text {' '.join(map(quoted, found))}."
    )


def split_column(table: pd.DataFrame, taken: Sequence[str]) -> str | None:
    """Returns the column that says which rows are for training, validation and test, or None."""
    for column in table.columns:
        if column not in taken and str(column).lower() in SPLIT_NAMES:
            said = {str(cell).lower() for cell in table[column].unique()}
            if said <= SPLITS.keys() and "train" in {SPLITS[name] for name in said}:
                return str(column)
    return None


def token_quantile(texts: Sequence[str], share: float = 0.95) -> int:
    """Returns an estimate of how many tokens the longest texts have, all but 1 - `share` of them.

    A word is taken for 1.3 tokens and 4 ASCII characters for one, whichever gives more; any other character for one, and 2 are
    added for the marks at begin and end. English has about 1.2 to 1.4 tokens a word.
    """
    if not texts:
        return 2
    estimates = []
    for text in texts:
        plain = sum(character.isascii() for character in text)
        estimates.append(max(1.3 * len(text.split()), plain / 4 + len(text) - plain) + 2)
    return math.ceil(float(np.quantile(estimates, share)))


def duplicates(texts: Sequence[str], cells: Sequence[list[str] | None]) -> tuple[int, int]:
    """Returns how many rows have a text that came before, white space aside; and how many of them have other labels than it."""
    first: dict[str, list[str] | None] = {}
    count = other = 0
    for text, cell in zip(texts, cells, strict=True):
        key = " ".join(text.split())
        if key in first:
            count += 1
            known = first[key]
            other += cell is not None and known is not None and set(cell) != set(known)
        if first.get(key) is None:
            first[key] = cell
    return count, other


def joined_texts(table: pd.DataFrame, columns: Sequence[str], where: str) -> list[str]:
    """Returns one text a row, several columns joined by a newline.

    Raises:
        DataError: A cell is not text.
    """
    for column in columns:
        bad = [row for row, cell in enumerate(table[column]) if not isinstance(cell, str)]
        if bad:
            raise DataError(
                f"{where}: column {column!r} has no text in {len(bad)} rows (first: row {bad[0]}, which holds "
                f"{table[column].iloc[bad[0]]!r:.60}). Way out: drop or fill those rows first."
            )
    return ["\n".join(cells) for cells in zip(*(table[column] for column in columns), strict=True)]


def _is_text(cells: pd.Series[Any]) -> bool:
    """Whether most cells are strings of several words, and most of them differ."""
    known = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
    if len(known) < len(cells) / 2 or not known:
        return False
    words = float(np.mean([len(cell.split()) for cell in known]))
    dense = float(np.mean([sum(not character.isascii() for character in cell) for cell in known]))
    return (words >= 2.5 or dense >= 6) and len(set(known)) > len(known) / 2
