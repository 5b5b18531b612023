"""Writes each row's prediction, probabilities and the members' answers to a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lf_lightning.callbacks.judging import SYSTEM, Judged, judge, label_cells, original_rows, texts_of
from lf_lightning.contract import Split
from lf_lightning.results.predictions import decision_column, probability_column, rationale_column, write_table

TableFormat = Literal["csv", "parquet"]

_DIGITS, _DIGITS_OF_MEMBERS = 6, 4


class WritePredictions(Callback):
    """Writes `predictions_test.csv`, `predictions_validation.csv` (of `lf validate`) or `predictions.csv` (of `lf predict`).

    One line a row: its number in the table that it came from, text, true and predicted labels, probabilities `p_<label>`;
    then each member's `predicted_<member>` and `p:<member>:<label>`, and `rationale_<scorer>` where the scores have reasons,
    `rationale_system` where the system gives its own. A CSV cell that a spreadsheet would run as a formula gets a leading
    apostrophe; lone surrogates and NUL are written as escapes. The file is there whole or not at all.

    Args:
        format: csv or parquet (Parquet keeps texts that look like formulas as they are).
        texts: Whether to write the texts and the scorers' reasons.
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
            reasons = _rationales(trainer, module, split, judged) if self.texts else {}
            columns = prediction_columns(judged, original_rows(trainer, split, judged.index), texts, reasons)
            path = Path(trainer.default_root_dir) / f"{stem}.{self.format}"
            write_table(path, columns)
            if split == "predict":
                rank_zero_info(f"{len(judged.index)} rows predicted: {path}")


def prediction_columns(
    judged: Judged,
    rows: Sequence[Any],
    texts: Sequence[str] | None,
    rationales: Mapping[str, Sequence[str | None]] | None = None,
) -> dict[str, list[Any]]:
    """Returns the table's columns by name.

    `label` and `predicted` hold several labels joined by `|`. `label` is left out where no row is labelled; where only some
    are, `labelled` tells them from rows to which no label applies. Probabilities have six significant digits, those of members
    four, and are empty without an opinion.

    Args:
        judged: n rows.
        rows: (n,) their numbers for the reader.
        texts: (n,) or None.
        rationales: By scorer, (n,) its reasons.
    """
    columns: dict[str, list[Any]] = {"row": list(rows)}
    if texts is not None:
        columns["text"] = list(texts)
    if judged.labelled.any():
        columns["label"] = label_cells(judged.truth, judged.labels)
        if not judged.labelled.all():
            columns["labelled"] = judged.labelled.tolist()
    for name, opinion in judged.opinions.items():
        columns[decision_column(name)] = label_cells(opinion.decisions, judged.labels)
        digits = _DIGITS if name == SYSTEM else _DIGITS_OF_MEMBERS
        for k, label in enumerate(judged.labels):
            values = opinion.probabilities[:, k].tolist()
            columns[probability_column(name, label)] = [float(f"{p:.{digits}g}") if isfinite(p) else None for p in values]
    for name, reasons in (rationales or {}).items():
        columns[rationale_column(name)] = [reason or "" for reason in reasons]
    return columns


def _rationales(trainer: Trainer, system: Any, split: Split, judged: Judged) -> dict[str, list[str | None]]:
    reasons: Any = getattr(getattr(trainer, "datamodule", None), "rationales", None)
    found = reasons(split) if callable(reasons) else {}
    by = {name: [column[row] for row in judged.index.tolist()] for name, column in found.items() if name in judged.members}
    own = system.evaluated[split].rationales
    return by if own is None else {SYSTEM: system.rationale_texts(own), **by}
