"""Logs what the system and its members reach on validation and test rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torchmetrics.functional.classification import (
    binary_f1_score,
    binary_precision,
    binary_recall,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
    multilabel_f1_score,
    multilabel_precision,
    multilabel_recall,
)

from lf_lightning.callbacks.judging import SYSTEM, Figures, Judged, figures_of, judge
from lf_lightning.contract import Split

OF_SYSTEM = ("nll", "accuracy", "macro_f1", "micro_f1", "weighted_f1", "ece", "brier")
OF_MEMBERS = ("accuracy", "macro_f1", "nll", "ece")

_FUNCTIONS: dict[str, dict[str, Any]] = {
    "multiclass": {"f1": multiclass_f1_score, "precision": multiclass_precision, "recall": multiclass_recall},
    "multilabel": {"f1": multilabel_f1_score, "precision": multilabel_precision, "recall": multilabel_recall},
    "binary": {"f1": binary_f1_score, "precision": binary_precision, "recall": binary_recall},
}


class LogMetrics(Callback):
    """Logs nll, accuracy, macro_f1, micro_f1, weighted_f1, ece and brier of validation and test rows, calibrated.

    Names: `test/nll`; members' `test/<member>/accuracy|macro_f1|nll|ece`; labels' `test/f1|precision|recall/<label>`. While a
    fit has no fused opinion yet, the same names hold the encoder's. Macro-F1 counts a class that is neither true nor decided as
    0, as scikit-learn does with all labels named, not like torchmetrics, which leaves it out. Needs `CollectOutputs` and
    `FitCalibrators` before it.

    Args:
        per_label: Also log each label of the validation split, in every epoch; the test split's are always logged.
    """

    def __init__(self, per_label: bool = False) -> None:
        self.per_label = per_label
        self.validation: Figures = {}
        """Figures of the last validation; they travel in checkpoints, so that a later test knows the member that was best."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the validation split."""
        if not trainer.sanity_checking:
            figures = self._log(pl_module, "validation", self.per_label)
            if figures:
                self.validation = figures

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the test split."""
        if not self._log(pl_module, "test", True):
            rank_zero_warn("The test split has no labelled row, so there are no metrics; predictions are written all the same.")

    def state_dict(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {"validation": self.validation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them back."""
        self.validation = state_dict["validation"]

    def _log(self, module: LightningModule, split: Split, per_label: bool) -> Figures:
        judged = judge(module, split)
        figures = {} if judged is None else figures_of(judged)
        if judged is None or not figures:
            return {}
        values = {f"{split}/{metric}": figures[SYSTEM][metric] for metric in OF_SYSTEM}
        members = [name for name in figures if name != SYSTEM]
        for name, key in zip(members, logged_names(members), strict=True):
            values |= {f"{split}/{key}/{metric}": figures[name][metric] for metric in OF_MEMBERS}
        if per_label:
            keys = logged_names(judged.labels)
            for metric, column in label_metrics(judged).items():
                values |= {f"{split}/{metric}/{key}": value for key, value in zip(keys, column, strict=True)}
        # Every rank holds the same values: their maximum is exact, a mean of three would round.
        module.log_dict(values, on_step=False, on_epoch=True, sync_dist=True, reduce_fx="max", batch_size=len(judged.index))
        return figures


def label_metrics(judged: Judged) -> dict[str, list[float]]:
    """Returns `f1`, `precision` and `recall` of the system's decisions, one value for each label, by torchmetrics."""
    made, true = (torch.from_numpy(x[judged.labelled]) for x in (judged.system.decisions, judged.truth))
    k = len(judged.labels)
    if judged.task == "multiclass":
        return {name: f(made, true, num_classes=k, average=None).tolist() for name, f in _FUNCTIONS["multiclass"].items()}
    if k == 1:
        return {name: [float(f(made, true))] for name, f in _FUNCTIONS["binary"].items()}
    return {name: f(made, true, num_labels=k, average=None).tolist() for name, f in _FUNCTIONS["multilabel"].items()}


def logged_names(names: Sequence[str]) -> list[str]:
    """Returns the names as every logger takes them: letters, digits, `_-. ` and `:` stay, the rest becomes `_`; all distinct.

    Example:
        >>> logged_names(["joy", "a/b", "a?b"])
        ['joy', 'a_b', 'a_b-2']
    """
    out: list[str] = []
    for position, name in enumerate(names):
        plain = re.sub(r"[^\w.\- :]", "_", name).strip(". ") or "_"
        while plain in out or (plain != name and plain in names):
            plain = f"{plain}-{position}"
        out.append(plain)
    return out


def last_validation(trainer: Trainer) -> Figures:
    """Returns the figures of the validation of the weights at hand; none if no `LogMetrics` has seen one."""
    logged = next((callback for callback in getattr(trainer, "callbacks", []) if isinstance(callback, LogMetrics)), None)
    return {} if logged is None else logged.validation
