"""Sampling from a causal language model so that a text's sample depends on its seed alone, not on the texts beside it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

ANSWER_CUE, REASON_CUE = "\nAnswer:", "\nReason:"
"""What stands before an answer (a label) and before a reason, in the writer's rows as in the classifier's."""

MOST_TOKENS = 48
"""Tokens of a reason, unless an argument says otherwise."""


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    prefixes: Sequence[Sequence[int]],
    stops: Sequence[int],
    max_tokens: int = MOST_TOKENS,
    temperature: float = 1.0,
    samples: int = 1,
    seed: int = 0,
) -> list[list[list[int]]]:
    """Returns continuations of B prefixes, `samples` of each, as token ids without the stop.

    Token t is drawn by inverting the cumulative softmax(logits / temperature) at a number u_t, which is a function of
    (seed, prefix, number of the sample, t). So neither batches nor processes nor torch's generator change what is drawn, but
    for the rounding of the logits. The prefix is encoded once for all of its samples, and its keys and values are kept.

    Args:
        model: A causal language model, used in evaluation mode and left in the mode that it had.
        prefixes: B token sequences, each with at least one token.
        stops: Tokens that end a continuation.
        max_tokens: Tokens of a continuation at most.
        temperature: 0 takes the most likely token each time.
        samples: Continuations of each prefix.
        seed: Of the draws.

    Raises:
        ValueError: A prefix is empty, or a number is out of range.
    """
    if not all(map(len, prefixes)):
        raise ValueError("prefixes: one is empty; a continuation needs at least one token before it.")
    if max_tokens < 1 or samples < 1 or temperature < 0:
        raise ValueError(f"max_tokens={max_tokens} and samples={samples} are at least 1, temperature={temperature} at least 0.")
    was_training = model.training
    model.eval()  # type: ignore[no-untyped-call]
    try:
        flat = _sample(model, prefixes, set(stops), max_tokens, temperature, samples, seed) if prefixes else []
    finally:
        model.train(was_training)
    return [flat[start : start + samples] for start in range(0, len(flat), samples)]


def _sample(
    model: PreTrainedModel,
    prefixes: Sequence[Sequence[int]],
    stops: set[int],
    max_tokens: int,
    temperature: float,
    samples: int,
    seed: int,
) -> list[list[int]]:
    ids, mask = left_padded(prefixes)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    logits = next_logits(model, cache, ids, mask, positions)
    if samples > 1:
        cache.batch_repeat_interleave(samples)
        logits, mask = logits.repeat_interleave(samples, 0), mask.repeat_interleave(samples, 0)
        positions = positions.repeat_interleave(samples, 0)
    draws = torch.from_numpy(np.stack([_draws(seed, p, number, max_tokens) for p in prefixes for number in range(samples)]))
    rows: list[list[int]] = [[] for _ in range(len(mask))]
    running = torch.ones(len(rows), dtype=torch.bool)
    for step in range(max_tokens):
        chosen = _choose(logits, draws[:, step], temperature)
        running &= torch.tensor([token not in stops for token in chosen.tolist()])
        for row in torch.nonzero(running)[:, 0].tolist():
            rows[row].append(int(chosen[row]))
        if step + 1 == max_tokens or not running.any():
            break
        mask = torch.cat([mask, torch.ones(len(mask), 1, dtype=mask.dtype)], 1)
        positions = positions[:, -1:] + 1
        logits = next_logits(model, cache, chosen[:, None], mask, positions)
    return rows


def left_padded(rows: Sequence[Sequence[int]], pad: int = 0) -> tuple[Tensor, Tensor]:
    """Returns ids (B, T) and mask (B, T), int64, of token sequences that all end in the last column."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, width - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask[number, width - len(row) :] = 1
    return ids, mask


def next_logits(model: PreTrainedModel, cache: DynamicCache, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """Returns the logits (B, V) of the token after `ids`, float64 on the CPU, and adds `ids` to the cache."""
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    parameters = inspect.signature(model.forward).parameters
    moved = {name: tensor.to(model.device) for name, tensor in given.items() if name in parameters}
    if "logits_to_keep" in parameters:
        moved["logits_to_keep"] = 1
    logits: Tensor = model(**moved, past_key_values=cache, use_cache=True).logits[:, -1]
    return logits.double().cpu()


def _choose(logits: Tensor, draws: Tensor, temperature: float) -> Tensor:
    if temperature == 0:
        return logits.argmax(1)
    cumulative = torch.softmax(logits / temperature, 1).cumsum(1)
    # The sum of the last column is 1 up to rounding; a draw above it would be no token.
    return torch.searchsorted(cumulative, draws[:, None] * cumulative[:, -1:], right=True)[:, 0].clamp(max=logits.shape[1] - 1)


def _draws(seed: int, prefix: Sequence[int], number: int, most: int) -> NDArray[np.float64]:
    digest = sha256(f"{seed} {number} {' '.join(map(str, prefix))}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little")).random(most)
