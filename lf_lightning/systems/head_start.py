"""The start of a fusion's head: from what its members said out of sample, before any epoch of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from lf_lightning.calibration import share_shift, thinned_to
from lf_lightning.heads import Evidence, FusionHead
from lf_lightning.systems.evidence import HeldOut


def shifted(train: Evidence, drawn: Tensor) -> Evidence:
    """Returns evidence on train rows with the shift that belongs to it where validation rows, of labels `drawn`, are others."""
    shift = share_shift(train.labels, drawn, train.members.shape[-1]) if drawn.ndim == 1 else None
    if shift is None:
        return train
    rank_zero_info(
        "Classes are not as frequent in train as in validation rows. The head is fitted for the shares of validation rows; "
        "calibrators and decisions see as many train rows of each class as if drawn like these."
    )
    return train._replace(shift=shift.expand(len(train.labels), -1))


def start_head(
    head: FusionHead, references: nn.ModuleDict, sides: Sequence[Evidence], seed: int, device: torch.device
) -> HeldOut | None:
    """Starts a head and the reference combinations, and returns what they say held out; None where nobody knows.

    They start from all rows; what is held out has as many train rows of each class as if drawn like the validation rows
    (`calibration.thinned_to`; multi-class).

    Args:
        head: Not trained yet.
        references: Fusion heads by name, which are only fitted here.
        sides: Evidence on rows of the train split, and of the validation split if there is any.
        seed: Of the choice among train rows.
        device: Where they are.
    """
    evidence = _joined(sides)
    held = head.start(evidence)
    said = start_references(references, evidence, device)
    if held is None or getattr(head, "use_representation", False):
        if len(sides) == 2:  # then calibrators see validation rows, which nothing may have been fitted on
            start_head(head, references, sides[:1], seed, device)
        return None
    kept = torch.ones(len(held), dtype=torch.bool)
    if len(sides) == 2 and evidence.labels.ndim == 1:
        kept[: len(sides[0].labels)] = thinned_to(sides[0].labels, sides[1].labels, seed)
    rows = HeldOut(*evidence.of(kept)[:3], torch.zeros_like(held[kept]), said[:, kept])
    with torch.no_grad():
        return rows._replace(correction=held[kept] - logits_on(head, rows, device))


def _joined(sides: Sequence[Evidence]) -> Evidence:
    members, present, labels, vectors, shifts = zip(*sides, strict=True)
    shift = [torch.zeros_like(said[:, 0]) if by is None else by for said, by in zip(members, shifts, strict=True)]
    return Evidence(
        torch.cat(members),
        torch.cat(present),
        torch.cat(labels),
        torch.cat(vectors) if all(v is not None for v in vectors) else None,
        torch.cat(shift) if any(by is not None for by in shifts) else None,
    )


def start_references(references: nn.ModuleDict, evidence: Evidence, device: torch.device) -> Tensor:
    """Fits the reference combinations, and returns their logits (R, n, K) of the evidence, held out.

    Args:
        references: Fusion heads by name.
        evidence: On n rows.
        device: Where they are, and are again.
    """
    vectors = torch.empty(len(evidence.labels), 0)
    held = []
    for module in references.values():
        reference = cast("FusionHead", module)
        started = reference.start(evidence)
        held.append(reference.cpu()(evidence.members, evidence.present, vectors) if started is None else started)
        reference.to(device)
    return torch.stack(held)


@torch.no_grad()
def logits_on(head: FusionHead, rows: HeldOut, device: torch.device) -> Tensor:
    """Returns a head's logits (n, K) of held-out rows, corrected, on the CPU and without dropout."""
    was_training = head.training
    head.eval()
    members, present = rows.members.to(device), rows.present.to(device)
    fused: Tensor = head(members, present, members.new_empty(len(members), 0))
    head.train(was_training)
    return fused.float().cpu() + rows.correction
