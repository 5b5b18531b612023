"""Fitting a fusion's deferral, and keeping what it says of its validation rows with none, some and all scorers asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lf_lightning.calibration import probabilities
from lf_lightning.contract import Outputs
from lf_lightning.losses import labelled
from lf_lightning.systems.evidence import HeldOut

if TYPE_CHECKING:
    from lf_lightning.systems.fusion import FusionLightningModule


def fit_deferral(fusion: FusionLightningModule, outputs: Outputs) -> None:
    """Fits on what nothing was fitted on, see `FusionLightningModule.fit_deferral`.

    The fusion's own opinion of the validation rows is the held-out one, as far as it is known. A head that also reads the
    encoder's vectors has no deferral.

    Args:
        fusion: Its calibrators are fitted.
        outputs: Of the validation rows that were served, all of them but for `limit_val_batches`.
    """
    known = labelled(outputs.labels)
    kept = fusion.validation_rows
    rows = kept.chosen(int(known.sum()))
    if not len(rows) or getattr(fusion.head, "use_representation", False):
        return
    labels = outputs.labels[known]
    held = fusion.held_out() if fusion.head is not None else None
    final = outputs.logits[known] if held is None else _of_validation(fusion, held.logits, outputs.index[known])
    last = probabilities(fusion.calibrator(final[rows].to(fusion.device)), fusion.task)
    if fusion.deferral is None:
        kept.keep(last[None], labels[rows], last.new_empty(len(rows), 0))
        return
    members, present = fusion.stated(outputs, known)
    evidence = fusion.evidence.held_out or HeldOut(members, present, labels, last, last)
    device = fusion.device
    fusion.deferral.fit(
        evidence.members.to(device), evidence.present.to(device), evidence.labels.to(device), fusion.probabilities_of
    )
    members, present = members[rows], present[rows]
    stages = fusion.stages(members, present)[:-1]
    kept.keep(torch.cat([stages, last[None]]), labels[rows], fusion.worth(fusion.deferral, members, present))


def _of_validation(fusion: FusionLightningModule, held: Tensor, index: Tensor) -> Tensor:
    """Of held-out logits, whose last rows are the labelled validation rows, those of validation rows `index`."""
    every = labelled(fusion.rows_data.scores_and_labels("validation")[2])
    place = every.cumsum(0) - 1
    return held[len(held) - int(every.sum()) :][place[index]]
