"""What W&B shows of a test beside the metrics: tables and figures."""

from __future__ import annotations

from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from lf_lightning.callbacks.judging import Judged, judge, original_rows, texts_of
from lf_lightning.callbacks.metrics import last_validation
from lf_lightning.callbacks.plots import figures_of_test
from lf_lightning.callbacks.predictions import prediction_columns
from lf_lightning.metrics import per_label


class LogTables(Callback):
    """Logs to each `WandbLogger` of the trainer, at the end of a test: figures, a table of the labels, a sample of predictions.

    Does nothing without such a logger; every other logger gets the metrics alone, through Lightning.

    Args:
        rows: Number of rows in the table of predictions, drawn at random; 0: no such table.
        texts: Whether that table shows the texts, which then leave this machine.
        seed: Of the draw.
    """

    def __init__(self, rows: int = 200, texts: bool = True, seed: int = 0) -> None:
        self.rows, self.texts, self.seed = rows, texts, seed

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        judged = judge(pl_module, "test") if loggers and trainer.is_global_zero else None
        if judged is None:
            return
        labelled = bool(judged.labelled.any())
        figures = figures_of_test(judged, last_validation(trainer), type(pl_module).__name__) if labelled else {}
        for logger in loggers:
            for name, figure in figures.items():
                figure.canvas.draw()
                pixels = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]  # Agg's
                logger.log_image(f"test/{name}", [pixels])
            if labelled:
                logger.log_table("test/labels", *label_table(judged))
            if self.rows:
                logger.log_table("test/predictions", *self._predictions(trainer, judged))

    def _predictions(self, trainer: Trainer, judged: Judged) -> tuple[list[str], list[list[Any]]]:
        n = len(judged.index)
        chosen = np.sort(np.random.default_rng(self.seed).permutation(n)[: self.rows])
        texts = texts_of(trainer, "test", judged.index) if self.texts else None
        columns = prediction_columns(judged, original_rows(trainer, "test", judged.index), texts)
        return list(columns), [[column[row] for column in columns.values()] for row in chosen.tolist()]


def label_table(judged: Judged) -> tuple[list[str], list[list[Any]]]:
    """Returns the names of the columns and one line for each label: F1, precision, recall and true rows, on labelled rows."""
    made, truth = judged.system.decisions[judged.labelled], judged.truth[judged.labelled]
    columns = per_label(made, truth, len(judged.labels))
    names = ("f1", "precision", "recall", "support")
    lines = [[label, *(columns[name][k].item() for name in names)] for k, label in enumerate(judged.labels)]
    return ["label", *names], lines
