"""A local causal language model that writes reasons: one that `lf fit` made a writer, or any other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lf_lightning.errors import ConfigurationError
from lf_lightning.generation import ANSWER_CUE, MOST_TOKENS, REASON_CUE, sample
from lf_lightning.scoring.base import Advance
from lf_lightning.scoring.models import CausalModel, DType, find_model, load_model
from lf_lightning.scoring.reasons.writer import Asked, ReasonWriter, Written

WRITER = "writer"
"""The folder that a fit of `RationaleWriterModule` leaves in its run."""


class CausalLMWriter(ReasonWriter):
    """Has a causal language model go on behind `text, cue, label, cue` or, without the label, `text, cue`.

    What it draws for a text depends on the seed and the text alone, not on the texts beside it.

    Args:
        model: Run folder of a writer's fit, hub name, folder, .gguf file, or package:NAME/PATH of a folder or .gguf file.
        introduction: Written before every text: instructions or examples, for a model that was not made a writer.
        answer_cue: What stands before a label; as in the writer's fit.
        reason_cue: What stands before a reason; as in the writer's fit.
        stop: A reason ends where this begins, if the model does not end it before.
        max_new_tokens: Tokens of a reason at most; one that does not end before is cut there.
        max_tokens: A longer text is cut to so many tokens.
        temperature: 0: the most likely token each time.
        seed: Of the draws.
        batch_size: Texts at once; changes speed and memory, not reasons.
        gguf_file: A .gguf file inside the folder that model names.
        revision: Branch, tag or commit of a hub name.
        dtype: Number type of the weights: float32, bfloat16 or float16.
        device: auto, cpu, cuda, cuda:1, mps.
    """

    def __init__(
        self,
        model: str,
        introduction: str = "",
        answer_cue: str = ANSWER_CUE,
        reason_cue: str = REASON_CUE,
        stop: str = "\n",
        max_new_tokens: int = MOST_TOKENS,
        max_tokens: int = 400,
        temperature: float = 0.7,
        seed: int = 0,
        batch_size: int = 16,
        gguf_file: str | None = None,
        revision: str | None = None,
        dtype: DType = "float32",
        device: str = "auto",
    ) -> None:
        for name, number in {"max_new_tokens": max_new_tokens, "max_tokens": max_tokens, "batch_size": batch_size}.items():
            if number < 1:
                raise ConfigurationError(f"{name}={number}: give at least 1.")
        if temperature < 0:
            raise ConfigurationError(f"temperature={temperature}: at least 0.")
        self.model, self.gguf_file, self.revision = model, gguf_file, revision
        self.introduction, self.answer_cue, self.reason_cue, self.stop = introduction, answer_cue, reason_cue, stop
        self.max_new_tokens, self.max_tokens, self.temperature, self.seed = max_new_tokens, max_tokens, temperature, seed
        self.batch_size, self.dtype, self.device = batch_size, dtype, device

    @property
    def spec(self) -> dict[str, Any]:
        """Model by content, prompt and decoding."""
        return {
            "writer": "causal_lm",
            **self._found.identity,
            "dtype": self.dtype,
            "prompt": [self.introduction, self.answer_cue, self.reason_cue, self.stop],
            "max_new_tokens": self.max_new_tokens,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
        }

    def write(self, asked: Sequence[Asked], advance: Advance | None = None) -> Written:
        """Returns reasons.

        Raises:
            ConfigurationError: The model cannot be loaded, several samples are asked for at temperature 0, or its positions do
                not suffice.
        """
        most = max((one.sample for one in asked), default=0) + 1
        if most > 1 and self.temperature == 0:
            raise ConfigurationError("temperature=0: all samples of a text would be one. Way out: temperature: 0.7.")
        model, tokenizer = self._loaded
        groups: dict[tuple[str, str | None], list[int]] = {}
        for place, one in enumerate(asked):
            groups.setdefault((one.text, one.label), []).append(place)
        prefixes = dict(zip(groups, self._prefixes(list(groups)), strict=True))
        order = sorted(groups, key=lambda group: len(prefixes[group]))
        self._check_length(max(map(len, prefixes.values()), default=0) + self.max_new_tokens)
        reasons: list[str | None] = [None] * len(asked)
        notes: list[dict[str, Any]] = [{} for _ in asked]
        stops = [token for token in (tokenizer.eos_token_id, tokenizer.sep_token_id) if token is not None]
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            drawn = sample(
                model,
                [prefixes[group] for group in batch],
                [*stops, *self._stops],
                self.max_new_tokens,
                self.temperature,
                most,
                self.seed,
            )
            for group, rows in zip(batch, drawn, strict=True):
                words = tokenizer.batch_decode(rows, skip_special_tokens=True)
                for place in groups[group]:
                    number = asked[place].sample
                    text = str(words[number])
                    reason = " ".join((text.partition(self.stop)[0] if self.stop else text).split())
                    reasons[place] = reason or None
                    notes[place] = {"output_tokens": len(rows[number])} if reason else {"reason": "nothing was written"}
            if advance is not None:
                advance(sum(len(groups[group]) for group in batch))
        return Written(reasons, notes)

    def _prefixes(self, groups: Sequence[tuple[str, str | None]]) -> list[list[int]]:
        _, tokenizer = self._loaded
        plain = {"add_special_tokens": False, "return_attention_mask": False}

        def ids(texts: list[str]) -> list[list[int]]:
            found: list[list[int]] = tokenizer(texts, **plain)["input_ids"] if texts else []
            return found

        bare, whole = ids(["a"])[0], list(tokenizer("a")["input_ids"])
        start = whole[: next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)]
        before = ids([self.introduction])[0] if self.introduction else []
        answer_cue, reason_cue = ids([self.answer_cue, self.reason_cue])
        texts = ids([text.encode("utf-8", "replace").decode("utf-8") for text, _ in groups])
        labels = ids([f" {label}" if label else "" for _, label in groups])
        return [
            [*start, *before, *text[: self.max_tokens], *([*answer_cue, *name] if label else []), *reason_cue]
            for (_, label), text, name in zip(groups, texts, labels, strict=True)
        ]

    def _check_length(self, tokens: int) -> None:
        limit = getattr(self._loaded[0].config.get_text_config(), "max_position_embeddings", None)
        if limit is not None and tokens > limit:
            raise ConfigurationError(
                f"max_tokens={self.max_tokens}: text, prompt and reason have {tokens} tokens, the model takes {limit}."
            )

    @cached_property
    def _stops(self) -> list[int]:
        """The stop as one token, where the tokenizer has it: then nothing is generated behind it."""
        _, tokenizer = self._loaded
        found: list[int] = tokenizer(self.stop, add_special_tokens=False)["input_ids"] if self.stop else []
        return found if len(found) == 1 and tokenizer.decode(found) == self.stop else []

    @cached_property
    def _found(self) -> CausalModel:
        run = Path(self.model) / WRITER
        return find_model(str(run) if run.is_dir() else self.model, self.gguf_file, self.revision)

    @cached_property
    def _loaded(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        return load_model(self._found, self.dtype, self.device)
