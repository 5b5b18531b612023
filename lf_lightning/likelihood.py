"""How likely a causal language model finds each of K continuations of a prefix: log P(label | text), never a parsed reply.

The prefix is encoded once. The continuations are packed behind it as a tree (shared beginnings once, the last token of each
never needed as input), and an attention mask lets every token see the prefix and its own branch only. So K labels of one token
cost no more than the text alone, and the figures equal those of K separate passes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

Tokenize = Callable[[list[str]], list[list[int]]]
"""Texts to token ids, special tokens at the start included, none at the end."""


class Candidates(NamedTuple):
    """One text's prefix and the K continuations that compete behind it, as token ids.

    Attributes:
        prefix: The tokens that all continuations share, at least one.
        continuations: K token sequences, each at least one token longer than its `context`.
        context: K numbers of leading tokens that a continuation is conditioned on rather than scored by; () means none.
    """

    prefix: Sequence[int]
    continuations: Sequence[Sequence[int]]
    context: Sequence[int] = ()


def label_log_likelihood(
    model: PreTrainedModel,
    rows: Sequence[Candidates],
    normalise: bool = False,
    passes: Literal["auto", "packed", "separate"] = "auto",
) -> Float[Tensor, "b k"]:
    """Returns log P(continuation k | prefix b), in nats, (B, K) float32: `s[b, k] = sum_t log P(y_t | prefix, y_<t)`.

    Runs in the caller's gradient mode and in the model's own train or evaluation mode.

    Args:
        model: A causal language model.
        rows: B texts with the same number K of continuations.
        normalise: Divide by the number of scored tokens, so that long labels are not punished for their length.
        passes: `packed` is the tree behind the prefix; `separate` runs B x K plain sequences, right for every causal
            model. `auto` packs where the attention takes the mask: full attention by sdpa or eager with explicit positions.

    Raises:
        ValueError: No rows, an empty prefix, unequal K, or a continuation without a token to score.
    """
    _check(rows)
    longest = max(len(row.prefix) + max(map(len, row.continuations)) for row in rows)
    if passes == "packed" or (passes == "auto" and takes_a_mask(model, longest)):
        scores, counts = _packed(model, rows)
    else:
        scores, counts = _separate(model, rows)
    return scores / counts if normalise else scores


def split_at_label(tokenize: Tokenize, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[Candidates]:
    """Returns the token ids of prompts and their continuations, as the tokenizer cuts the whole `prompt + continuation`.

    The boundary: white space at the prompt's end moves to the continuations, as tokens usually begin with their space. The
    label's tokens are those of the whole string after the prompt's tokens. Where the prompt's last tokens would merge with the
    first of some label, the split backs off to the last token that the prompt and all its whole strings share, and what comes
    after is scored for every label: still a comparison of the same characters, now over one or two tokens more.

    Args:
        tokenize: From texts to token ids.
        prompts: B prompts.
        continuations: K strings for each prompt.

    Raises:
        ValueError: A continuation is empty, or nothing precedes the label.
    """
    pieces: list[str] = []
    for prompt, strings in zip(prompts, continuations, strict=True):
        bare = prompt.rstrip()
        pieces.append(bare)
        pieces.extend(prompt + string for string in strings)
    ids = iter(tokenize(pieces))
    rows = []
    for prompt, strings in zip(prompts, continuations, strict=True):
        head, wholes = next(ids), [next(ids) for _ in strings]
        if not all(strings):
            raise ValueError(f"continuations {list(strings)!r} hold an empty one, which has no likelihood.")
        shared = min(_common(head, *wholes), min(map(len, wholes)) - 1)
        if shared < 1:
            raise ValueError(f"Nothing precedes the label in {prompt!r}: a likelihood needs at least one token before it.")
        rows.append(Candidates(head[:shared], [whole[shared:] for whole in wholes]))
    return rows


def merge(rows: Sequence[Candidates]) -> Candidates:
    """Returns several prompts over one text as a single tree: their continuations in order, behind what all prompts share.

    Each continuation stays conditioned on the whole of its own prompt.

    Args:
        rows: For example, one yes/no question a label.
    """
    shared = _common(*(row.prefix for row in rows))
    continuations: list[Sequence[int]] = []
    context: list[int] = []
    for row in rows:
        rest = list(row.prefix[shared:])
        for continuation, skipped in zip(row.continuations, row.context or [0] * len(row.continuations), strict=True):
            continuations.append([*rest, *continuation])
            context.append(len(rest) + skipped)
    return Candidates(rows[0].prefix[:shared], continuations, context)


def takes_a_mask(model: PreTrainedModel, tokens: int) -> bool:
    """Returns whether a model's attention takes a mask of which token sees which, in sequences of so many tokens.

    So it does with full attention by sdpa or eager and with explicit positions.

    Args:
        model: A causal language model.
        tokens: A window that is shorter than the sequence would be replaced by the mask.
    """
    config = model.config.get_text_config()
    if getattr(model.config, "_attn_implementation", None) not in ("sdpa", "eager") or getattr(config, "alibi", False):
        return False
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    if not set(getattr(config, "layer_types", None) or ()) <= {"full_attention", "sliding_attention"}:
        return False
    window = getattr(config, "sliding_window", None)
    return window is None or tokens <= window


class _Tree(NamedTuple):
    """The continuations of a text without repeated beginnings; node 0 is the prefix's last token."""

    tokens: list[int]
    parents: list[int]
    depths: list[int]
    reads: list[tuple[int, int, int]]
    """Scored tokens: continuation, the node whose next-token distribution gives it, and the token."""


def _grow(row: Candidates) -> _Tree:
    tree = _Tree([0], [0], [0], [])
    nodes: dict[tuple[int, int], int] = {}
    contexts = row.context or [0] * len(row.continuations)
    for k, (tokens, context) in enumerate(zip(row.continuations, contexts, strict=True)):
        node = 0
        for position, token in enumerate(tokens):
            if position >= context:
                tree.reads.append((k, node, token))
            if position + 1 == len(tokens):
                break
            if (node, token) not in nodes:
                nodes[node, token] = len(tree.tokens)
                tree.tokens.append(token)
                tree.parents.append(node)
                tree.depths.append(tree.depths[node] + 1)
            node = nodes[node, token]
    return tree


def _packed(model: PreTrainedModel, rows: Sequence[Candidates]) -> tuple[Tensor, Tensor]:
    """Prefixes end at column T - 1 (left-padded), the trees follow, and only their logits are made."""
    trees = [_grow(row) for row in rows]
    batch, width = len(rows), max(len(row.prefix) for row in rows)
    branches = max(len(tree.tokens) for tree in trees) - 1
    lengths = torch.tensor([len(row.prefix) for row in rows])
    input_ids = torch.zeros(batch, width + branches, dtype=torch.long)
    parents = torch.zeros(batch, branches + 1, dtype=torch.long)
    depths = torch.zeros(batch, branches + 1, dtype=torch.long)
    for b, (row, tree) in enumerate(zip(rows, trees, strict=True)):
        input_ids[b, width - len(row.prefix) : width] = torch.tensor(row.prefix)
        input_ids[b, width : width + len(tree.tokens) - 1] = torch.tensor(tree.tokens[1:], dtype=torch.long)
        parents[b, : len(tree.parents)] = torch.tensor(tree.parents)
        depths[b, : len(tree.depths)] = torch.tensor(tree.depths)

    columns = torch.arange(width)
    real = columns >= width - lengths[:, None]
    positions = torch.cat([(columns - (width - lengths[:, None])).clamp(min=0), lengths[:, None] - 1 + depths[:, 1:]], 1)
    visible = torch.zeros(batch, width + branches, width + branches, dtype=torch.bool)
    visible[:, :width, :width] = (columns[:, None] >= columns) & real[:, None, :]
    visible[:, width:, :width] = real[:, None, :]
    every = torch.arange(batch)
    ancestors = torch.zeros(batch, branches + 1, branches + 1, dtype=torch.bool)
    for node in range(1, branches + 1):
        ancestors[:, node] = ancestors[every, parents[:, node]]
        ancestors[:, node, node] = True
    visible[:, width:, width:] = ancestors[:, 1:, 1:]
    visible |= torch.eye(width + branches, dtype=torch.bool)  # keeps columns of padding from an empty softmax

    mask = torch.zeros(visible.shape, dtype=model.dtype).masked_fill_(~visible, torch.finfo(model.dtype).min)
    logits = _logits(model, branches + 1, input_ids=input_ids, attention_mask=mask[:, None], position_ids=positions)
    reads = [(b, node, token, k) for b, tree in enumerate(trees) for k, node, token in tree.reads]
    return _collect(logits, reads, batch, len(rows[0].continuations))


def _separate(model: PreTrainedModel, rows: Sequence[Candidates]) -> tuple[Tensor, Tensor]:
    sequences = [[*row.prefix, *continuation] for row in rows for continuation in row.continuations]
    starts = [len(row.prefix) + (row.context[k] if row.context else 0) for row in rows for k in range(len(row.continuations))]
    width = max(map(len, sequences)) - 1
    input_ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)
    for i, sequence in enumerate(sequences):
        input_ids[i, : len(sequence) - 1] = torch.tensor(sequence[:-1])
        mask[i, : len(sequence) - 1] = 1
    first = min(starts) - 1
    logits = _logits(model, width - first, input_ids=input_ids, attention_mask=mask)
    reads = [
        (i, position - 1 - first, sequence[position], 0)
        for i, (sequence, start) in enumerate(zip(sequences, starts, strict=True))
        for position in range(start, len(sequence))
    ]
    scores, counts = _collect(logits, reads, len(sequences), 1)
    shape = len(rows), len(rows[0].continuations)
    return scores.view(shape), counts.view(shape)


def _logits(model: PreTrainedModel, last: int, **inputs: Tensor) -> Tensor:
    moved = {name: tensor.to(model.device) for name, tensor in inputs.items()}
    parameters = inspect.signature(model.forward).parameters
    if "use_cache" in parameters:
        moved["use_cache"] = False  # type: ignore[assignment]
    if "logits_to_keep" in parameters:
        moved["logits_to_keep"] = last  # type: ignore[assignment]
    logits: Tensor = model(**moved).logits
    return logits[:, -last:]


def _collect(logits: Tensor, reads: list[tuple[int, int, int, int]], rows: int, k: int) -> tuple[Tensor, Tensor]:
    """Sums the scored tokens' log-probabilities and their number, each (rows, k)."""
    row, column, token, label = torch.tensor(reads, device=logits.device).T
    values = logits[row, column].float()
    values = values.gather(1, token[:, None])[:, 0] - values.logsumexp(1)
    target = row * k + label
    scores = torch.zeros(rows * k, device=logits.device).index_add(0, target, values)
    counts = torch.zeros(rows * k, device=logits.device).index_add(0, target, torch.ones_like(values))
    return scores.view(rows, k), counts.view(rows, k)


def _check(rows: Sequence[Candidates]) -> None:
    if not rows or any(len(row.continuations) != len(rows[0].continuations) or not row.continuations for row in rows):
        raise ValueError("rows: at least one is needed, all with the same number of continuations.")
    for row in rows:
        contexts = row.context or [0] * len(row.continuations)
        if not row.prefix:
            raise ValueError("rows: a prefix is empty; a likelihood needs at least one token before the label.")
        if len(contexts) != len(row.continuations) or any(map(int.__ge__, contexts, map(len, row.continuations))):
            raise ValueError("rows: a continuation has no token to score.")


def _common(*sequences: Sequence[int]) -> int:
    length = 0
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        length += 1
    return length
