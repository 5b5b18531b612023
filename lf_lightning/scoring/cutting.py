"""Cutting long texts by tokens, with a count of what was dropped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any

from lf_lightning.errors import ConfigurationError

BYTES_PER_TOKEN = 4
"""Without a tokenizer a token is taken for 4 bytes of UTF-8: about right for English, too few tokens for most other scripts."""


class Cutter:
    """Keeps the beginning of a text.

    Args:
        max_tokens: Tokens to keep.
        tokenizer: Hub name, folder or package:NAME/PATH of a tokenizer; None: a token is 4 bytes of UTF-8.

    Raises:
        ConfigurationError: `max_tokens` is below 1.
    """

    def __init__(self, max_tokens: int, tokenizer: str | None = None) -> None:
        if max_tokens < 1:
            raise ConfigurationError(f"max_tokens={max_tokens} must be at least 1.")
        self.max_tokens, self.tokenizer = max_tokens, tokenizer

    @property
    def spec(self) -> dict[str, Any]:
        """The length, and what it is counted by: the tokenizer by its content, wherever it lies."""
        if self.tokenizer is None:
            return {"max_tokens": self.max_tokens, "tokenizer": f"{BYTES_PER_TOKEN} bytes"}
        content = self._tokenizer.backend_tokenizer.to_str()
        return {"max_tokens": self.max_tokens, "tokenizer_sha256": sha256(content.encode()).hexdigest()}

    def cut(self, texts: Sequence[str]) -> tuple[list[str], list[int]]:
        """Returns n texts as they are shown, and how many tokens of each were dropped. Lone surrogates become question marks.

        Raises:
            ConfigurationError: The tokenizer is not there.
        """
        pairs = [self._cut(text.encode("utf-8", "replace").decode("utf-8")) for text in texts]
        return [text for text, _ in pairs], [dropped for _, dropped in pairs]

    def _cut(self, text: str) -> tuple[str, int]:
        content = text.encode("utf-8")
        if self.tokenizer is None:
            kept = content[: self.max_tokens * BYTES_PER_TOKEN].decode("utf-8", "ignore")
            rest = len(content) - len(kept.encode("utf-8"))
            return kept, -(-rest // BYTES_PER_TOKEN)
        if len(content) <= self.max_tokens:  # a token has a byte at least
            return text, 0
        spans: list[tuple[int, int]] = self._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False
        )["offset_mapping"]
        if len(spans) <= self.max_tokens:
            return text, 0
        return text[: spans[self.max_tokens - 1][1]], len(spans) - self.max_tokens

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        from lf_lightning.pretrained import load_pretrained

        return load_pretrained(AutoTokenizer, self.tokenizer or "", argument="tokenizer")
