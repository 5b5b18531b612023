"""Few-shot examples that are most like the text that is scored, by the embeddings of an encoder."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.examples import Example, Examples, by_label


class NearestExamples(Examples):
    """The rows of the pool that are most like the text, by the cosine of their embeddings; the nearest comes last.

    Each text is embedded alone, so that a batch's padding cannot change a choice; cosines count to five digits, and of equal
    ones the earlier row wins.

    Args:
        table: CSV, TSV, JSONL or Parquet file, or package:NAME/PATH of one; its rows must be training rows.
        encoder: Hub name, folder or package:NAME/PATH of an encoder; its token vectors are averaged.
        count: How many examples a prompt gets.
        text_column: Column of the texts.
        label_column: Column of the labels.
        where: Only rows with these values, as column: value; such as split: train.
        separator: What parts the labels of a cell in a multi-label task.
        balanced: The nearest of each label in turn, instead of the nearest of all.
        max_words: Keep the first so many words of an example.
        max_tokens: The encoder reads so many tokens of a text.

    Raises:
        ConfigurationError: `count`, `max_words` or `max_tokens` is below 1.
    """

    def __init__(
        self,
        table: str,
        encoder: str,
        count: int = 8,
        text_column: str = "text",
        label_column: str = "label",
        where: dict[str, str] | None = None,
        separator: str = "|",
        balanced: bool = False,
        max_words: int = 100,
        max_tokens: int = 256,
    ) -> None:
        super().__init__(table, count, text_column, label_column, where, separator, balanced, max_words=max_words)
        if max_tokens < 1:
            raise ConfigurationError(f"examples: max_tokens={max_tokens} must be at least 1.")
        self.encoder, self.max_tokens = encoder, max_tokens

    @property
    def spec(self) -> dict[str, Any]:
        """As of every selector, and the encoder by its weights."""
        model, _ = self._encoder
        digest = sha256()
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().float().numpy().tobytes())
        return {**super().spec, "encoder_sha256": digest.hexdigest(), "encoder_max_tokens": self.max_tokens}

    def choose(self, text: str) -> list[Example]:
        """Returns the nearest examples, the nearest last."""
        without = self.excluded(text)
        cosines = np.round(self._vectors @ self._embed(text), 5)
        order = [place for place in np.argsort(-cosines, kind="stable").tolist() if place not in without]
        if not self.balanced:
            chosen = order[: self.count]
        else:
            ranks = {place: rank for rank, place in enumerate(order)}
            queues = [sorted((p for p in group if p in ranks), key=ranks.__getitem__) for group in self._groups]
            turns = zip_longest(*queues)  # the nearest of each label, then the second of each, ...
            rounds = [place for turn in turns for place in sorted((p for p in turn if p is not None), key=ranks.__getitem__)]
            chosen = sorted(rounds[: self.count], key=ranks.__getitem__)
        return [self.pool[place] for place in reversed(chosen)]

    @cached_property
    def _groups(self) -> list[list[int]]:
        return by_label(self.pool, self.balanced)

    @cached_property
    def _encoder(self) -> tuple[Any, Any]:
        from transformers import AutoModel, AutoTokenizer

        from lf_lightning.pretrained import load_pretrained

        model = load_pretrained(AutoModel, self.encoder, argument="encoder")
        return model.float().eval(), load_pretrained(AutoTokenizer, self.encoder, argument="encoder")

    @cached_property
    def _vectors(self) -> NDArray[np.float32]:
        return np.stack([self._embed(example.whole) for example in self.pool])

    def _embed(self, text: str) -> NDArray[np.float32]:
        import torch

        model, tokenizer = self._encoder
        tokens = tokenizer(
            text.encode("utf-8", "replace").decode("utf-8"), truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        with torch.inference_mode():
            vector: NDArray[np.float32] = model(**tokens).last_hidden_state[0].mean(0).numpy()
        return vector / max(float(np.linalg.norm(vector)), 1e-12)
