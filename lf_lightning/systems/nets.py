"""The nets of co-training: what they begin from, what they say, and what two say together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the name that PyTorch's own documentation uses)

from lf_lightning.contract import Batch, Split, Task
from lf_lightning.dynamics import agreement, margin
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


class Nets(nn.ModuleList):
    """The nets of a fit, the weights that they begin from, and the vectors of encoders that are frozen.

    Args:
        nets: One or two.
    """

    def __init__(self, nets: Iterable[Net]) -> None:
        super().__init__(nets)
        self.initial: list[dict[str, Tensor]] = []
        """The pretrained weights of each encoder; one entry where both nets have the same."""
        self.kept: dict[tuple[int, Split], Tensor] = {}
        """By encoder and split the vectors (n, d) of its rows, which no step changes."""

    def each(self) -> list[Net]:
        """Returns the nets in order."""
        return cast("list[Net]", list(self))

    def frozen(self) -> list[int]:
        """Returns the numbers of the encoders that are frozen; the second's only where it is another."""
        return [k for k, net in enumerate(self.each()[: len(self.initial)]) if net.encoder.frozen]

    def keep_initial(self, encoders: int) -> None:
        """Keeps the weights of so many encoders; the nets begin from them again and again."""
        self.initial = [{n: v.clone() for n, v in net.encoder.state_dict().items()} for net in self.each()[:encoders]]

    def begin_anew(self, seed: int) -> None:
        """Gives the encoders their pretrained weights, and the classifiers random ones by the seed."""
        for k, net in enumerate(self.each()):
            net.encoder.load_state_dict(self.initial[k % len(self.initial)])
            torch.manual_seed(seed * 100 + k)  # the classifiers are where two nets of one encoder differ at first
            net.classifier.reset_parameters()

    def logits(self, batch: Batch, split: Split | None) -> Tensor:
        """Returns (B, nets, K); see `vectors`."""
        return torch.stack([net(self.vectors(k, batch, split)) for k, net in enumerate(self.each())], 1)

    def vectors(self, k: int, batch: Batch, split: Split | None, rows: Tensor | slice = slice(None)) -> Tensor:
        """Returns the vectors (b, d) of b rows of a batch by net k's encoder; kept ones, if there are any of the split."""
        kept = self.kept.get((k % len(self.initial), split)) if split and self.kept else None
        if kept is not None:
            return kept[batch["index"][rows].cpu()].to(batch["index"].device)
        vectors: Tensor = self.each()[k].encoder(batch["input_ids"][rows], batch["attention_mask"][rows])
        return vectors


def signal_of(logits: Tensor, labels: Tensor, signal: Literal["agreement", "margin"], task: Task) -> Tensor:
    """Returns what the nets' logits (n, nets, K) say of labels, (n, nets): see `dynamics.agreement` and `dynamics.margin`."""
    say, here = (agreement if signal == "agreement" else margin), labels.to(logits.device)
    return torch.stack([say(z, here, task) for z in logits.unbind(1)], 1)


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
