"""A local causal language model as a scorer: the likelihood of each label behind the text, and no reply to parse."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError
from lf_lightning.likelihood import Candidates, label_log_likelihood, merge, split_at_label
from lf_lightning.scoring.base import Advance, Scorer, Scores
from lf_lightning.scoring.models import CausalModel, DType, find_model, load_model
from lf_lightning.scoring.prompts import Prompt
from lf_lightning.store import ScorerCard


class CausalLMScorer(Scorer):
    """Scores texts by the log-likelihood of the labels under a causal language model.

    Multi-class: `p_y = softmax_y(s_y)`, `s_y = log P(phrase of y | prompt)`, divided by the number of tokens if `normalise`.
    Multi-label: `p_y = P(yes | statement about y) / (P(yes | ...) + P(no | ...))`, each label for itself.

    The probabilities carry the model's prior for the words of the labels. That is left to a calibrator fitted on validation
    rows (vector scaling), because a correction from the batch at hand would make a text's score depend on its neighbours.

    Args:
        name: What configs and tables call this scorer.
        model: Hub name, folder, .gguf file, or package:NAME/PATH of a folder or .gguf file.
        labels: The label names, in the order of the columns.
        template: Jinja prompt with {{ text }} and {{ label }}, or a .jinja file; multi-class scores what stands at {{ label }}.
        task: multiclass or multilabel; multi-label templates end in a question about {{ label }}.
        verbalizers: The phrase that stands for a label in the prompt; labels without one stand for themselves.
        answers: Multi-label: the continuations that mean yes and no.
        normalise: Divide log-likelihoods by the number of tokens, so that long phrases are not punished.
        content_free: A text without content, such as "N/A", whose log-likelihoods are subtracted (contextual calibration).
        gguf_file: A .gguf file inside the folder that model names.
        revision: Branch, tag or commit of a hub name.
        max_tokens: A longer text is cut to so many tokens, which is noted with its score.
        batch_size: Texts at once; changes speed and memory, not scores.
        dtype: Number type of the weights: float32, bfloat16 or float16.
        device: auto, cpu, cuda, cuda:1, mps.

    Raises:
        ConfigurationError: The model is not there, a verbalizer is of no label, or the template does not fit the task.
    """

    def __init__(
        self,
        name: str,
        model: str,
        labels: list[str],
        template: str,
        task: Task = "multiclass",
        verbalizers: dict[str, str] | None = None,
        answers: tuple[str, str] = (" yes", " no"),
        normalise: bool = True,
        content_free: str | None = None,
        gguf_file: str | None = None,
        revision: str | None = None,
        max_tokens: int = 512,
        batch_size: int = 16,
        dtype: DType = "float32",
        device: str = "auto",
    ) -> None:
        self.name, self.labels, self.task = name, list(labels), task
        self.prompt = Prompt(template)
        phrases = dict(verbalizers or {})
        self.phrases = [phrases.pop(label, label) for label in self.labels]
        if phrases:
            raise ConfigurationError(f"verbalizers: {list(phrases)} are none of the labels {self.labels}.")
        if max_tokens < 1 or batch_size < 1:
            raise ConfigurationError(f"max_tokens={max_tokens} and batch_size={batch_size} must be at least 1.")
        self.answers, self.normalise, self.content_free = tuple(answers), normalise, content_free
        self.model, self.gguf_file, self.revision = model, gguf_file, revision
        self.max_tokens, self.batch_size, self.dtype, self.device = max_tokens, batch_size, dtype, device
        if task == "multiclass":
            self.prompt.require_completion()

    @cached_property
    def card(self) -> ScorerCard:
        """Model by content, prompt, phrases, decoding; the device and the batch size are not part of it."""
        spec: dict[str, Any] = {
            "scorer": "causal_lm",
            "mode": "likelihood",
            **self._found.identity,
            "dtype": self.dtype,
            "template": self.prompt.source,
            "phrases": self.phrases,
            "normalise": self.normalise,
            "content_free": self.content_free,
            "max_tokens": self.max_tokens,
        }
        if self.task == "multilabel":
            spec["answers"] = list(self.answers)
        return ScorerCard(self.name, tuple(self.labels), self.task, spec)

    def score(self, texts: Sequence[str], advance: Advance | None = None) -> Scores:
        """Returns the probabilities; a row that is not finite (an overflow in half precision) is `UNPARSED`.

        `usage` notes `dropped_tokens` of texts that were cut. Lone surrogates are read as question marks.

        Args:
            texts: n texts, any strings.
            advance: Called after each batch.

        Raises:
            ConfigurationError: Prompt and text are longer than the model's positions.
        """
        cut, dropped = self._cut([text.encode("utf-8", "replace").decode("utf-8") for text in texts])
        scores = self._log_likelihoods(cut, advance)
        if self.content_free is not None and len(texts):
            scores = scores - self._prior
        if self.task == "multilabel":
            scores = scores.reshape(len(texts), len(self.labels), 2)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        probabilities = weights / weights.sum(-1, keepdims=True)
        if self.task == "multilabel":
            probabilities = probabilities[..., 0]
        usage: list[dict[str, Any] | None] = [{"dropped_tokens": count} if count else None for count in dropped]
        return Scores.where_finite(probabilities, usage if any(dropped) else None)

    def _log_likelihoods(self, texts: Sequence[str], advance: Advance | None = None) -> NDArray[np.float64]:
        """(n, K), or (n, 2K) of yes and no by turns; batches hold texts of like length."""
        model, _ = self._loaded
        rows = self._candidates(texts)
        limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        sizes = [len(row.prefix) + max(map(len, row.continuations)) for row in rows]
        if limit is not None and max(sizes, default=0) > limit:
            raise ConfigurationError(
                f"max_tokens={self.max_tokens}: a text and its prompt have {max(sizes)} tokens, the model takes {limit}."
            )
        scores = np.empty((len(rows), len(self.labels) * (2 if self.task == "multilabel" else 1)))
        order = np.argsort([len(row.prefix) for row in rows], kind="stable")
        for start in range(0, len(rows), self.batch_size):
            batch = order[start : start + self.batch_size]
            with torch.inference_mode():
                found = label_log_likelihood(model, [rows[i] for i in batch], self.normalise)
            scores[batch] = found.double().cpu().numpy()
            if advance is not None:
                advance(len(batch))
        return scores

    def _candidates(self, texts: Sequence[str]) -> list[Candidates]:
        if self.task == "multiclass":
            rendered = [self.prompt.completion(text, self.phrases) for text in texts]
            return split_at_label(self._tokenize, [prompt for prompt, _ in rendered], [ends for _, ends in rendered])
        prompts = [prompt for text in texts for prompt in self.prompt.statements(text, self.phrases)]
        rows = split_at_label(self._tokenize, prompts, [self.answers] * len(prompts))
        k = len(self.labels)
        return [merge(rows[start : start + k]) for start in range(0, len(rows), k)]

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        _, tokenizer = self._loaded
        ids: list[list[int]] = tokenizer(texts, return_attention_mask=False)["input_ids"] if texts else []
        end = tokenizer.eos_token_id
        probe: list[int] = tokenizer("a")["input_ids"]
        if end is not None and probe[-1] == end:  # an end mark would stand between the prompt and its label
            return [sequence[:-1] for sequence in ids]
        return ids

    def _cut(self, texts: list[str]) -> tuple[list[str], list[int]]:
        if not texts:
            return [], []
        _, tokenizer = self._loaded
        encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False)
        offsets: list[list[tuple[int, int]]] = encoded["offset_mapping"]
        kept = [
            text if len(spans) <= self.max_tokens else text[: spans[self.max_tokens - 1][1]]
            for text, spans in zip(texts, offsets, strict=True)
        ]
        return kept, [max(len(spans) - self.max_tokens, 0) for spans in offsets]

    @cached_property
    def _found(self) -> CausalModel:
        return find_model(self.model, self.gguf_file, self.revision)

    @cached_property
    def _loaded(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        return load_model(self._found, self.dtype, self.device)

    @cached_property
    def _prior(self) -> NDArray[np.float64]:
        return self._log_likelihoods([self.content_free or ""])
