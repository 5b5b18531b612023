"""Labels that an experiment must not see: taken out of the train table before anything reads them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lf_lightning.data.labels import LabelReader, zero_one
from lf_lightning.errors import ConfigurationError, DataError


def without_hidden_labels(table: pd.DataFrame, marks: str, reader: LabelReader) -> pd.DataFrame:
    """Returns the table with empty label cells in the rows that are not marked 1. Hidden cells are not looked at.

    Args:
        table: n rows.
        marks: Name of a column of 0 and 1.
        reader: Names the label column, or columns.

    Raises:
        ConfigurationError: There is no such column, or it is a label column itself.
        DataError: It holds something else, or marks no row.
    """
    named = reader.columns or ([] if reader.column is None else [reader.column])
    columns = [column for column in named if column in table.columns]
    if marks not in table.columns or marks in columns:
        raise ConfigurationError(
            f"labelled_column={marks!r}: train has no such column beside its labels. Its columns: "
            f"{', '.join(map(str, table.columns))}."
        )
    marked = zero_one(table[marks], marks, "train") == 1
    if not marked.any():
        raise DataError(f"labelled_column={marks!r}: no train row is marked 1. Way out: another column, or none.")
    shown = table.copy(deep=False)
    for column in columns:
        cells = np.full(len(table), None, dtype=object)
        cells[marked] = table[column].to_numpy(dtype=object)[marked]
        shown[column] = pd.Series(cells, index=table.index, dtype=object)
    return shown
