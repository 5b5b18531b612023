"""A model of natural language inference as a scorer: does the text entail the statement that a label applies?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError
from lf_lightning.pretrained import load_pretrained
from lf_lightning.scoring.base import Advance, Scorer, Scores
from lf_lightning.scoring.models import CausalModel, DType, device_of, find_model
from lf_lightning.store import ScorerCard

_SLOT = "{label}"


class ZeroShotNLIScorer(Scorer):
    """Scores texts by how far a model of natural language inference holds that they entail a statement about each label.

    With the logits e_y and c_y of entailment and contradiction, the text as premise and the statement about y as hypothesis:
    multi-class `p_y = softmax_y(e_y)`; multi-label `p_y = exp(e_y) / (exp(e_y) + exp(c_y))`, each label for itself (Yin et al.
    2019, "Benchmarking Zero-shot Text Classification").

    Args:
        name: What configs and tables call this scorer.
        model: Hub name, folder, or package:NAME/PATH of a folder; its config names a class that begins with "entail".
        labels: The label names, in the order of the columns.
        hypothesis: The statement, with {label} where the label stands.
        task: multiclass or multilabel.
        verbalizers: The phrase that stands for a label in the statement; labels without one stand for themselves.
        revision: Branch, tag or commit of a hub name.
        max_tokens: A longer text is cut to so many tokens, which is noted with its score.
        batch_size: Pairs of text and statement at once; changes speed and memory, not scores.
        dtype: Number type of the weights: float32, bfloat16 or float16.
        device: auto, cpu, cuda, cuda:1, mps.

    Raises:
        ConfigurationError: The hypothesis has no {label}, or a verbalizer is of no label.
    """

    def __init__(
        self,
        name: str,
        model: str,
        labels: list[str],
        hypothesis: str = "This text is about {label}.",
        task: Task = "multiclass",
        verbalizers: dict[str, str] | None = None,
        revision: str | None = None,
        max_tokens: int = 384,
        batch_size: int = 32,
        dtype: DType = "float32",
        device: str = "auto",
    ) -> None:
        self.name, self.labels, self.task = name, list(labels), task
        if _SLOT not in hypothesis:
            raise ConfigurationError(
                f"hypothesis={hypothesis!r} has no {_SLOT}. Way out: such as 'This text is about {_SLOT}.'"
            )
        phrases = dict(verbalizers or {})
        self.hypotheses = [hypothesis.replace(_SLOT, phrases.pop(label, label)) for label in self.labels]
        if phrases:
            raise ConfigurationError(f"verbalizers: {list(phrases)} are none of the labels {self.labels}.")
        if max_tokens < 1 or batch_size < 1:
            raise ConfigurationError(f"max_tokens={max_tokens} and batch_size={batch_size} must be at least 1.")
        self.model, self.revision, self.max_tokens = model, revision, max_tokens
        self.batch_size, self.dtype, self.device = batch_size, dtype, device

    @cached_property
    def card(self) -> ScorerCard:
        """Model by content, statements, arithmetic; the device and the batch size are not part of it."""
        spec: dict[str, Any] = {
            "scorer": "zero_shot_nli",
            "mode": "entailment",
            **self._found.identity,
            "dtype": self.dtype,
            "hypotheses": self.hypotheses,
            "max_tokens": self.max_tokens,
        }
        return ScorerCard(self.name, tuple(self.labels), self.task, spec)

    def score(self, texts: Sequence[str], advance: Advance | None = None) -> Scores:
        """Returns the probabilities; a row that is not finite (an overflow in half precision) is `UNPARSED`.

        `usage` notes `dropped_tokens` of texts that were cut. Lone surrogates are read as question marks.

        Args:
            texts: n texts, any strings.
            advance: Called as texts are done: after the last of a text's statements.

        Raises:
            ConfigurationError: Text and statement are longer than the model's positions, or its config names no entailment.
        """
        premises, dropped = self._cut([_clean(text) for text in texts])
        logits = self._logits(premises, advance)
        entailed = logits[..., self._classes[0]]
        if self.task == "multiclass":
            weights = np.exp(entailed - entailed.max(-1, keepdims=True))
            probabilities = weights / weights.sum(-1, keepdims=True)
        else:
            probabilities = 1 / (1 + np.exp(np.clip(logits[..., self._classes[1]] - entailed, -700, 700)))
        usage: list[dict[str, Any] | None] = [{"dropped_tokens": count} if count else None for count in dropped]
        return Scores.where_finite(probabilities, usage if any(dropped) else None)

    def _logits(self, premises: list[str], advance: Advance | None) -> NDArray[np.float64]:
        """(n, K, classes) in float64; batches hold pairs of like length."""
        model, tokenizer = self._loaded
        k = len(self.labels)
        hypotheses = [_clean(hypothesis) for hypothesis in self.hypotheses] * len(premises)
        pairs = tokenizer([text for text in premises for _ in range(k)], hypotheses) if premises else {"input_ids": []}
        sizes = [len(ids) for ids in pairs["input_ids"]]
        self._check_length(max(sizes, default=0))
        logits = np.empty((len(sizes), len(model.config.id2label or {})))
        left = np.full(len(premises), k)
        order = np.argsort(sizes, kind="stable")
        for start in range(0, len(sizes), self.batch_size):
            rows = order[start : start + self.batch_size]
            batch = tokenizer.pad({name: [values[row] for row in rows] for name, values in pairs.items()}, return_tensors="pt")
            with torch.inference_mode():
                logits[rows] = model(**batch.to(model.device)).logits.double().cpu().numpy()
            np.subtract.at(left, rows // k, 1)
            done = np.unique(rows // k)
            if advance is not None:
                advance(int((left[done] == 0).sum()))
        return logits.reshape(len(premises), k, logits.shape[1])

    def _check_length(self, longest: int) -> None:
        model, tokenizer = self._loaded
        positions = getattr(model.config, "max_position_embeddings", None) or longest
        limit = min(int(positions), int(tokenizer.model_max_length))
        if longest > limit:
            raise ConfigurationError(
                f"max_tokens={self.max_tokens}: a text and its statement have {longest} tokens, the model takes {limit}. "
                "Way out: a smaller max_tokens."
            )

    def _cut(self, texts: list[str]) -> tuple[list[str], list[int]]:
        if not texts:
            return [], []
        _, tokenizer = self._loaded
        encoded = tokenizer(
            texts, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False
        )
        offsets: list[list[tuple[int, int]]] = encoded["offset_mapping"]
        kept = [
            text if len(spans) <= self.max_tokens else text[: spans[self.max_tokens - 1][1]]
            for text, spans in zip(texts, offsets, strict=True)
        ]
        return kept, [max(len(spans) - self.max_tokens, 0) for spans in offsets]

    @cached_property
    def _classes(self) -> tuple[int, int]:
        """Columns of entailment and, where the task needs it, of contradiction."""
        model, _ = self._loaded
        names = {int(index): str(label) for index, label in (model.config.id2label or {}).items()}
        entailed = self._column(names, ("entail",))
        return entailed, entailed if self.task == "multiclass" else self._column(names, ("contra", "not_entail", "not entail"))

    def _column(self, names: dict[int, str], beginnings: tuple[str, ...]) -> int:
        found = [index for index, label in names.items() if label.lower().startswith(beginnings)]
        if len(found) != 1:
            raise ConfigurationError(
                f"model={self.model!r}: of its classes {list(names.values())}, {len(found)} begin with "
                f"{' or '.join(map(repr, beginnings))}, where it takes one. Way out: a model of natural language inference "
                "whose config names its classes."
            )
        return found[0]

    @cached_property
    def _found(self) -> CausalModel:
        found = find_model(self.model, None, self.revision)
        if found.gguf_file is not None:
            raise ConfigurationError(
                f"model={self.model!r} is a .gguf file, which holds no classifier. Way out: a folder or hub name."
            )
        return found

    @cached_property
    def _loaded(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        found = self._found
        options: dict[str, Any] = {} if found.revision is None else {"revision": found.revision}
        tokenizer = load_pretrained(AutoTokenizer, found.path, argument="model", **options)
        model = load_pretrained(
            AutoModelForSequenceClassification, found.path, argument="model", dtype=getattr(torch, self.dtype), **options
        )
        return model.eval().to(device_of(self.device)), tokenizer


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
