"""Reasons and labels as tokens: which sequences a layout learns from, and how much each of their tokens counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from lf_lightning.contract import Batch, Outputs
from lf_lightning.errors import ConfigurationError
from lf_lightning.generation import left_padded

Layout = Literal["label", "reason_label", "label_reason", "multitask"]
"""What is learnt to be written behind the text."""


@runtime_checkable
class WritesReasons(Protocol):
    """A system that can write a reason beside its answer."""

    @property
    def explains(self) -> bool:
        """Whether it has learnt to."""
        ...

    def explained(self, batch: Batch) -> Outputs:
        """Returns the outputs with `rationales`."""
        ...

    def rationale_texts(self, rationales: torch.Tensor) -> list[str]:
        """Returns reasons in words."""
        ...


class Pieces(NamedTuple):
    """The token ids of all that is not a text or a reason.

    Attributes:
        labels: Those of each of the K labels; with `end` behind each where one label begins another.
        label_cue: What stands before a label.
        reason_cue: What stands before a reason.
        end: Ends a reason.
        closing: What the tokenizer puts behind every text, which is taken off again; mostly nothing.
    """

    labels: list[list[int]]
    label_cue: list[int]
    reason_cue: list[int]
    end: int
    closing: list[int]

    @classmethod
    def of(cls, tokenizer: Any, labels: Sequence[str], label_cue: str, reason_cue: str) -> Pieces:
        """Returns the pieces, each tokenised for itself, a label with a space before it.

        So the classifier reads the very tokens that it learnt; merges across a cue, which begins on a new line, do not occur.

        Raises:
            ConfigurationError: A cue or a label has no tokens, two labels have the same, or nothing ends a text.
        """
        ends = [token for token in (tokenizer.eos_token_id, tokenizer.sep_token_id) if token is not None]
        cues = _ids(tokenizer, [label_cue, reason_cue])
        names = _ids(tokenizer, [f" {label}" for label in labels])
        if not ends or not all(cues) or not all(names) or cues[0] == cues[1]:
            raise ConfigurationError(
                f"label_cue={label_cue!r}, reason_cue={reason_cue!r}, labels={list(labels)!r}: each needs a token, the cues "
                "differ, and the tokenizer needs a token that ends a text (eos_token). Way out: other words, or another model."
            )
        for k, own in enumerate(names):
            if own in names[:k]:
                raise ConfigurationError(
                    f"labels {labels[names.index(own)]!r} and {labels[k]!r} are the same tokens for this model, so no "
                    "likelihood tells them apart. Way out: other label names, or a model that knows their words."
                )
        if any(a is not b and b[: len(a)] == a for a in names for b in names):
            names = [[*own, ends[0]] for own in names]
        bare, whole = _ids(tokenizer, ["a"])[0], tokenizer(["a"])["input_ids"][0]
        tail = len(whole) - next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0) - len(bare)
        return cls(names, cues[0], cues[1], ends[0], whole[len(whole) - tail :] if tail > 0 else [])

    def plain(self) -> dict[str, Any]:
        """Returns them as plain values, for a checkpoint."""
        return dict(self._asdict())

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Pieces:
        """Returns what `plain` gave.

        Raises:
            ConfigurationError: They are not that.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigurationError(f"token_ids: {error}. Way out: leave it out; it is for checkpoints.") from error

    def text(self, ids: Sequence[int]) -> list[int]:
        """Returns the tokens of a text without the tokenizer's closing ones."""
        tail = len(self.closing)
        return list(ids[: len(ids) - tail]) if tail and list(ids[-tail:]) == self.closing else list(ids)


def reason_ids(tokenizer: Any, reasons: Sequence[str | None], most: int) -> list[list[int]]:
    """Returns the token ids of reasons, on one line each and cut to `most` tokens; none for None and for white space.

    Args:
        tokenizer: The model's.
        reasons: n texts.
        most: Tokens.
    """
    evened = [" ".join((reason or "").split()) for reason in reasons]
    return [ids[:most] if text else [] for text, ids in zip(evened, _ids(tokenizer, [f" {t}" for t in evened]), strict=True)]


class Row(NamedTuple):
    """A row's tokens, and the weight in the loss of each that is to be learnt.

    Attributes:
        ids: All tokens.
        label_weights: For each token, its weight as part of the label; 0 elsewhere.
        reason_weights: The same for the reason and its end.
    """

    ids: list[int]
    label_weights: list[float]
    reason_weights: list[float]


def sequences(
    layout: Layout, pieces: Pieces, text: Sequence[int], label: int, reason: Sequence[int], label_share: float | None
) -> list[Row]:
    """Returns what a row is learnt from: one sequence, or two in `multitask`. The text and the cues are never learnt.

    * `label`: text, cue, **label**;
    * `reason_label`: text, cue, **reason**, cue, **label**;
    * `label_reason`: text, cue, **label**, cue, **reason**;
    * `multitask`: text, cue, **label**, and text, cue, **reason**.

    A row's loss is `label_share` times the label's negative log-likelihood, summed over its tokens, and the rest times the mean
    over the reason's tokens. So labels of one token and of several count the same where the first decides, and a long reason
    does not drown the label. A row without a reason is one of the layout `label`.

    Args:
        layout: Which.
        pieces: The other tokens.
        text: The text's tokens.
        label: Number of the label.
        reason: The reason's tokens; none for no reason.
        label_share: In (0, 1]; None: the mean over all learnt tokens instead, as language models are trained.
    """
    name, why = pieces.labels[label], [*reason, pieces.end]
    if layout == "label" or not len(reason):
        return [_joined([(text, 0, 0), (pieces.label_cue, 0, 0), (name, 1, 0)])]
    of_label, of_reason = (label_share, (1 - label_share) / len(why)) if label_share else (1 / (len(name) + len(why)),) * 2
    said = [(pieces.label_cue, 0.0, 0.0), (name, of_label, 0.0)]
    told = [(pieces.reason_cue, 0.0, 0.0), (why, 0.0, of_reason)]
    if layout == "multitask":
        return [_joined([(text, 0, 0), *said]), _joined([(text, 0, 0), *told])]
    return [_joined([(text, 0, 0), *(told + said if layout == "reason_label" else said + told)])]


class Learnt(NamedTuple):
    """S sequences of a batch that all end in the last column, and the weights of their last C tokens.

    Attributes:
        ids: (S, T) int64.
        mask: (S, T) int64, 1 on real tokens.
        label_weights: (S, C) float32.
        reason_weights: (S, C) float32.
    """

    ids: Tensor
    mask: Tensor
    label_weights: Tensor
    reason_weights: Tensor


def collate(rows: Sequence[Row]) -> Learnt:
    """Returns the batch of S sequences, at least one."""
    ids, mask = left_padded([row.ids for row in rows])
    first = min(ids.shape[1] - len(row.ids) + _first_learnt(row) for row in rows)
    columns = ids.shape[1] - first
    weights = [
        torch.tensor([([0.0] * columns + list(each))[-columns:] for each in kind])
        for kind in ([row.label_weights for row in rows], [row.reason_weights for row in rows])
    ]
    return Learnt(ids, mask, weights[0], weights[1])


def _first_learnt(row: Row) -> int:
    return next(i for i, weights in enumerate(zip(row.label_weights, row.reason_weights, strict=True)) if any(weights))


def _joined(parts: Sequence[tuple[Sequence[int], float, float]]) -> Row:
    ids: list[int] = []
    labels: list[float] = []
    reasons: list[float] = []
    for tokens, label, reason in parts:
        ids += tokens
        labels += [label] * len(tokens)
        reasons += [reason] * len(tokens)
    return Row(ids, labels, reasons)


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    found: list[list[int]] = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return found
