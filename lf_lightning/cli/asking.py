"""`lf predict` with a budget for calls or with promises: the scorers asked where it pays, and what is written about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from lf_lightning.callbacks import WritePredictions
from lf_lightning.callbacks.judging import judge, original_rows, texts_of
from lf_lightning.callbacks.predictions import prediction_columns
from lf_lightning.cli import configs, take_option
from lf_lightning.cli.score import score_table
from lf_lightning.cli.secret_check import refuse_secrets
from lf_lightning.contract import RowsData
from lf_lightning.errors import ConfigurationError
from lf_lightning.predictor.deferring import AskRows, Deferred, Deferring, ask_scorers, asking, looking_up
from lf_lightning.predictor.promises import Promises, depths_of, names_of, of_deferred
from lf_lightning.results.predictions import write_table
from lf_lightning.scoring.base import Scorer

_NANO = 1e9


class Wishes(NamedTuple):
    """What `lf predict` was asked for beside predictions.

    Attributes:
        budget: Share of the cost of asking every scorer about every text.
        max_cost: USD for all texts.
        target_accuracy: Asked for, on validation rows.
        prices: USD of one question to each scorer, None if unknown.
        scorers: Configs of live scorers; none: the store is read.
        coverage: Of prediction sets.
        max_error: Of the answers given.
    """

    budget: float | None
    max_cost: float | None
    target_accuracy: float | None
    prices: list[float] | None
    scorers: list[str]
    coverage: float | None
    max_error: float | None

    @property
    def defers(self) -> bool:
        """Whether not every scorer is to be asked about every text."""
        return any(wish is not None for wish in (self.budget, self.max_cost, self.target_accuracy)) or bool(self.scorers)

    def callback(self, own: Sequence[Callback]) -> list[Callback]:
        """Returns the config's callbacks, the writer of predictions replaced by one that fulfils these wishes."""
        if not (self.defers or self.coverage is not None or self.max_error is not None):
            return list(own)
        writers = [callback for callback in own if isinstance(callback, WritePredictions)]
        writer = writers[-1] if writers else WritePredictions()
        return [*(callback for callback in own if callback not in writers), WritePromises(self, writer.format, writer.texts)]


def wishes_of(argv: Sequence[str]) -> tuple[list[str], Wishes]:
    """Takes the options of `Wishes` out of a command line, and returns the rest.

    Raises:
        ConfigurationError: A value that is no number.
    """
    words = list(argv)

    def take(option: str) -> str | None:
        nonlocal words
        words, value = take_option(words, option)
        return value

    def number(option: str) -> float | None:
        value = take(option)
        return None if value is None else _number(option, value)

    budget, max_cost, target = number("--llm-budget"), number("--max-cost"), number("--target-accuracy")
    prices, scorers = take("--llm-price"), take("--scorer")
    wishes = Wishes(
        budget,
        max_cost,
        target,
        None if prices is None else [_number("--llm-price", value) for value in prices.split(",")],
        [] if scorers is None else scorers.split(","),
        number("--coverage"),
        number("--max-error"),
    )
    if wishes.defers and not any("on_missing" in word for word in words):
        words.append("--data.on_missing=mask")  # what is not asked about is not scored
    return words, wishes


class WritePromises(WritePredictions):
    """Writes `predictions.csv` of `lf predict` with whom was asked, the prediction set, and whether to answer.

    Args:
        wishes: What was asked for.
        format: csv or parquet.
        texts: Whether to write the texts.
    """

    def __init__(self, wishes: Wishes, format: Any, texts: bool) -> None:
        super().__init__(format, texts)
        self.wishes = wishes

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Asks, writes and tells."""
        system: Any = pl_module
        outputs = system.evaluated.get("predict")
        if not trainer.is_global_zero or outputs is None or not len(outputs.index):
            return
        deferred: Deferred | None = None
        if self.wishes.defers:
            deferred, told = self._defer(trainer, system, outputs)
            system.evaluated["predict"] = deferred.outputs
        judged = judge(pl_module, "predict")
        assert judged is not None
        columns = prediction_columns(
            judged,
            original_rows(trainer, "predict", judged.index),
            texts_of(trainer, "predict", judged.index) if self.texts else None,
        )
        if deferred is not None:
            for m, name in enumerate(system.scorers):
                columns[f"asked_{name}"] = deferred.asked[:, m].tolist()
            sets, answered = of_deferred(system, deferred, self.wishes.coverage, self.wishes.max_error)
        else:
            sets, answered = self._promised(system, judged.system)
        if sets is not None:
            columns["prediction_set"] = ["|".join(names) for names in names_of(sets, judged.system, judged.labels)]
        if answered is not None:
            columns["answered"] = answered.tolist()
        path = Path(trainer.default_root_dir) / f"predictions.{self.format}"
        write_table(path, columns)
        lines = told if deferred is not None else []
        for line in [*lines, *_promise_lines(self.wishes, sets, answered), f"{len(judged.index)} rows predicted: {path}"]:
            print(line)

    def _defer(self, trainer: Trainer, system: Any, outputs: Any) -> tuple[Deferred, list[str]]:
        wishes, n = self.wishes, len(outputs.index)
        scorers = [_scorer_of(name) for name in wishes.scorers]
        ask: AskRows
        texts: list[str] = []
        if scorers:
            texts = texts_of(trainer, "predict", outputs.index.numpy()) or []
            if not texts:
                raise ConfigurationError(f"--scorer {wishes.scorers[0]}: this data module cannot tell its texts.")
            ask = asking(ask_scorers(scorers, system.labels), system.scorers, texts)
        else:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            if not isinstance(data, RowsData):
                raise ConfigurationError(f"--llm-budget: {type(data).__name__} cannot tell the scores of its rows.")
            scores, scored, _ = data.scores_and_labels("predict")
            ask = looking_up(scores[outputs.index].numpy(), scored[outputs.index].numpy())
        prices = wishes.prices or _prices(scorers, system.scorers, texts)
        if wishes.max_cost is not None and prices is None:
            raise ConfigurationError("--max-cost: what a call costs is not known. Way out: --llm-price USD (of one call).")
        deferring = Deferring(system, prices)
        wished = wishes.budget, wishes.max_cost, wishes.target_accuracy
        plan = deferring.plan(*(wished if any(wish is not None for wish in wished) else (1.0, None, None)), texts=n)
        before = [_spent(scorer) for scorer in scorers]
        for scorer, spent in zip(scorers, before, strict=True):
            if wishes.max_cost is not None and spent is not None:
                scorer.max_cost = spent + wishes.max_cost  # a ledger's limit holds for all its runs together
        deferred = deferring.on_outputs(outputs, ask, plan)
        return deferred, _told(deferred, system.scorers, prices, _difference(scorers, before))

    def _promised(self, system: Any, opinion: Any) -> tuple[Any, Any]:
        outputs, promises = system.evaluated["predict"], Promises(system)
        scored = [np.isfinite(outputs.members[name].numpy()).all(-1) for name in system.scorers]
        depths = depths_of(np.stack(scored, 1) if scored else np.zeros((len(outputs.index), 0), dtype=np.bool_))
        coverage, error = self.wishes.coverage, self.wishes.max_error
        sets = None if coverage is None else promises.prediction_sets(opinion, depths, coverage)
        return sets, None if error is None else promises.answered(opinion, depths, error)


def _number(option: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ConfigurationError(f"{option} {value!r} is no number.") from None


def _scorer_of(config: str) -> Scorer:
    """The scorer of a config of `lf score`."""
    parser = ArgumentParser(prog="lf predict --scorer", allow_abbrev=False)
    parser.add_argument("--config", action="config")
    parser.add_function_arguments(score_table, fail_untyped=True, sub_configs=False)
    given = parser.parse_args(["--source=none", "--store=none", "--config", str(configs.find(config))])
    refuse_secrets("the config", parser.dump(given, skip_validation=True))
    scorer: Scorer = parser.instantiate(given).as_dict()["scorer"]
    return scorer


def _prices(scorers: Sequence[Scorer], names: Sequence[str], texts: list[str]) -> list[float] | None:
    """USD of one question to each scorer, as they estimate it; None where one is not known."""
    by_name = {scorer.card.name: scorer.estimate(texts) for scorer in scorers}
    found = [by_name.get(name) for name in names]
    costs = [None if estimate is None else estimate.cost_usd for estimate in found]
    known = [max(cost / len(texts), 1 / _NANO) for cost in costs if cost is not None]
    return known if known and len(known) == len(names) else None


def _spent(scorer: Scorer) -> float | None:
    gateway = getattr(scorer, "gateway", None)
    return None if gateway is None else gateway.ledger.total().spent / _NANO


def _difference(scorers: Sequence[Scorer], before: Sequence[float | None]) -> float | None:
    known = [(_spent(scorer), spent) for scorer, spent in zip(scorers, before, strict=True) if spent is not None]
    return sum((now or 0.0) - (spent or 0.0) for now, spent in known) if known else None


def _told(deferred: Deferred, names: Sequence[str], prices: list[float] | None, spent: float | None) -> list[str]:
    n, plan = len(deferred.asked), deferred.plan
    lines = []
    for m, name in enumerate(names):
        asked, answered = int(deferred.asked[:, m].sum()), int(deferred.answered[:, m].sum())
        silent = f", {asked - answered} without an answer" if answered < asked else ""
        lines.append(f"{name}: asked about {asked:,} of {n:,} texts ({asked / n:.1%}){silent}")
    lines.append(
        f"Accuracy on validation rows: {plan.accuracy:.3f} so, {plan.accuracy_without:.3f} without a call, "
        f"{plan.accuracy_with_all:.3f} with all."
    )
    if prices is not None:
        paid = "" if spent is None else f", paid ${spent:.4f}"
        lines.append(f"Cost: expected ${deferred.expected_cost:.4f}{paid}.")
    return lines


def _promise_lines(wishes: Wishes, sets: NDArray[np.bool_] | None, answered: NDArray[np.bool_] | None) -> list[str]:
    lines = []
    if sets is not None:
        lines.append(f"Prediction sets at {wishes.coverage:.0%}: {sets.sum(1).mean():.2f} labels on average.")
    if answered is not None:
        none = "" if answered.any() else " The validation rows do not bear this promise: a greater error, or more of them."
        lines.append(f"Answered with at most {wishes.max_error:.0%} errors: {answered.mean():.1%} of the texts.{none}")
    return lines
