"""The rows of co-training: gold labels, labels from LLMs' scores on unlabelled rows, and the halves of the gold rows."""

from __future__ import annotations

from hashlib import sha256
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (the name that PyTorch's own documentation uses)

from lf_lightning.contract import RowsData, Task
from lf_lightning.dynamics import Dynamics, History
from lf_lightning.errors import ConfigurationError, DataError
from lf_lightning.losses import binary_cross_entropy, cross_entropy, labelled

CoTrainRows = Literal["pool", "gold", "both"]


class TrainRows(NamedTuple):
    """The N rows of a train split.

    Attributes:
        labels: (N,) or (N, K), gold where there is one, else the LLM's; -1, or NaN, at rows with neither. See `dynamics`.
        stated: (N,) in [0, 1], the probability that the LLM gave its label; 1 at gold rows, 0 at rows with neither.
        gold: (g,) rows with a gold label.
        pool: (p,) unlabelled rows with an LLM label.
        half: (N,) int64, the half 0 or 1 of a gold row, of even classes; -1 elsewhere.
        left_out: Unlabelled rows without an LLM label: not scored, or two labels equally probable.
    """

    labels: Tensor
    stated: Tensor
    gold: Tensor
    pool: Tensor
    half: Tensor
    left_out: int

    def chosen(self, kind: CoTrainRows) -> Tensor:
        """Returns rows by kind, ascending."""
        return {"gold": self.gold, "pool": self.pool, "both": torch.cat([self.gold, self.pool]).sort().values}[kind]

    def require(self, pool: bool, gold: bool) -> None:
        """Raises unless there are rows of the kinds that a fit learns from.

        Args:
            pool: Whether it learns from unlabelled rows.
            gold: Whether it learns from labelled rows.

        Raises:
            ConfigurationError: There is none of a kind.
        """
        if pool and not len(self.pool):
            raise ConfigurationError(
                "No unlabelled train row has an LLM label to learn from. Way out: data.keep_unlabelled: true, data.scores with "
                "scores of these rows, and data.labels_per_class or data.labelled_column where every row has a label."
            )
        if gold and not len(self.gold):
            raise ConfigurationError("No train row has a gold label. Way out: weights_epochs: 0 and finetune_epochs: 0.")

    def dynamics(self, history: History, latest: Tensor | None, progress: float, probabilities: Tensor | None) -> Dynamics:
        """Returns what is known of the rows when an epoch begins.

        Args:
            history: What the nets said of the labels so far.
            latest: (N, nets), what they said in the newest epoch; None: nothing.
            progress: Share of the phase that is over, in [0, 1).
            probabilities: See `Dynamics`.
        """
        known = history.confidence
        newest = torch.full_like(known, torch.nan) if latest is None else latest
        return Dynamics(known, history.deviation, newest, self.stated, self.half, progress, self.labels, probabilities)

    def fingerprint(self) -> str:
        """Returns the SHA-256 of labels, stated probabilities and halves, 64 hex digits."""
        digest = sha256()
        for tensor in (self.labels, self.stated, self.half):
            digest.update(tensor.nan_to_num(-1).double().numpy().tobytes())
        return digest.hexdigest()


def train_rows(data: RowsData, task: Task, soft: bool, seed: int) -> TrainRows:
    """Returns the train rows of a data module.

    Several scorers are averaged, those that scored the row. Hard labels: the most probable one (none where two are), or in
    multi-label each with 0.5 at least.

    Args:
        data: Whose unlabelled train rows are kept.
        task: Multi-class or multi-label.
        soft: Whether the LLM's probabilities themselves are the pseudo-labels.
        seed: Fixes the halves.

    Raises:
        DataError: A half of the gold rows would be empty.
    """
    scores, scored, gold_labels = data.scores_and_labels("train")
    is_gold = labelled(gold_labels)
    labels, stated = llm_labels(scores, scored, task, soft)
    if soft and task == "multiclass":
        gold_rows = F.one_hot(gold_labels.clamp(min=0), labels.shape[-1]).to(labels)
    else:
        gold_rows = gold_labels.to(labels.dtype)
    has_label = labelled(labels)
    shape = (slice(None), None) if labels.ndim == 2 else (slice(None),)
    labels = torch.where(is_gold[shape], gold_rows, labels)
    stated = torch.where(is_gold, 1.0, stated)
    gold, pool = is_gold.nonzero().flatten(), (~is_gold & has_label).nonzero().flatten()
    half = torch.full((len(is_gold),), -1)
    if len(gold):
        half[gold] = data.folds(2, seed)[gold]
        if half[gold].min() == half[gold].max():
            raise DataError(f"{len(gold)} gold rows cannot be halved. Way out: two labelled rows at least, better two a class.")
    return TrainRows(labels, stated, gold, pool, half, int((~is_gold & ~has_label).sum()))


def llm_labels(scores: Tensor, scored: Tensor, task: Task, soft: bool) -> tuple[Tensor, Tensor]:
    """Returns the LLM's labels, (n,) or (n, K), -1 or NaN where it gave none, and (n,) their probability, 0 where none.

    Args:
        scores: (n, M, K) probabilities.
        scored: (n, M).
        task: Multi-class or multi-label.
        soft: Whether the probabilities themselves are the labels.
    """
    p = (scores * scored.unsqueeze(-1)).sum(1) / scored.sum(-1, keepdim=True)  # NaN where nobody scored
    if soft:
        labels = p
    elif task == "multilabel":
        labels = (p >= 0.5).float().masked_fill(p.isnan(), torch.nan)
    else:
        labels = hard_labels(p)
    stated = p.amax(-1) if task == "multiclass" else torch.maximum(p, 1 - p).mean(-1)
    return labels, stated.nan_to_num(0.0)


def hard_labels(p: Tensor) -> Tensor:
    """Returns (n,) the most probable of K classes; -1 where two are, or where a row is NaN.

    >>> hard_labels(torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2]]))
    tensor([ 0, -1])
    """
    best, second = p.nan_to_num(0.0).topk(2, dim=-1).values.unbind(-1)
    return p.argmax(-1).masked_fill(best == second, -1)


def row_losses(logits: Tensor, labels: Tensor, class_weight: Tensor | None, task: Task) -> Tensor:
    """Returns the loss of each row (n,), of hard labels or of an LLM's probabilities.

    Args:
        logits: (n, K).
        labels: As of `TrainRows`, of rows that have one.
        class_weight: (K,), or None.
        task: Multi-class or multi-label.
    """
    if task == "multilabel":
        return binary_cross_entropy(logits, labels, class_weight)
    if labels.ndim == 1:
        return cross_entropy(logits, labels, class_weight)
    return F.cross_entropy(logits, labels.to(logits), class_weight, reduction="none")
