"""One net of a pair, and what two nets say together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the name that PyTorch's own documentation uses)

from lf_lightning.contract import Task
from lf_lightning.encoders import TextEncoder
from lf_lightning.errors import ConfigurationError


class Net(nn.Module):
    """An encoder with a linear classifier.

    Args:
        encoder: The encoder.
        labels: K.
        dropout: Share of the pooled vector's units dropped in training.
    """

    def __init__(self, encoder: TextEncoder, labels: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(encoder.dim, labels)

    def forward(self, vectors: Tensor) -> Tensor:
        """Returns the logits (B, K), float32, of the encoder's vectors (B, d)."""
        logits: Tensor = self.classifier(self.dropout(vectors))
        return logits.float()


def probabilities_of(logits: Tensor, task: Task) -> Tensor:
    """Returns probabilities of the shape of the logits (..., K)."""
    return logits.softmax(-1) if task == "multiclass" else logits.sigmoid()


def logits_of_mean(logits: Tensor, task: Task) -> Tensor:
    """Returns (B, K), the log (multi-label: log-odds) of the mean over nets of the probabilities of logits (B, nets, K)."""
    if task == "multiclass":
        return logits.log_softmax(-1).logsumexp(1) - math.log(logits.shape[1])
    return F.logsigmoid(logits).logsumexp(1) - F.logsigmoid(-logits).logsumexp(1)


def share_alike(logits: Tensor, task: Task) -> Tensor:
    """Returns the share of rows (multi-label: cells) for which the two nets of (B, 2, K) decide alike."""
    decided = logits.argmax(-1) if task == "multiclass" else logits > 0
    return (decided[:, 0] == decided[:, 1]).float().mean()


def check_vocabularies(nets: Sequence[Net], names: Sequence[str]) -> None:
    """Raises unless the nets' encoders have equally many tokens.

    Raises:
        ConfigurationError: They have not.
    """
    sizes = [net.encoder.plain_config["vocab_size"] for net in nets]
    if len(set(sizes)) > 1:
        raise ConfigurationError(
            f"second_encoder={names[1]!r} has {sizes[1]} tokens, the encoder {names[0]!r} has {sizes[0]}: batches are "
            "tokenised once. Way out: an encoder of the same tokenizer."
        )


def let_ddp_rest_nets(strategy: Any) -> None:
    """Tells DDP that a net may rest in a batch without rows for it: else it waits for the gradients of the net's weights.

    Raises:
        ConfigurationError: It was told the contrary.
    """
    if isinstance(strategy, DDPStrategy) and not strategy._ddp_kwargs.setdefault("find_unused_parameters", True):
        raise ConfigurationError(
            "find_unused_parameters=False: a net may have no row in a batch. "
            "Way out: trainer.strategy: ddp_find_unused_parameters_true."
        )
