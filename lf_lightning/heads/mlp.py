"""The paper's head."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lf_lightning.contract import Task
from lf_lightning.heads.base import Evidence, FusionHead
from lf_lightning.heads.pool import PooledFusion, flat_opinions


class FusionMLP(FusionHead):
    """A small MLP over the concatenated opinions of the encoder and the scorers (LabelFusion, arXiv 2512.10793).

    With `residual` (ours) the MLP adds to a fitted pool of its members and is zero at first, so that the head begins as good as
    the pool and departs from it only as far as the rows teach; without it, it is the paper's free MLP.

    Args:
        num_labels: K.
        num_members: M + 1.
        dim: Width d of the encoder's vectors.
        task: Multi-class or multi-label.
        hidden: Width of the hidden layers, in order.
        dropout: Share of hidden units dropped in training.
        residual: Add to a fitted pool (true), or learn the logits from nothing (false, the paper).
        use_representation: Show the encoder's vector to the MLP besides the opinions (the paper's variant with embeddings).
    """

    def __init__(
        self,
        num_labels: int,
        num_members: int,
        dim: int,
        task: Task,
        hidden: list[int] = [64],  # noqa: B006  jsonargparse reads it as the default of the YAML; it is not changed
        dropout: float = 0.1,
        residual: bool = True,
        use_representation: bool = False,
    ) -> None:
        super().__init__(num_labels, num_members, dim, task)
        self.use_representation = use_representation
        self.pool = PooledFusion(num_labels, num_members, dim, task) if residual else None
        widths = [num_members * (num_labels + 1) + (dim if use_representation else 0), *hidden]
        layers: list[nn.Module] = []
        for width, following in pairwise(widths):
            layers += [nn.Linear(width, following), nn.GELU(), nn.Dropout(dropout)]
        last = nn.Linear(widths[-1], num_labels)
        if residual:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(*layers, last)

    def forward(
        self, members: Float[Tensor, "b m k"], present: Bool[Tensor, "b m"], representation: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b k"]:
        """See `FusionHead.forward`."""
        inputs = [flat_opinions(members, present), present.to(members.dtype)]
        if self.use_representation:
            inputs.append(representation.to(members.dtype))
        logits: Tensor = self.mlp(torch.cat(inputs, -1))
        return logits if self.pool is None else self.pool(members, present, representation) + logits

    def start(self, evidence: Evidence) -> Tensor | None:
        """Fits the pool."""
        return None if self.pool is None else self.pool.start(evidence)
