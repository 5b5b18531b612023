"""Asking the LLMs: what it will cost, said before; a bar; and every score in a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lf_lightning.auto.quiet import quiet
from lf_lightning.contract import Task
from lf_lightning.errors import BudgetError, ConfigurationError, DataError, LFError
from lf_lightning.scoring.base import Scorer
from lf_lightning.scoring.engines.local import score_here
from lf_lightning.scoring.gateway.answers import NANO, Estimate
from lf_lightning.scoring.llm import LLMScorer
from lf_lightning.store import ScorerCard, ScoreStore, Status

Tell = Callable[[str], object]
Missing = Literal["error", "mask"]


def ask_all(
    scorers: Sequence[Scorer],
    texts: Sequence[str],
    store: ScoreStore,
    max_cost: float | None,
    on_missing: Missing,
    tell: Tell,
    tell_all: bool,
) -> float:
    """Has each scorer score the texts that are not in the store yet; what was paid for before is read from its cache.

    Args:
        scorers: Who is asked.
        texts: Equal ones are asked about once.
        store: Where scores go.
        max_cost: USD that the replies in the response cache may have cost altogether; None: no limit.
        on_missing: Whether a text without an answer is an error, or is left to the others.
        tell: Told each line for people.
        tell_all: Whether that is worth a line which costs nothing.

    Returns:
        What it cost now, in USD.

    Raises:
        ConfigurationError: Two of them are one.
        BudgetError: It would cost, or has cost, more than `max_cost`, and `on_missing` is error; what was answered is kept.
        ProviderAccessError: No key, or one that is not accepted.
        DataError: A scorer did not answer everything, under `on_missing` error.
    """
    paid = 0.0
    asked: set[str] = set()
    for scorer in scorers:
        scorer.max_cost = max_cost
        before = _spent(scorer)
        if scorer.card.fingerprint in asked:
            raise ConfigurationError(f"llm_provider names {scorer.card.name!r} twice: it would say the same. Way out: once.")
        asked.add(scorer.card.fingerprint)
        todo = [texts[place] for place in store.missing(scorer.card, texts)]
        if not todo:
            continue
        estimate = scorer.estimate(todo)
        if tell_all or (estimate is not None and estimate.to_ask):
            tell(_plan(scorer, len(todo), estimate))
        _refuse_too_dear(scorer, estimate, max_cost, before, on_missing)
        with quiet():
            halt = _ask(scorer, todo, store)
        now = (_spent(scorer) - before) / NANO
        paid += now
        _conclude(scorer, todo, store, halt, on_missing, now, tell)
    return paid


def require_some(scorers: Sequence[Scorer], store: ScoreStore) -> None:
    """Raises unless each scorer has a score for some text: a fit could learn nothing of it.

    Raises:
        DataError: One has none.
    """
    for scorer in scorers:
        fingerprint = scorer.card.fingerprint
        if fingerprint not in store.cards or not store.counts(fingerprint)[Status.SCORED]:
            raise DataError(
                f"{scorer.card.name}: not one text got a score. Way out: another llm_model or mode; a higher max_cost if that "
                "stopped it; lf score shows what came back."
            )


def keep_given(scores: Any, texts: Sequence[str], labels: Sequence[str], task: Task, store: ScoreStore) -> list[str]:
    """Puts scores that one already has into a store, and returns the names of the scorers.

    Args:
        scores: (n, M, K), or (n, K) of one scorer: probabilities, NaN where one gave none. Of equal texts the first counts.
        texts: n texts.
        labels: K label names, in the order of the columns.
        task: Multi-class or multi-label.
        store: An empty one.

    Raises:
        ConfigurationError: Another shape.
        DataError: Values that are no probabilities.
    """
    values = np.asarray(scores, dtype=np.float32)
    values = values[:, None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[0] != len(texts) or values.shape[2] != len(labels):
        raise ConfigurationError(
            f"scores have the shape {np.shape(scores)}; {len(texts)} texts and {len(labels)} labels need "
            f"({len(texts)}, scorers, {len(labels)}). Way out: NaN where a scorer gave none, or the folder of a score store."
        )
    first = list({text: place for place, text in reversed(list(enumerate(texts)))}.values())
    names = ["llm"] if values.shape[1] == 1 else [f"llm_{m + 1}" for m in range(values.shape[1])]
    for m, name in enumerate(names):
        own = values[first, m]
        status = np.where(np.isfinite(own).any(1), Status.SCORED, Status.REFUSED)
        card = ScorerCard(name, tuple(labels), task, {"scorer": "given", "position": m})
        store.append(card, [texts[place] for place in first], own, status)
    return names


def scores_from(store: ScoreStore, scorers: Sequence[Scorer], texts: Sequence[str], labels: Sequence[str]) -> NDArray[Any]:
    """Returns (n, M, K) float32, NaN where a scorer gave none."""
    values = np.full((len(texts), len(scorers), len(labels)), np.nan, dtype=np.float32)
    for m, scorer in enumerate(scorers):
        fingerprint = scorer.card.fingerprint
        if fingerprint in store.cards:
            joined = store.join(texts, [fingerprint], labels)
            values[:, m] = np.where(joined.scored[:, :1], joined.scores[:, 0], np.nan)
    return values


def _plan(scorer: Scorer, count: int, estimate: Estimate | None) -> str:
    name, texts = scorer.card.name, f"{count:,} text{'s' if count > 1 else ''}"
    if estimate is None:
        return f"{name}: {texts} to score, which costs nothing"
    if not estimate.to_ask:
        return f"{name}: {texts}, answered before; nothing to pay"
    known = f", {estimate.cached:,} replies are there" if estimate.cached else ""
    price = (
        "the price is not known"
        if estimate.cost_usd is None or estimate.upper_bound_usd is None
        else f"about ${_money(estimate.cost_usd)}, at most ${_money(estimate.upper_bound_usd)}"
    )
    where = f"; replies are kept in {scorer.gateway.ledger.folder}" if isinstance(scorer, LLMScorer) else ""
    return f"{name}: {texts}, {estimate.to_ask:,} to ask{known}: {price}{where}"


def _refuse_too_dear(
    scorer: Scorer, estimate: Estimate | None, max_cost: float | None, spent: int, on_missing: Missing
) -> None:
    if estimate is None or estimate.cost_usd is None or max_cost is None or on_missing == "mask":
        return
    if estimate.cost_usd + spent / NANO > max_cost:
        before = f", and ${_money(spent / NANO)} were spent before" if spent else ""
        raise BudgetError(
            f"max_cost={max_cost:g}: {scorer.card.name!r} would cost about ${_money(estimate.cost_usd)}{before}. Nothing was "
            "asked. Way out: a higher max_cost; or on_missing='mask', and the encoder decides texts without an answer."
        )


def _ask(scorer: Scorer, texts: list[str], store: ScoreStore) -> LFError | None:
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    halt = None
    with Progress(*columns, TextColumn("{task.fields[said]}"), console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(scorer.card.name, total=len(texts), said="")
        scorer.watch = lambda said: progress.update(task, said=said)
        with closing(score_here(scorer, texts, None, lambda done: progress.advance(task, done))) as parts:
            for shard, scores in parts:
                halt = scores.halt or halt
                scores.keep_in(store, scorer.card, shard)
        scorer.watch = None
    return halt


def _conclude(
    scorer: Scorer, texts: list[str], store: ScoreStore, halt: LFError | None, on_missing: Missing, paid: float, tell: Tell
) -> None:
    name = scorer.card.name
    there = scorer.card.fingerprint in store.cards
    absent = len(store.missing(scorer.card, texts)) if there else len(texts)
    scored = int(store.join(texts, [scorer.card.fingerprint], scorer.card.labels).scored.sum()) if there else 0
    if halt is not None and (on_missing == "error" or not isinstance(halt, BudgetError)):
        raise halt
    if absent and on_missing == "error":
        raise DataError(
            f"{name}: {absent} of {len(texts)} texts got no answer. Way out: once more, as what was answered is kept and only "
            "the rest is asked; or on_missing='mask', and the encoder decides them."
        )
    lacking = len(texts) - scored
    unread = f"; {lacking:,} have no score, there the encoder decides" if lacking else ""
    cost = f", ${_money(paid)} paid" if paid else ""
    if lacking or paid:
        tell(f"{name}: {scored:,} texts scored{cost}{unread}")


def _spent(scorer: Scorer) -> int:
    """Nanodollars that the scorer's response cache has cost, over all runs."""
    if not isinstance(scorer, LLMScorer):
        return 0
    ledger = scorer.gateway.ledger
    try:
        return ledger.total().spent
    finally:
        ledger.close()


def _money(dollars: float) -> str:
    return f"{dollars:.2f}" if dollars >= 1 else f"{dollars:.4f}"
