"""`Predictor`: texts in, calibrated probabilities and decisions out, as `lf predict` gives them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from lf_lightning.callbacks.judging import Opinion, judge_outputs
from lf_lightning.contract import Batch, Outputs
from lf_lightning.data.batches import TokenizedRows
from lf_lightning.data.sampling import evaluation_order
from lf_lightning.data.scores import ScoreSource
from lf_lightning.data.texts import texts_of
from lf_lightning.data.tokenizer import load_tokenizer, tokenize
from lf_lightning.errors import ConfigurationError
from lf_lightning.predictor.fitted_run import FittedRun
from lf_lightning.scoring.models import device_of
from lf_lightning.store import ScorerCard, Status
from lf_lightning.store.checks import checked_rows
from lf_lightning.systems.base import ClassifierModule

DType = Literal["float32", "bfloat16"]
ScoresOf = str | os.PathLike[str] | ArrayLike | None
"""Folder of a score store (`package:` allowed), (n, M, K) probabilities in the order of `Predictor.scorers` with NaN where a
scorer gave none, or None: the encoder decides alone."""


class Predictor:
    """A fitted system that answers for texts, in batches of similar length, without a Trainer.

    Args:
        module: The system, fitted and loaded; it is moved to the device and put into evaluation mode.
        tokenizer: Name of the encoder's tokenizer.
        max_length: Tokens kept of each text.
        max_words: Words kept of each text, None for all; as in the data that the system was fitted on.
        batch_size: Texts at once; changes speed and memory, not answers.
        dtype: bfloat16: the arithmetic of trainer.precision bf16-mixed.
        device: auto, cpu, cuda, cuda:1, mps.

    Raises:
        ConfigurationError: A number is below 1, or the tokenizer cannot be loaded.
    """

    def __init__(
        self,
        module: ClassifierModule,
        tokenizer: str,
        max_length: int,
        max_words: int | None = None,
        batch_size: int = 64,
        dtype: DType = "float32",
        device: str = "auto",
    ) -> None:
        for name, number in {"max_length": max_length, "max_words": max_words, "batch_size": batch_size}.items():
            if number is not None and number < 1:
                raise ConfigurationError(f"{name}={number}: give at least 1.")
        self.device = device_of(device)
        self.module = module.eval().to(self.device)
        self.labels, self.task = list(module.labels), module.task
        self.scorers: list[str] = list(getattr(module, "scorers", ()))
        self.max_length, self.max_words, self.batch_size, self.dtype = max_length, max_words, batch_size, dtype
        self._tokenizer: Any = load_tokenizer(tokenizer)

    @classmethod
    def of_run(
        cls,
        run: str | os.PathLike[str],
        checkpoint: str = "best",
        batch_size: int = 64,
        dtype: DType = "float32",
        device: str = "auto",
    ) -> Predictor:
        """Returns the predictor of a run: system, calibrators and decision rule of its checkpoint, texts as in its config.

        Args:
            run: Folder that `lf fit` wrote, or a file in its `checkpoints`.
            checkpoint: `best` or `last`, where `run` is a folder.
            batch_size: See the class.
            dtype: See the class.
            device: See the class.

        Raises:
            ConfigurationError: There is no such run, or it names a class that is not allowed.
            DataError: The checkpoint is damaged, or holds more than tensors and plain values.
        """
        found = FittedRun.find(run, checkpoint)
        return cls(found.load(), found.tokenizer, found.max_length, found.max_words, batch_size, dtype, device)

    def predict_proba(self, texts: Sequence[str], scores: ScoresOf = None) -> NDArray[np.float64]:
        """Returns the calibrated probabilities (n, K) of n texts.

        Args:
            texts: Any strings; several text columns joined by a newline, as in training.
            scores: What the scorers said of them: a store's folder, an array, or None.

        Raises:
            DataError: A text is no string, or the scores are no probabilities.
            ConfigurationError: Scores of another shape.
            StoreError: The store is damaged, or lacks a scorer.
            NotFittedError: The fit had not reached its end.
        """
        return self.opinion(texts, scores).probabilities

    def predict(self, texts: Sequence[str], scores: ScoresOf = None) -> NDArray[np.int64]:
        """Returns the decisions by the system's rule: numbers of labels (n,), or multi-label (n, K) of 0 and 1.

        Args:
            texts: As for `predict_proba`.
            scores: As for `predict_proba`.
        """
        return self.opinion(texts, scores).decisions

    def opinion(self, texts: Sequence[str], scores: ScoresOf = None) -> Opinion:
        """Returns probabilities and decisions of n texts in one pass.

        Args:
            texts: As for `predict_proba`.
            scores: As for `predict_proba`.
        """
        kept = self.texts_read(texts)
        members, scored = self._scores_of(kept, scores)
        many, k = self.task == "multilabel", len(self.labels)
        if not kept:
            decisions = np.zeros((0, k) if many else 0, dtype=np.int64)
            return Opinion(np.zeros((0, k)), decisions, np.zeros(0, dtype=np.bool_))
        limit = min(self.max_length, int(self._tokenizer.model_max_length))
        ids, offsets = tokenize(self._tokenizer, kept, limit)
        nobody_knows = torch.full((len(kept), k), torch.nan) if many else torch.full((len(kept),), -1)
        pad = self._tokenizer.pad_token_id
        rows = TokenizedRows(
            ids, offsets, nobody_knows, torch.from_numpy(members), torch.from_numpy(scored), 0 if pad is None else int(pad)
        )
        return self._opinion_on(rows)

    def texts_read(self, texts: Sequence[str]) -> list[str]:
        """Returns the n texts as the system reads them, and as their scores are kept: cut to `max_words`.

        Raises:
            DataError: One is no string.
        """
        table = pd.DataFrame({"text": pd.Series(list(texts), dtype=object)})
        return texts_of(table, ["text"], self.max_words, "texts")

    @torch.inference_mode()
    def _opinion_on(self, rows: TokenizedRows) -> Opinion:
        order = evaluation_order(rows.lengths, np.arange(len(rows)))
        logits = torch.empty(len(rows), len(self.labels))
        for start in range(0, len(order), self.batch_size):
            batch = rows[order[start : start + self.batch_size]]
            moved = cast("Batch", {name: tensor.to(self.device) for name, tensor in cast("dict[str, Any]", batch).items()})
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
                logits[batch["index"]] = self.module.outputs(moved).logits.float().cpu()
        return judge_outputs(self.module, Outputs(torch.arange(len(rows)), logits, rows.labels), "predict").system

    def _scores_of(self, texts: list[str], scores: ScoresOf) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(n, M, K) and (n, M) bool, as in `Batch`."""
        shape = (len(texts), len(self.scorers), len(self.labels))
        if scores is None or (not isinstance(scores, (str, os.PathLike)) and not texts):
            return np.zeros(shape, dtype=np.float32), np.zeros(shape[:2], dtype=np.bool_)
        if isinstance(scores, (str, os.PathLike)):
            joined = ScoreSource(os.fspath(scores), self.scorers, "mask").join(texts, self.labels, may_be_strangers=True)
            return joined.scores, joined.scored
        given = np.asarray(scores, dtype=np.float32)
        if given.shape != shape:
            raise ConfigurationError(
                f"scores have the shape {given.shape}; {shape[0]} texts, {shape[1]} scorers {self.scorers} and {shape[2]} "
                f"labels need {shape}. Way out: NaN where a scorer gave none, or None without scores."
            )
        scored = np.asarray(np.isfinite(given).any(-1), dtype=np.bool_)
        checked = np.zeros(shape, dtype=np.float32)
        for m, name in enumerate(self.scorers):
            status = np.where(scored[:, m], Status.SCORED, Status.REFUSED)
            card = ScorerCard(name, tuple(self.labels), self.task, {})
            checked[:, m], _ = checked_rows(card, len(texts), given[:, m], status)
        return checked, scored
