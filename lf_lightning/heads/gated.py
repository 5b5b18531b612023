"""A mixture of members whose weights depend on the text."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lf_lightning.contract import Task
from lf_lightning.heads.base import Evidence, FusionHead
from lf_lightning.heads.functional import fit_mixture, inverse_temperatures, linear_average, normalise
from lf_lightning.heads.pool import flat_opinions


class GatedFusion(FusionHead):
    """A mixture of the members' probabilities whose weights a small gate gives text by text (Jacobs et al., 1991).

    `trust` shows the weights: how far each member is believed, row by row.

    Args:
        num_labels: K.
        num_members: M + 1.
        dim: Width d of the encoder's vectors.
        task: Multi-class or multi-label.
        hidden: Width of the gate's hidden layer.
        use_representation: Let the gate see the encoder's vector besides the opinions.
    """

    def __init__(
        self, num_labels: int, num_members: int, dim: int, task: Task, hidden: int = 32, use_representation: bool = False
    ) -> None:
        super().__init__(num_labels, num_members, dim, task)
        self.use_representation = use_representation
        self.sharpness = nn.Parameter(torch.ones(num_members))
        last = nn.Linear(hidden, num_members)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        width = num_members * num_labels + (dim if use_representation else 0)
        self.gate = nn.Sequential(nn.Linear(width, hidden), nn.GELU())
        self.shares = last

    def trust(
        self, members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"], representation: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b m"]:
        """Returns the mixture weights (B, M + 1): they sum to 1 and are 0 for a member without an opinion."""
        inputs = flat_opinions(members, present)
        if self.use_representation:
            inputs = torch.cat([inputs, representation.to(inputs.dtype)], -1)
        trust: Tensor = self.shares(self.gate(inputs)).masked_fill(~present, float("-inf")).softmax(-1)
        return trust

    def forward(
        self, members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"], representation: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b k"]:
        """See `FusionHead.forward`."""
        sharpened = members * self.sharpness.clamp(min=0.05).view(1, -1, 1)
        return linear_average(sharpened, present, self.task, self.trust(members, present, representation))

    def start(self, evidence: Evidence) -> None:
        """Starts at constant weights: each member calibrated, and trusted as far as it is right."""
        present, labels = evidence.present, evidence.labels
        alone = inverse_temperatures(evidence.members, present, labels, self.task, shift=evidence.shift)
        calibrated = evidence._replace(
            members=normalise(evidence.members * alone.to(evidence.members).view(1, -1, 1), self.task)
        )
        share = fit_mixture(calibrated.shifted(), present, labels, self.task).clamp(0.02, 0.98)
        with torch.no_grad():
            self.sharpness.copy_(alone)
            self.shares.bias.copy_(share.log())
