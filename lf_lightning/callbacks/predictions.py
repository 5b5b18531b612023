"""Writes each row's prediction, probabilities and the members' answers to a table."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lf_lightning.callbacks.judging import Judged, judge, label_cells, original_rows, texts_of
from lf_lightning.contract import Split
from lf_lightning.results import atomic_file

TableFormat = Literal["csv", "parquet"]

_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")


class WritePredictions(Callback):
    """Writes `predictions_test.csv`, `predictions_validation.csv` (of `lf validate`) or `predictions.csv` (of `lf predict`).

    One line a row: its number in the table that it came from, text, true and predicted labels, probabilities `p_<label>`, and
    `predicted_<member>`. A CSV cell that a spreadsheet would run as a formula gets a leading apostrophe; lone surrogates and
    NUL are written as escapes. The file is there whole or not at all.

    Args:
        format: csv or parquet (Parquet keeps texts that look like formulas as they are).
        texts: Whether to write the texts.
    """

    def __init__(self, format: TableFormat = "csv", texts: bool = True) -> None:
        self.format: TableFormat = format
        self.texts = texts

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the validation split, unless a fit is under way."""
        if trainer.state.fn == "validate":
            self._write(trainer, pl_module, "validation", "predictions_validation")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the test split."""
        self._write(trainer, pl_module, "test", "predictions_test")

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the rows to predict."""
        self._write(trainer, pl_module, "predict", "predictions")

    def _write(self, trainer: Trainer, module: LightningModule, split: Split, stem: str) -> None:
        judged = judge(module, split) if trainer.is_global_zero else None
        if judged is not None:
            texts = texts_of(trainer, split, judged.index) if self.texts else None
            columns = prediction_columns(judged, original_rows(trainer, split, judged.index), texts)
            path = Path(trainer.default_root_dir) / f"{stem}.{self.format}"
            write_table(path, columns)
            if split == "predict":
                rank_zero_info(f"{len(judged.index)} rows predicted: {path}")


def prediction_columns(judged: Judged, rows: Sequence[Any], texts: Sequence[str] | None) -> dict[str, list[Any]]:
    """Returns the table's columns by name.

    `label` and `predicted` hold several labels joined by `|`. `label` is left out where no row is labelled; where only some
    are, `labelled` tells them from rows to which no label applies.

    Args:
        judged: n rows.
        rows: (n,) their numbers for the reader.
        texts: (n,) or None.
    """
    columns: dict[str, list[Any]] = {"row": list(rows)}
    if texts is not None:
        columns["text"] = list(texts)
    if judged.labelled.any():
        columns["label"] = label_cells(judged.truth, judged.labels)
        if not judged.labelled.all():
            columns["labelled"] = judged.labelled.tolist()
    columns["predicted"] = label_cells(judged.system.decisions, judged.labels)
    for k, label in enumerate(judged.labels):
        columns[f"p_{label}"] = judged.system.probabilities[:, k].round(6).tolist()
    for name, opinion in judged.members.items():
        columns[f"predicted_{name}"] = label_cells(opinion.decisions, judged.labels)
    return columns


def write_table(path: Path, columns: dict[str, list[Any]]) -> None:
    """Writes columns of equal length as CSV, or as Parquet if `path` ends so; in one step, UTF-8.

    Raises:
        OSError: The file cannot be written.
    """
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        # A lone surrogate is no UTF-8, which Parquet's texts are.
        plain = {
            _encodable(name): [_encodable(v) if isinstance(v, str) else v for v in cells] for name, cells in columns.items()
        }
        with atomic_file(path) as file:
            pq.write_table(pa.table(plain), file)
        return
    with atomic_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        # Every text is quoted: not all versions of the csv module quote a bare carriage return by themselves.
        writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow([defuse(name) for name in columns])
        writer.writerows(_lines(list(columns.values())))
        text.detach()  # flushes, and leaves the file open


def defuse(cell: str) -> str:
    """Returns a cell that no spreadsheet runs and every encoder takes: see `WritePredictions`. Plain numbers stay as they are.

    Example:
        >>> defuse("=1+2"), defuse("-1"), defuse("plain")
        ("'=1+2", '-1', 'plain')
    """
    cell = _encodable(cell)
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) and not _NUMBER.fullmatch(cell) else cell


def _encodable(cell: str) -> str:
    return _UNWRITABLE.sub(lambda found: ascii(found[0])[1:-1], cell)


def _lines(columns: list[list[Any]]) -> Iterator[list[Any]]:
    for line in zip(*columns, strict=True):
        yield [defuse(cell) if isinstance(cell, str) else cell for cell in line]
