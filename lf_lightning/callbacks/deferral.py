"""Fits the deferral, and keeps what the system says of its validation rows: what plans and guarantees are made of.

A test's record has what calls would have brought on its rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lf_lightning.callbacks.judging import decisions_of
from lf_lightning.contract import Split
from lf_lightning.deferral import Uncertainty, cost_curve
from lf_lightning.losses import labelled


class FitDeferral(Callback):
    """After each validation of a fit's last phase, so that the checkpoint's deferral belongs to its weights.

    Does nothing for a system without `fit_deferral`. Needs `CollectOutputs` and `FitCalibrators` before it.
    """

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fits."""
        system: Any = pl_module
        outputs = system.evaluated.get("validation")
        if trainer.state.fn != "fit" or outputs is None or not hasattr(system, "fit_deferral") or not system.is_selecting:
            return
        with torch.inference_mode(False), torch.no_grad():
            system.fit_deferral(outputs)


@torch.no_grad()
def cost_curves(module: LightningModule, split: Split) -> dict[str, dict[str, list[float]]]:
    """Returns accuracy and macro-F1 over the share of calls, by the fitted deferral and by the least margin first.

    Args:
        module: The system, evaluated on the split; one without a fitted deferral has no curve.
        split: Which.
    """
    system: Any = module
    fitted = getattr(system, "deferral", None)
    outputs = system.evaluated.get(split)
    if fitted is None or not fitted.is_fitted or outputs is None:
        return {}
    known = labelled(outputs.labels)
    if not known.any():
        return {}
    members, present = system.stated(outputs, known)
    stages = system.stages(members, present)
    made = np.stack([decisions_of(p.cpu().double(), system.decision, module.device, system.task).numpy() for p in stages])
    labels = outputs.labels[known].long().numpy()
    margin = Uncertainty(len(system.labels), len(system.scorers), system.task).to(module.device)
    margin.fit(members, present, outputs.labels[known], system.probabilities_of)
    found = {}
    for name, deferral in {type(fitted).__name__: fitted, "least margin first": margin}.items():
        worth = system.worth(deferral, members, present).cpu().double().numpy()
        curve = cost_curve(worth, made, labels, len(system.labels))
        found[name] = {axis: [round(float(v), 6) for v in getattr(curve, axis)] for axis in ("cost", "accuracy", "macro_f1")}
    return found
