"""The start of a fusion's head: from what its members said out of sample, before any epoch of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from lf_lightning.calibration import thinned_to
from lf_lightning.heads import Evidence, FusionHead
from lf_lightning.systems.evidence import HeldOut


def start_head(
    head: FusionHead, references: nn.ModuleDict, sides: Sequence[Evidence], seed: int, device: torch.device
) -> HeldOut | None:
    """Starts a head and the reference combinations, and returns what they say held out; None where nobody knows.

    Of the train rows those count that are as if drawn like the validation rows (`calibration.thinned_to`; multi-class).

    Args:
        head: Not trained yet.
        references: Fusion heads by name, which are only fitted here.
        sides: Evidence on rows of the train split, and of the validation split if there is any.
        seed: Of the choice among train rows.
        device: Where they are.
    """
    if len(sides) == 2 and sides[0].labels.ndim == 1:
        sides = [_as_drawn(sides[0], sides[1].labels, seed), sides[1]]
    members, present, labels, vectors = zip(*sides, strict=True)
    representation = torch.cat(vectors) if all(v is not None for v in vectors) else None
    evidence = Evidence(torch.cat(members), torch.cat(present), torch.cat(labels), representation)
    held = head.start(evidence)
    said = start_references(references, evidence, device)
    if held is None or getattr(head, "use_representation", False):
        if len(sides) == 2:  # then calibrators see validation rows, which nothing may have been fitted on
            start_head(head, references, sides[:1], seed, device)
        return None
    rows = HeldOut(*evidence[:3], torch.zeros_like(held), said)
    with torch.no_grad():
        return rows._replace(correction=held - logits_on(head, rows, device))


def _as_drawn(train: Evidence, drawn: Tensor, seed: int) -> Evidence:
    kept = thinned_to(train.labels, drawn, seed)
    if kept.all():
        return train
    rank_zero_info(
        f"Classes are not as frequent in train as in validation rows, so the head starts from {int(kept.sum())} of {len(kept)} "
        "train rows: as many of each class as there would be had they been drawn like validation rows."
    )
    vectors = None if train.representation is None else train.representation[kept]
    return Evidence(train.members[kept], train.present[kept], train.labels[kept], vectors)


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
