"""Tokenising a split once, into flat arrays without padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lf_lightning.errors import ConfigurationError
from lf_lightning.pretrained import load_pretrained

_CHUNK = 10_000  # bounds the Python lists that live beside the arrays


def load_tokenizer(name: str) -> Any:
    """Returns the fast tokenizer `name`; local files first, no code from the hub.

    Args:
        name: Hub name, local folder, or `package:NAME/PATH`.

    Raises:
        ConfigurationError: It cannot be loaded (without a network: at once), or has no fast form.
        MissingDependencyError: The package of a `package:` name is not installed.
    """
    from transformers import AutoTokenizer

    tokenizer = load_pretrained(AutoTokenizer, name, argument="tokenizer")
    if not tokenizer.is_fast:
        raise ConfigurationError(f"tokenizer={name!r} has no fast form (tokenizer.json). Choose an encoder that has one.")
    return tokenizer


def tokenize(tokenizer: Any, texts: Sequence[str], max_length: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Returns the token ids of n texts, one after the other, and where each begins.

    Args:
        tokenizer: A fast tokenizer.
        texts: n texts. Lone surrogates, which no tokenizer takes, are read as U+FFFD here and only here.
        max_length: Longer texts are cut to so many tokens, special tokens included.

    Returns:
        (total,) int32 ids, and (n + 1,) int64 offsets: text i has `ids[offsets[i]:offsets[i + 1]]`.
    """
    flat, lengths = [], [np.zeros(1, dtype=np.int64)]
    for start in range(0, len(texts), _CHUNK):
        encoded = tokenizer(
            [_encodable(text) for text in texts[start : start + _CHUNK]],
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        lengths.append(np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)))
        flat.append(np.fromiter(chain.from_iterable(encoded), dtype=np.int32, count=int(lengths[-1].sum())))
    return np.concatenate(flat or [np.zeros(0, dtype=np.int32)]), np.cumsum(np.concatenate(lengths))


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
