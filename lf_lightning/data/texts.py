"""The exact text of each row: what the score key is computed from and what the tokenizer reads."""

from __future__ import annotations

import pandas as pd

from lf_lightning.errors import ConfigurationError, DataError


def texts_of(table: pd.DataFrame, columns: list[str], max_words: int | None, where: str) -> list[str]:
    r"""Returns one text a row: the columns joined with `"\n"`, then its first `max_words` words when that is set.

    Nothing else is changed: no stripping, no normalisation, because scores are found by the SHA-256 of the exact text.
    With `max_words` a text becomes `" ".join(text.split()[:max_words])`.

    Args:
        table: n rows.
        columns: The text columns.
        max_words: Whitespace-separated words to keep, or None for the text as it is.
        where: The split or source, for error messages.

    Raises:
        ConfigurationError: A column is not in the table.
        DataError: A cell is missing or not text; the message gives the row numbers.
    """
    missing = [column for column in columns if column not in table.columns]
    if missing:
        known = ", ".join(map(str, table.columns))
        raise ConfigurationError(f"text_columns: {where} has no column {missing[0]!r}. Its columns: {known}.")
    parts = [list(table[column]) for column in columns]
    for column, cells in zip(columns, parts, strict=True):
        bad = [row for row, cell in enumerate(cells) if not isinstance(cell, str)]
        if bad:
            raise DataError(
                f"{where}: column {column!r} has no text in {len(bad)} rows (row numbers {_some(bad)}; the first holds "
                f"{cells[bad[0]]!r}). Drop or fill those rows first."
            )
    texts = parts[0] if len(parts) == 1 else ["\n".join(row) for row in zip(*parts, strict=True)]
    return texts if max_words is None else [" ".join(text.split(maxsplit=max_words)[:max_words]) for text in texts]


def _some(rows: list[int], most: int = 10) -> str:
    return ", ".join(map(str, rows[:most])) + (", ..." if len(rows) > most else "")
