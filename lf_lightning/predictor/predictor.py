"""`Predictor`: texts in, calibrated probabilities and decisions out, as `lf predict` gives them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from lf_lightning.callbacks.judging import Opinion, judge_outputs
from lf_lightning.contract import Batch, Outputs
from lf_lightning.data.batches import TokenizedRows
from lf_lightning.data.sampling import evaluation_order
from lf_lightning.data.scores import ScoreSource
from lf_lightning.data.texts import texts_of
from lf_lightning.data.tokenizer import load_tokenizer, tokenize
from lf_lightning.encoders import TextEncoder
from lf_lightning.errors import ConfigurationError
from lf_lightning.predictor.answering import Answering, ScoresOf
from lf_lightning.predictor.fitted_run import FittedRun
from lf_lightning.predictor.saved import SavedModel, find_fitted
from lf_lightning.predictor.saving import save
from lf_lightning.scoring.models import device_of
from lf_lightning.store import ScorerCard, Status
from lf_lightning.store.checks import checked_rows
from lf_lightning.systems.base import ClassifierModule
from lf_lightning.systems.rationales import WritesReasons

DType = Literal["float32", "bfloat16", "float16"]


def arithmetic(device: torch.device, dtype: DType) -> torch.autocast:
    """Returns the context in which a system of that `dtype` computes."""
    low = torch.float16 if dtype == "float16" else torch.bfloat16
    return torch.autocast(device.type, low, enabled=dtype != "float32")


_CPU_TOKENS = 1024
"""Of a batch on the CPU: measured, larger ones are no faster, and their pages are given back and fetched anew each time."""


class Predictor(Answering):
    """A fitted system that answers for texts, in batches of similar length, without a Trainer.

    Args:
        module: The system, fitted and loaded; it is moved to the device and put into evaluation mode.
        tokenizer: Name of the encoder's tokenizer, or the tokenizer.
        max_length: Tokens kept of each text.
        max_words: Words kept of each text, None for all; as in the data that the system was fitted on.
        batch_size: Texts at once, at most; changes speed and memory, not answers.
        dtype: bfloat16, float16: the arithmetic of trainer.precision bf16-mixed, 16-mixed.
        device: auto, cpu, cuda, cuda:1, mps.
        compile: Compile the encoder with torch.compile: the first texts take a minute, later ones less time.

    Raises:
        ConfigurationError: A number is below 1, the tokenizer cannot be loaded, or there is no C++ compiler to compile with.
    """

    def __init__(
        self,
        module: ClassifierModule,
        tokenizer: Any,
        max_length: int,
        max_words: int | None = None,
        batch_size: int = 64,
        dtype: DType = "float32",
        device: str = "auto",
        compile: bool = False,
    ) -> None:
        for name, number in {"max_length": max_length, "max_words": max_words, "batch_size": batch_size}.items():
            if number is not None and number < 1:
                raise ConfigurationError(f"{name}={number}: give at least 1.")
        self.device = device_of(device)
        self.module = module.eval().to(self.device)
        self.labels, self.task = list(module.labels), module.task
        self.scorers = list(getattr(module, "scorers", ()))
        self.max_length, self.max_words, self.batch_size, self.dtype = max_length, max_words, batch_size, dtype
        self.tokenizer: Any = load_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer
        self.source: FittedRun | SavedModel | None = None
        """Where `of_run` found it."""
        if compile:
            _compile_encoders(self.module, self.device)

    @classmethod
    def of_run(
        cls,
        run: str | os.PathLike[str],
        checkpoint: str = "best",
        batch_size: int = 64,
        dtype: DType = "float32",
        device: str = "auto",
        compile: bool = False,
    ) -> Predictor:
        """Returns the predictor of a run or a saved folder: system, calibrators and decision rule, texts as in its config.

        Args:
            run: Folder that `lf fit` wrote, a file in its `checkpoints`, or a folder that `save` wrote.
            checkpoint: `best` or `last`, where `run` is a run's folder.
            batch_size: See the class.
            dtype: See the class.
            device: See the class.
            compile: See the class.

        Raises:
            ConfigurationError: There is no such run, or it names a class that is not allowed.
            DataError: It is damaged, changed, or holds more than tensors and plain values; nothing in it was run.
        """
        found = find_fitted(run, checkpoint)
        made = cls(found.load(), found.tokenizer, found.max_length, found.max_words, batch_size, dtype, device, compile)
        made.source = found
        return made

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes all that it takes to answer into a folder, for `of_run`: safetensors, JSON, tokenizer files, no pickle.

        Any process with this package loads it, without a network, the training data or the run, and gives the same
        probabilities bit for bit. `dtype`, `device` and `batch_size` are the loading predictor's own.

        Args:
            folder: New, or empty.

        Raises:
            ConfigurationError: There is something in it, or it cannot be written.
        """
        origin = {} if self.source is None else self.source.origin
        save(folder, self.module, self.tokenizer, self.max_length, self.max_words, origin)

    def export_onnx(self, file: str | os.PathLike[str]) -> None:
        """Writes encoder, head and calibrator as an ONNX graph with any number of rows and tokens.

        Inputs: `input_ids` and `attention_mask` (rows, tokens) int64, `scores` (rows, M, K) float32 in [0, 1], `scored`
        (rows, M) bool. Outputs: calibrated `probabilities` (rows, K) and `logits` before calibration, float32. The decision
        rule is not part of it.

        Args:
            file: By custom `*.onnx`.

        Raises:
            MissingDependencyError: The extra `onnx` is not installed.
            ConfigurationError: A part has no ONNX form, or the file cannot be written.
        """
        if self.device.type != "cpu":
            raise ConfigurationError(f"device={str(self.device)!r}: a graph is made on the CPU. Way out: device='cpu'.")
        from lf_lightning.predictor.onnx import export_onnx

        export_onnx(file, self.module, len(self.scorers))

    def opinion(self, texts: Sequence[str], scores: ScoresOf = None) -> Opinion:
        """Returns probabilities and decisions of n texts in one pass.

        Args:
            texts: As for `predict_proba`.
            scores: As for `predict_proba`.
        """
        return self._judged(self.outputs(texts, scores))

    def explain(self, texts: Sequence[str], scores: ScoresOf = None) -> tuple[Opinion, list[str]]:
        """Returns probabilities and decisions of n texts, and beside each the reason that the system writes for it.

        In the layout `reason_label` the reason comes first and the label follows from it; in the others it is written
        afterwards, for people.

        Args:
            texts: As for `predict_proba`.
            scores: As for `predict_proba`.

        Raises:
            ConfigurationError: The system writes no reasons.
        """
        module = self.module
        if not (isinstance(module, WritesReasons) and module.explains):
            raise ConfigurationError(
                f"explain: {type(module).__name__} has not learnt to write reasons. Way out: predict and predict_proba; or a "
                "ReasoningLightningModule of another layout than label."
            )
        outputs = self._outputs_of(texts, scores, module.explained)
        return self._judged(outputs), self.reasons_of(outputs) or []

    @property
    def explains(self) -> bool:
        """Whether the system writes reasons, so that `explain` gives them."""
        return isinstance(self.module, WritesReasons) and self.module.explains

    def outputs(self, texts: Sequence[str], scores: ScoresOf = None, reasons: bool = False) -> Outputs:
        """Returns the logits of n texts before calibration, the members' among them, on the CPU.

        Args:
            texts: As for `predict_proba`.
            scores: As for `predict_proba`.
            reasons: With `rationales`, where `lf predict` has them.
        """
        of = (lambda batch: self.module.predict_step(batch, 0)) if reasons else self.module.outputs
        return self._outputs_of(texts, scores, of)

    def reasons_of(self, outputs: Outputs) -> list[str] | None:
        """Returns the reasons (n,) of outputs in words, None where there are none."""
        if outputs.rationales is None or not isinstance(self.module, WritesReasons):
            return None
        return self.module.rationale_texts(outputs.rationales)

    def _judged(self, outputs: Outputs) -> Opinion:
        if not len(outputs.index):
            decisions = np.zeros(outputs.labels.shape, dtype=np.int64)
            return Opinion(np.zeros((0, len(self.labels))), decisions, np.zeros(0, dtype=np.bool_))
        return judge_outputs(self.module, outputs, "predict").system

    def _outputs_of(self, texts: Sequence[str], scores: ScoresOf, of: Callable[[Batch], Outputs]) -> Outputs:
        kept = self.texts_read(texts)
        members, scored = self._scores_of(kept, scores)
        many, k = self.task == "multilabel", len(self.labels)
        if not kept:
            nothing = {name: torch.zeros(0, k) for name in self.module.member_names}
            return Outputs(torch.zeros(0, dtype=torch.int64), torch.zeros(0, k), torch.zeros((0, k) if many else 0), nothing)
        limit = min(self.max_length, int(self.tokenizer.model_max_length))
        ids, offsets = tokenize(self.tokenizer, kept, limit)
        nobody_knows = torch.full((len(kept), k), torch.nan) if many else torch.full((len(kept),), -1)
        pad = self.tokenizer.pad_token_id
        rows = TokenizedRows(
            ids, offsets, nobody_knows, torch.from_numpy(members), torch.from_numpy(scored), 0 if pad is None else int(pad)
        )
        return self._outputs_on(rows, of)

    def texts_read(self, texts: Sequence[str]) -> list[str]:
        """Returns the n texts as the system reads them, and as their scores are kept: cut to `max_words`.

        Raises:
            DataError: One is no string.
        """
        table = pd.DataFrame({"text": pd.Series(list(texts), dtype=object)})
        return texts_of(table, ["text"], self.max_words, "texts")

    @torch.inference_mode()
    def _outputs_on(self, rows: TokenizedRows, of: Callable[[Batch], Outputs]) -> Outputs:
        order = evaluation_order(rows.lengths, np.arange(len(rows)))
        logits = torch.empty(len(rows), len(self.labels))
        members: dict[str, torch.Tensor] = {}
        reasons: torch.Tensor | None = None
        start = 0
        while start < len(order):
            size = self.batch_size
            if self.device.type == "cpu":
                size = min(size, max(1, _CPU_TOKENS // max(1, int(rows.lengths[order[start]]))))  # the longest comes first
            batch = rows[order[start : start + size]]
            start += size
            moved = cast("Batch", {name: tensor.to(self.device) for name, tensor in cast("dict[str, Any]", batch).items()})
            with arithmetic(self.device, self.dtype):
                out = of(moved)
            logits[batch["index"]] = out.logits.float().cpu()
            for name, said in out.members.items():
                members.setdefault(name, torch.empty_like(logits))[batch["index"]] = said.float().cpu()
            if out.rationales is not None:
                if reasons is None:
                    reasons = out.rationales.new_full((len(rows), out.rationales.shape[1]), -1, device="cpu")
                reasons[batch["index"]] = out.rationales.cpu()
        return Outputs(torch.arange(len(rows)), logits, rows.labels, members, reasons)

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


def _compile_encoders(module: ClassifierModule, device: torch.device) -> None:
    if device.type == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler as error:
            raise ConfigurationError("compile=True needs a C++ compiler, and there is none. Way out: install g++.") from error
    for part in module.modules():
        if isinstance(part, TextEncoder):
            part.model.compile(dynamic=True)  # batches differ in rows and tokens
