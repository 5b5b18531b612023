"""Fits the calibrators and decision rules, which live in the module, on rows that the module was not fitted on."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lf_lightning.calibration import Calibrator, PlugInDecision, Thresholds, probabilities
from lf_lightning.contract import RowsData
from lf_lightning.losses import labelled


class FitCalibrators(Callback):
    """Before the fit: each scorer's calibrator. After each validation: the system's, its members' and their decision rules.

    So every checkpoint carries calibrators that belong to its weights. They are fitted on the validation rows, or on what the
    system has held out itself (`held_out`: train rows, too, as in scikit-learn's `CalibratedClassifierCV(ensemble=False)`).
    Needs `CollectOutputs` before it.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fits the scorers' calibrators on the validation rows' scores, which no weight depends on."""
        data = getattr(trainer, "datamodule", None)
        fit_scores = getattr(pl_module, "fit_score_calibrators", None)
        if fit_scores is not None and isinstance(data, RowsData):
            fit_scores(*data.scores_and_labels("validation"))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fits what turns this epoch's logits into probabilities and decisions."""
        system: Any = pl_module
        outputs = system.evaluated.get("validation")
        if trainer.state.fn != "fit" or outputs is None:
            return
        with torch.inference_mode(False):
            system.fit_references(outputs)
            rows = system.held_out() or outputs
            known = labelled(rows.labels)
            labels = rows.labels[known]
            system.calibrator.fit(rows.logits[known], labels)
            for position, name in enumerate(system.member_names):
                if name in rows.members:
                    logits = rows.members[name][known]
                    system.member_calibrators[position].fit(logits, labels)
                    if system.member_decisions:
                        _fit_decision(system.member_decisions[position], system.member_calibrators[position], logits, labels)
            if system.decision is not None:
                _fit_decision(system.decision, system.calibrator, rows.logits[known], labels)


def _fit_decision(rule: PlugInDecision | Thresholds, calibrator: Calibrator, logits: Tensor, labels: Tensor) -> None:
    seen = logits.isfinite().all(-1)
    device = next(rule.buffers()).device
    rule.fit(probabilities(calibrator(logits[seen].to(device)).cpu(), calibrator.task), labels[seen])
