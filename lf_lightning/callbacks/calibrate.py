"""Fits the calibrators and thresholds, which live in the module, on validation rows only."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lf_lightning.calibration import probabilities
from lf_lightning.contract import RowsData
from lf_lightning.losses import labelled


class FitCalibrators(Callback):
    """Before the fit: each scorer's calibrator. After each validation: the system's, its members' and the decision thresholds.

    So every checkpoint carries calibrators that belong to its weights. Needs `CollectOutputs` before it.
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
        known = labelled(outputs.labels)
        labels = outputs.labels[known]
        with torch.inference_mode(False):
            system.fit_references(outputs)
            system.calibrator.fit(outputs.logits[known], labels)
            for name, calibrator in zip(system.member_names, system.member_calibrators, strict=True):
                if name in outputs.members:
                    calibrator.fit(outputs.members[name][known], labels)
            if system.thresholds is not None:
                calibrated = system.calibrator(outputs.logits[known].to(system.device)).cpu()
                system.thresholds.fit(probabilities(calibrated, "multilabel"), labels)
