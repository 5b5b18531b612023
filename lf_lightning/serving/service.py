"""What a served model does with texts: batched prediction, then, where it pays, a question to an LLM."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from lf_lightning.callbacks.judging import Opinion, judge_outputs
from lf_lightning.contract import Outputs
from lf_lightning.deferral import Plan
from lf_lightning.errors import BudgetError, ConfigurationError, LFError, ProviderAccessError
from lf_lightning.predictor.deferring import Ask, Deferring, asking
from lf_lightning.predictor.ensemble import Ensemble
from lf_lightning.predictor.predictor import Predictor
from lf_lightning.serving.batching import Batcher
from lf_lightning.serving.metrics import Metrics

ASKED_AT_ONCE = 64
"""Texts that are judged together once the encoder has spoken; the LLM is asked about some of them side by side."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """A text, and what its sender knows of the scorers' opinions.

    Attributes:
        text: Any string.
        scores: (M, K) probabilities, rows of NaN where a scorer gave none; None: nothing is known, and it may be asked.
        with_reason: Whether the model's reason is wanted; only of a service that `explains`.
    """

    text: str
    scores: NDArray[np.float32] | None = None
    with_reason: bool = False


@dataclass(frozen=True)
class Answer:
    """What is said of a text.

    Attributes:
        probabilities: (K,), calibrated.
        decided: Numbers of the labels decided for: one, or multi-label any number.
        asked: The scorers that were asked about it just now.
        answered: Those of them that had an opinion.
        reason: Of the model, where it was wanted.
    """

    probabilities: NDArray[np.float64]
    decided: list[int]
    asked: tuple[str, ...] = ()
    answered: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class _Encoded:
    question: Question
    logits: torch.Tensor
    encoder: torch.Tensor | None


class Service:
    """Answers questions, many callers' together.

    Args:
        predictor: The system, or an ensemble of systems.
        max_batch: Texts at once.
        max_wait: Seconds that a text waits for others, even if the encoder is idle.
        max_queue: Texts that may wait.
        deferring: Who decides which texts a scorer is asked about; None: nobody is asked, as by an ensemble.
        plan: How far to ask.
        ask: Who is asked.

    Raises:
        ConfigurationError: A number is out of range.
    """

    def __init__(
        self,
        predictor: Predictor | Ensemble,
        max_batch: int = 32,
        max_wait: float = 0.0,
        max_queue: int = 1024,
        deferring: Deferring | None = None,
        plan: Plan | None = None,
        ask: Ask | None = None,
    ) -> None:
        check_queue(max_batch, max_wait, max_queue)
        self.predictor, self.deferring, self.plan = predictor, deferring, plan
        self.fingerprint = _fingerprint(predictor)
        self.max_length = predictor.max_length if isinstance(predictor, Predictor) else None
        self.metrics = Metrics()
        self._ask = ask
        self._silent: dict[str, str] = {}
        """Scorers that are not asked any more, and why."""
        self._lock = threading.Lock()
        self._encoding: Batcher[Question, _Encoded | Answer] = Batcher(
            self._encode, max_batch, max_wait, max_queue, self.metrics.batch.observe
        )
        self._judging: Batcher[_Encoded, Answer] = Batcher(self._judge_and_ask, ASKED_AT_ONCE, 0.0, max_queue)

    @property
    def asks(self) -> bool:
        """Whether scorers are asked about some texts."""
        return self.deferring is not None

    @property
    def explains(self) -> bool:
        """Whether an answer can have a reason: of one system that writes them, and asks no scorer."""
        return isinstance(self.predictor, Predictor) and self.predictor.explains and not self.asks

    @property
    def is_ready(self) -> bool:
        """Whether questions are answered."""
        return self._encoding.is_working and self._judging.is_working

    @property
    def waiting(self) -> int:
        """Texts in the queues."""
        return self._encoding.waiting + self._judging.waiting

    def start(self) -> None:
        """Begins; needs a running event loop."""
        self._encoding.start()
        self._judging.start()

    def hurry(self) -> None:
        """Lets no text wait for others any more: the end is near."""
        self._encoding.hurry()

    async def stop(self) -> None:
        """Ends."""
        await self._encoding.stop()
        await self._judging.stop()

    async def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Returns the answers to n questions, in their order.

        Raises:
            QueueFullError: Too many wait already.
        """
        encoded = await self._encoding(questions)
        open_ones = [found for found in encoded if isinstance(found, _Encoded)]
        judged = iter(await self._judging(open_ones))
        return [next(judged) if isinstance(found, _Encoded) else found for found in encoded]

    def _encode(self, questions: list[Question]) -> list[_Encoded | Answer]:
        predictor = self.predictor
        shape = (len(predictor.scorers), len(predictor.labels))
        members = np.full((len(questions), *shape), np.nan, dtype=np.float32)
        for row, question in enumerate(questions):
            if question.scores is not None:
                members[row] = question.scores
        texts = [question.text for question in questions]
        if not self.asks:
            return list(self._answered(questions, texts, members))
        assert isinstance(predictor, Predictor)
        outputs = predictor.outputs(texts, members)
        opinion, own = judge_outputs(predictor.module, outputs, "predict").system, outputs.members["encoder"]
        answers: list[_Encoded | Answer] = list(_answers(opinion))
        for row, question in enumerate(questions):
            if question.scores is None:
                answers[row] = _Encoded(question, outputs.logits[row], own[row])
        return answers

    def _answered(self, questions: list[Question], texts: list[str], members: NDArray[np.float32]) -> list[Answer]:
        """Answers by the model alone. A reason takes longer than an answer, so it is written only where it is wanted."""
        with_reason = np.array([question.with_reason for question in questions])
        answers: dict[int, Answer] = {}
        for wanted in np.unique(with_reason).tolist():
            rows = np.flatnonzero(with_reason == wanted).tolist()
            some, reasons = [texts[row] for row in rows], None
            if wanted:
                assert isinstance(self.predictor, Predictor)
                opinion, reasons = self.predictor.explain(some, members[rows])
            else:
                opinion = self.predictor.opinion(some, members[rows])
            answers.update(zip(rows, _answers(opinion, reasons), strict=True))
        return [answers[row] for row in range(len(questions))]

    def _judge_and_ask(self, encoded: list[_Encoded]) -> list[Answer]:
        assert self.deferring is not None
        assert self.plan is not None
        n, many = len(encoded), self.predictor.task == "multilabel"
        k = len(self.predictor.labels)
        nobody_knows = torch.full((n, k), torch.nan) if many else torch.full((n,), -1)
        own = torch.stack([found.encoder for found in encoded if found.encoder is not None])
        outputs = Outputs(torch.arange(n), torch.stack([found.logits for found in encoded]), nobody_knows, {"encoder": own})
        texts = self.predictor.texts_read([found.question.text for found in encoded])
        talks = np.array([name not in self._silent for name in self.predictor.scorers], dtype=np.bool_)
        rows = asking(self._asked, self.predictor.scorers, texts)
        assert isinstance(self.predictor, Predictor)  # an ensemble asks nobody
        done = self.deferring.on_outputs(outputs, rows, self.plan, stream=True, dtype=self.predictor.dtype)
        names = np.array(self.predictor.scorers, dtype=object)
        return [
            Answer(p, _decided(d), tuple(names[asked & talks]), tuple(names[asked & answered]))
            for p, d, asked, answered in zip(
                done.opinion.probabilities, done.opinion.decisions, done.asked, done.answered, strict=True
            )
        ]

    def _asked(self, name: str, texts: list[str]) -> ArrayLike:
        """Asks; a scorer that cannot answer leaves the texts to the others, and one that may not is not asked again."""
        assert self._ask is not None
        nothing = np.full((len(texts), len(self.predictor.labels)), np.nan)
        if name in self._silent:
            return nothing
        try:
            said = np.asarray(self._ask(name, texts))
        except LFError as error:
            if isinstance(error, (BudgetError, ProviderAccessError, ConfigurationError)):
                with self._lock:
                    self._silent[name] = type(error).__name__
                _log.warning("scorer %r is not asked any more: %s", name, type(error).__name__)
            said = nothing
        answered = int(np.isfinite(said).all(-1).sum())
        self.metrics.llm_calls.labels(name, "yes").inc(answered)
        self.metrics.llm_calls.labels(name, "no").inc(len(texts) - answered)
        return said

    def facts(self) -> dict[str, Any]:
        """What a user may want to know of the model."""
        from lf_lightning import __version__

        predictor = self.predictor
        return {
            "labels": predictor.labels,
            "task": predictor.task,
            "scorers": predictor.scorers,
            "asks_scorers": self.asks and [name for name in predictor.scorers if name not in self._silent] != [],
            "silent_scorers": dict(self._silent),
            "explains": self.explains,
            "expected_share_asked": None
            if self.plan is None
            else dict(zip(predictor.scorers, self.plan.shares.tolist(), strict=True)),
            "fingerprint": self.fingerprint,
            "max_length": self.max_length,
            "max_words": predictor.max_words if isinstance(predictor, Predictor) else None,
            "version": __version__,
            "figures": _figures(predictor),
        }


def check_queue(max_batch: int, max_wait: float, max_queue: int) -> None:
    """Raises ConfigurationError if one of these arguments of `Service` is out of range."""
    for name, value in {"max_batch": max_batch, "max_queue": max_queue}.items():
        if value < 1:
            raise ConfigurationError(f"{name}={value}: give at least 1.")
    if not max_wait >= 0:
        raise ConfigurationError(f"max_wait={max_wait}: give 0 or more seconds.")


def _fingerprint(predictor: Predictor | Ensemble) -> str | None:
    """SHA-256 of what was loaded; None of what was made in this process."""
    if isinstance(predictor, Predictor):
        return None if predictor.source is None else predictor.source.sha256()
    members = [_fingerprint(member) for member in predictor.members if isinstance(member, (Predictor, Ensemble))]
    if None in members or len(members) < len(predictor.members):
        return None
    digest = sha256(repr((members, predictor.labels, type(predictor.head).__name__)).encode())
    for name, tensor in predictor.modules().state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _figures(predictor: Predictor | Ensemble) -> Mapping[str, Any]:
    if isinstance(predictor, Ensemble):
        return {"validation": predictor.figures}
    return {} if predictor.source is None else predictor.source.origin["figures"]


def _answers(opinion: Opinion, reasons: list[str] | None = None) -> list[Answer]:
    told = [None] * len(opinion.known) if reasons is None else reasons
    return [
        Answer(p, _decided(d), reason=reason)
        for p, d, reason in zip(opinion.probabilities, opinion.decisions, told, strict=True)
    ]


def _decided(decision: Any) -> list[int]:
    found = np.asarray(decision)
    return [int(found)] if found.ndim == 0 else np.flatnonzero(found > 0).tolist()
