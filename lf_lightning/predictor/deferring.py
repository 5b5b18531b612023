"""Asking scorers only where it pays: which texts, whom, and what the fusion says then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lf_lightning.callbacks.judging import Opinion, judge_outputs
from lf_lightning.contract import Outputs
from lf_lightning.deferral import Plan, plan_for
from lf_lightning.deferral.plan import checked_prices
from lf_lightning.errors import ConfigurationError, NotFittedError
from lf_lightning.metrics import decide
from lf_lightning.metrics.decisions import right_rows
from lf_lightning.predictor.answering import ScoresOf
from lf_lightning.predictor.predictor import DType, Predictor, arithmetic
from lf_lightning.scoring.base import Scorer
from lf_lightning.store import Status
from lf_lightning.systems.fusion import FusionLightningModule

Ask: TypeAlias = Callable[[str, list[str]], ArrayLike]
"""Asks a scorer, by its name, about n texts: (n, K) probabilities in the system's order of labels, NaN without an opinion."""

AskRows: TypeAlias = Callable[[int, NDArray[np.int64]], ArrayLike]
"""The same by the scorer's number and the numbers of the texts; see `asking` and `looking_up`."""


@dataclass(frozen=True)
class Deferred:
    """What was answered, and who was asked.

    Attributes:
        opinion: Probabilities and decisions of the n texts.
        asked: (n, M) bool, whether each scorer was asked about each text.
        answered: (n, M) bool, whether it then had an opinion.
        plan: What was planned.
        expected_cost: Of the n texts, in the unit of the prices.
        outputs: The logits behind `opinion`, and the members' as far as they were asked.
    """

    opinion: Opinion
    asked: NDArray[np.bool_]
    answered: NDArray[np.bool_]
    plan: Plan
    expected_cost: float
    outputs: Outputs


class Deferring:
    """A fitted fusion that asks its scorers, in their order, about as many texts as a plan allows, the most worthwhile first.

    Args:
        module: The fusion, fitted with validation rows.
        prices: Of one question to each scorer, in USD or any unit; None: 1 each.

    Raises:
        ConfigurationError: It has no scorer to ask, or the prices are not one for each.
        NotFittedError: Its deferral was not fitted.
    """

    def __init__(self, module: Any, prices: Sequence[float] | None = None) -> None:
        if not isinstance(module, FusionLightningModule) or module.deferral is None:
            raise ConfigurationError(f"{type(module).__name__} has no scorers that it could ask about some texts only.")
        if not (module.deferral.is_fitted and module.validation_rows.is_fitted):
            raise NotFittedError(
                "the deferral of this system was not fitted: it is of an older version, its fit had no validation rows, or its "
                "head has use_representation=True. Way out: lf fit again, with validation rows."
            )
        self.module = module
        self.prices = checked_prices([1.0] * len(module.scorers) if prices is None else prices, len(module.scorers))

    def plan(
        self,
        budget: float | None = None,
        max_cost: float | None = None,
        target_accuracy: float | None = None,
        texts: int | None = None,
    ) -> Plan:
        """Returns the plan of one wish out of three.

        Args:
            budget: Share of what asking everybody about every text costs, in [0, 1]; with one scorer the share of texts.
            max_cost: Most that all texts may cost together, in the unit of the prices.
            target_accuracy: In [0, 1]; the cheapest plan that reaches it on the validation rows.
            texts: How many there are, for `max_cost`.

        Raises:
            ConfigurationError: Not exactly one wish, one out of range, or an accuracy that is not reached.
        """
        if max_cost is not None and not texts:
            raise ConfigurationError(f"max_cost={max_cost} is for a number of texts: give texts.")
        cost = None if max_cost is None or not texts else max_cost / texts
        _, right, values = validated(self.module)
        return plan_for(values, right, self.prices.tolist(), budget, cost, target_accuracy)

    def answer(
        self, predictor: Predictor, texts: Sequence[str], scores: Ask | ScoresOf, plan: Plan, stream: bool = False
    ) -> Deferred:
        """Returns the answers to n texts.

        Args:
            predictor: Of the same system; it reads and encodes the texts.
            texts: Any strings.
            scores: Who is asked: a function, a store's folder, or (n, M, K) probabilities of which the asked ones are read.
            plan: Of `plan`.
            stream: Whether these are a few texts of many: then each is decided by itself, and the budget kept on average.

        Raises:
            ConfigurationError: What was asked gave another shape.
        """
        kept = predictor.texts_read(texts)
        if callable(scores):
            ask_rows = asking(scores, self.module.scorers, kept)
        else:
            given, there = predictor._scores_of(kept, scores)
            ask_rows = looking_up(given, there)
        return self.on_outputs(predictor.outputs(texts), ask_rows, plan, stream, predictor.dtype)

    @torch.inference_mode()
    def on_outputs(
        self, outputs: Outputs, ask: AskRows, plan: Plan, stream: bool = False, dtype: DType = "float32"
    ) -> Deferred:
        """Returns the answers to n texts of which the encoder's logits are known.

        Args:
            outputs: Of the system; of its members only the encoder is read.
            ask: Who is asked.
            plan: Of `plan`.
            stream: See `answer`.
            dtype: The predictor's.
        """
        module, n, device = self.module, len(outputs.index), self.module.device
        own = outputs.members.get("encoder", outputs.logits).to(device)  # of no text there are no members
        scores = torch.zeros(n, len(self.prices), len(module.labels), device=device)
        scored = torch.zeros(n, len(self.prices), dtype=torch.bool, device=device)
        asked = np.zeros((n, len(self.prices)), dtype=np.bool_)
        left, rates = np.arange(n), np.full(n, np.inf)
        with arithmetic(device, dtype):
            for m in range(len(module.scorers)):
                left, rates = self._chosen(m, left, rates, n, plan, stream, own, scores, scored)
                if not len(left):
                    break
                asked[left, m] = True
                said = _checked(ask(m, left), (len(left), len(module.labels)), module.scorers[m])
                scores[left, m] = said.nan_to_num(0.0).to(device)
                scored[left, m] = said.isfinite().all(-1).to(device)
            members, present = module.opinions_of(own, scores, scored)
            assert module.head is not None
            logits = module.head(members, present, members.new_empty(n, 0)).float().cpu()
        named = {"encoder": own.cpu()}
        for m, name in enumerate(module.scorers, start=1):
            named[name] = members[:, m].masked_fill(~present[:, [m]], torch.nan).float().cpu()
        result = Outputs(outputs.index, logits, outputs.labels, named)
        opinion = judge_outputs(module, result, "predict").system if n else _nothing(module)
        cost = float(plan.shares @ self.prices) * n
        return Deferred(opinion, asked, scored.cpu().numpy(), plan, cost, result)

    def _chosen(
        self,
        m: int,
        left: NDArray[np.int64],
        rates: NDArray[np.float64],
        n: int,
        plan: Plan,
        stream: bool,
        own: Tensor,
        scores: Tensor,
        scored: Tensor,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Which of the texts `left` scorer m is asked about, and the rates of those."""
        assert self.module.deferral is not None
        number = int(plan.shares[m] * n + 1e-6)
        if len(left) == 0 or (not stream and number == 0):
            return left[:0], rates[:0]
        if plan.shares[m] >= 1:
            return left, rates
        members, present = self.module.opinions_of(own[left], scores[left], scored[left])
        worth = self.module.deferral.values(m, members, present, self.module.probabilities_of)
        rates = np.minimum(rates, worth.double().cpu().numpy() / self.prices[m])
        taken = np.flatnonzero(rates >= plan.rate) if stream else np.sort(np.argsort(-rates, kind="stable")[:number])
        return left[taken], rates[taken]


def ask_scorers(scorers: Sequence[Scorer], labels: Sequence[str]) -> Ask:
    """Returns a function that asks live scorers, by the names on their cards.

    Args:
        scorers: Who can be asked.
        labels: The system's label names in order.

    Raises:
        ConfigurationError: A scorer has other labels; or, when asked, a name that none of them has.
        LFError: When asked: why a scorer stopped (`max_cost` reached, no key). What was paid for is kept.
    """
    by_name = {scorer.card.name: scorer for scorer in scorers}
    for name, scorer in by_name.items():
        if sorted(scorer.card.labels) != sorted(labels):
            raise ConfigurationError(f"scorer {name!r} has the labels {list(scorer.card.labels)}, the system {list(labels)}.")

    def ask(name: str, texts: list[str]) -> NDArray[np.float64]:
        if name not in by_name:
            raise ConfigurationError(f"nobody to ask: the system has the scorer {name!r}, and given are {sorted(by_name)}.")
        found = by_name[name].score(texts)
        if found.halt is not None:
            raise found.halt
        columns = [list(by_name[name].card.labels).index(label) for label in labels]
        said = found.probabilities[:, columns].astype(np.float64)
        said[found.status != Status.SCORED] = np.nan
        return said

    return ask


def asking(ask: Ask, scorers: Sequence[str], texts: Sequence[str]) -> AskRows:
    """Returns `ask` by the numbers of scorers and texts."""
    return lambda m, rows: ask(scorers[m], [texts[row] for row in rows])


def looking_up(scores: NDArray[np.float32], scored: NDArray[np.bool_]) -> AskRows:
    """Returns a function that answers from probabilities (n, M, K), where they are scored (n, M)."""
    given = np.where(scored[..., None], scores, np.nan)
    return lambda m, rows: given[rows, m]


def validated(
    module: FusionLightningModule,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Returns what a system says of its validation rows: probabilities (M + 1, n, K), right (n, M + 1), values (n, M).

    Raises:
        NotFittedError: There were none at the fit.
    """
    probabilities, labels, values = module.validation_rows.arrays()
    right = [right_rows(decisions_of(module, p), labels) for p in probabilities]
    return probabilities, np.stack(right, 1), values


def decisions_of(module: FusionLightningModule, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns the system's decisions on calibrated probabilities (n, K), by its tuned rule if it has one."""
    if module.decision is None:
        return decide(probabilities, module.task)
    made: NDArray[np.int64] = module.decision.decide(torch.from_numpy(probabilities).float().to(module.device)).cpu().numpy()
    return made


def _checked(said: ArrayLike, shape: tuple[int, int], name: str) -> Tensor:
    found = np.asarray(said, dtype=np.float32)
    if found.shape != shape:
        raise ConfigurationError(f"asked about {shape[0]} texts, scorer {name!r} gave the shape {found.shape}, not {shape}.")
    return torch.from_numpy(np.array(found))


def _nothing(module: FusionLightningModule) -> Opinion:
    k = len(module.labels)
    empty = np.zeros((0, k) if module.task == "multilabel" else 0, dtype=np.int64)
    return Opinion(np.zeros((0, k)), empty, np.zeros(0, dtype=np.bool_))
