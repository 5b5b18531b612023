"""Promises kept on resplits: coverage of prediction sets, error of answers given, with all calls and with 30 % of them.

    python -m benchmarks.conformal --data FOLDER

Validation and test rows of each set are pooled and split anew at random, as many validation rows as before; score calibrator,
head, calibrator, decision rule, deferral and promise are fitted anew on each split, so that nothing has seen its test rows. The
encoders are those of `benchmarks.fusion_llm_labels`, fitted on train rows only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor

from benchmarks import record
from benchmarks.fusion_llm_labels import parser_of
from benchmarks.opinions import said_by
from lf_lightning.calibration import BetaCalibration, PlugInDecision, TemperatureScaling, probabilities
from lf_lightning.deferral import ExpectedGain, plan_for
from lf_lightning.deferral.base import known_before
from lf_lightning.guarantees import Abstention, AdaptiveSets, LeastAmbiguousSets, PredictionSets, confidence_of
from lf_lightning.heads import Evidence, FusionMLP
from lf_lightning.heads.functional import normalise, opinions

SPLITS_PER_SEED = 4
COVERAGES = (0.8, 0.9, 0.95)
ERRORS = (0.05, 0.1, 0.2)
BUDGET = 0.3
HELD, NAIVE = "held out", "as fitted"
Array = np.ndarray[Any, Any]


class Sides(NamedTuple):
    """Calibrated probabilities and decisions of one split's v validation and n test rows.

    Attributes:
        validation: (v, K) by how they are made: `HELD` (what a run keeps), `NAIVE` (the fitted head on the rows it saw).
        test: (n, K).
        decide: The decision rule.
        labels: Of validation and of test rows.
        deferred: The same with 30 % of the calls: (v, K) and (n, K).
    """

    validation: dict[str, Array]
    test: Array
    decide: Any
    labels: tuple[Array, Array]
    deferred: tuple[Array, Array]


def refit(evidence: dict[str, Tensor], rows: Tensor, seed: int) -> Sides:
    """Returns the sides of a split; all but the encoder is fitted anew, as `FusionLightningModule` does.

    Args:
        evidence: Of `benchmarks.opinions`.
        rows: A permutation of validation and test rows, of which the first are the new validation rows.
        seed: Of head and batches.
    """
    k, v = evidence["train_logits"].shape[1], len(evidence["validation_labels"])
    pooled = {
        name: torch.cat([evidence[f"validation_{name}"], evidence[f"test_{name}"]])[rows]
        for name in ("logits", "scores", "scored", "labels")
    }
    scorer = TemperatureScaling(k, "multiclass")
    said = pooled["scored"][:v, 0]
    scorer.fit(opinions(pooled["scores"][:v][said, 0], "multiclass"), pooled["labels"][:v][said])

    def members_of(logits: Tensor, scores: Tensor) -> Tensor:
        own = normalise(logits, "multiclass")
        return torch.stack([own, normalise(scorer(opinions(scores[:, 0], "multiclass")), "multiclass")], 1)

    def present_of(scored: Tensor) -> Tensor:
        return torch.cat([torch.ones(len(scored), 1, dtype=torch.bool), scored], 1)

    train = members_of(evidence["train_logits"], evidence["train_scores"])
    all_members, present = members_of(pooled["logits"], pooled["scores"]), present_of(pooled["scored"])
    known = evidence["train_logits"].isfinite().all(-1)
    train, train_labels = train[known], evidence["train_labels"][known]
    train_present = present_of(evidence["train_scored"])[known]
    both = Evidence(
        torch.cat([train, all_members[:v]]),
        torch.cat([train_present, present[:v]]),
        torch.cat([train_labels, pooled["labels"][:v]]),
    )
    torch.manual_seed(seed)
    head = FusionMLP(k, 2, 0, "multiclass")
    held = head.start(both)
    assert held is not None
    correction = held - _logits(head, both.members, both.present)
    _train(head, train, train_present, train_labels)
    kept = _logits(head, both.members, both.present) + correction
    calibrator, decision = BetaCalibration(k, "multiclass"), PlugInDecision(k)
    calibrator.fit(kept, both.labels)
    decision.fit(probabilities(calibrator(kept), "multiclass"), both.labels)

    def fuse(members: Tensor, here: Tensor) -> Tensor:
        return probabilities(calibrator(_logits(head, members, here)), "multiclass")

    deferral = ExpectedGain(k, 1, "multiclass")
    deferral.fit(*both[:3], fuse)
    value = deferral.values(0, all_members, present, fuse).numpy()
    none, every = fuse(all_members, known_before(present, 0)), fuse(all_members, present)
    last = every.clone()
    last[:v] = probabilities(calibrator(kept[-v:]), "multiclass")
    labels = pooled["labels"].numpy()
    right = np.stack([(decision.decide(p[:v]).numpy() == labels[:v]) for p in (none, last)], 1)
    plan = plan_for(value[:v, None], right, [1.0], budget=BUDGET)
    asked = value >= plan.rate
    mixed = torch.where(torch.from_numpy(asked)[:, None], last, none).double().numpy()
    return Sides(
        {HELD: last[:v].double().numpy(), NAIVE: every[:v].double().numpy()},
        every[v:].double().numpy(),
        lambda p: decision.decide(torch.from_numpy(p)).numpy(),
        (labels[:v], labels[v:]),
        (mixed[:v], mixed[v:]),
    )


@torch.no_grad()
def _logits(head: FusionMLP, members: Tensor, present: Tensor) -> Tensor:
    head.eval()
    found: Tensor = head(members, present, members.new_empty(len(members), 0))
    return found


def _train(head: FusionMLP, members: Tensor, present: Tensor, labels: Tensor, epochs: int = 10, batch: int = 32) -> None:
    """The head's epochs, with a share of the scores hidden."""
    head.train()
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3, weight_decay=0.01)
    steps = epochs * -(-len(labels) // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / (0.1 * steps), 1 - step / steps))
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(batch):
            shown = present[rows].clone()
            shown[:, 1] &= torch.rand(len(rows)) >= 0.1
            loss = torch.nn.functional.cross_entropy(head(members[rows], shown, members.new_empty(len(rows), 0)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def sets_of(by: str, coverage: float) -> PredictionSets:
    """Returns prediction sets by name."""
    return {
        "LAC": lambda: LeastAmbiguousSets(coverage),
        "LAC by label": lambda: LeastAmbiguousSets(coverage, by_label=True),
        "APS": lambda: AdaptiveSets(coverage),
        "RAPS": lambda: AdaptiveSets(coverage, penalty=0.01, free=2),
    }[by]()


def coverage_of(by: str, coverage: float, fitted: Array, labels: tuple[Array, Array], test: Array) -> tuple[float, float]:
    """Returns the coverage on test rows, and the mean size of a set."""
    inside = sets_of(by, coverage).fit(fitted, labels[0]).sets(test)
    return float(inside[np.arange(len(test)), labels[1]].mean()), float(inside.sum(1).mean())


def error_of(error: float, sides: Sides, fitted: Array, test: Array) -> tuple[float, float]:
    """Returns the share of test rows answered, and the share of wrong ones among them."""
    made, answers = sides.decide(fitted), sides.decide(test)
    rule = Abstention(error).fit(confidence_of(fitted, made), made == sides.labels[0])
    given = rule.answers(confidence_of(test, answers))
    return float(given.mean()), float((answers != sides.labels[1])[given].mean()) if given.any() else 0.0


def one_set(splits: list[Sides]) -> dict[str, Any]:
    """Returns the figures of a set over its splits."""

    def over(values: list[float]) -> dict[str, float]:
        return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))}

    rows: list[dict[str, Any]] = []
    ways = {
        ("all calls", HELD): lambda s: (s.validation[HELD], s.test),
        ("all calls", NAIVE): lambda s: (s.validation[NAIVE], s.test),
        (f"{BUDGET:.0%} of the calls", HELD): lambda s: s.deferred,
    }
    for (calls, how), sides in ways.items():
        for by in ("LAC", "LAC by label", "APS", "RAPS") if how == HELD else ("LAC",):
            for coverage in COVERAGES:
                found = [coverage_of(by, coverage, *sides(s)[:1], s.labels, sides(s)[1]) for s in splits]
                covered, size = ([f[i] for f in found] for i in (0, 1))
                rows.append(
                    {
                        "calls": calls,
                        "validation": how,
                        "sets": by,
                        "promise": coverage,
                        "coverage": over(covered),
                        "size": over(size),
                    }
                )
    answers: list[dict[str, Any]] = []
    for (calls, how), sides in ways.items():
        for error in ERRORS:
            found = [error_of(error, s, *sides(s)) for s in splits]
            broken = sum(wrong > error for _, wrong in found)
            answers.append(
                {
                    "calls": calls,
                    "validation": how,
                    "promise": error,
                    "answered": over([f[0] for f in found]),
                    "error": over([f[1] for f in found]),
                    "splits_above_promise": broken,
                    "p_if_the_promise_holds": float(binom.sf(broken - 1, len(found), 0.05)),
                }
            )
    return {"splits": len(splits), "test_rows": len(splits[0].labels[1]), "coverage": rows, "answers": answers}


def claim_of(sets: dict[str, Any]) -> str:
    """Returns in a sentence what the figures say."""
    gaps = [
        row["coverage"]["mean"] - row["promise"]
        for figures in sets.values()
        for row in figures["coverage"]
        if row["validation"] == HELD and row["sets"] != "LAC by label"
    ]
    broken = [row for figures in sets.values() for row in figures["answers"] if row["validation"] == HELD]
    return (
        f"Mean coverage over resplits is between {100 * min(gaps):+.1f} and {100 * max(gaps):+.1f} points of the promise in "
        f"{len(gaps)} cases; the promised error is passed in {sum(r['splits_above_promise'] for r in broken)} of "
        f"{sum(f['splits'] for f in sets.values()) * len(broken) // len(sets)} splits."
    )


def main() -> None:
    """Runs all sets, and writes the record."""
    options = parser_of(__doc__, "conformal").parse_args()
    figures = {}
    for name in options.sets:
        splits = []
        for seed in options.seeds:
            evidence = said_by(name, seed, options.data).evidence
            n = len(evidence["validation_labels"]) + len(evidence["test_labels"])
            for number in range(SPLITS_PER_SEED):
                generator = torch.Generator().manual_seed(1000 * seed + number)
                splits.append(refit(evidence, torch.randperm(n, generator=generator), seed))
        figures[name] = one_set(splits)
        for row in figures[name]["coverage"]:
            if row["promise"] == 0.9:
                print(name, row)
        for row in figures[name]["answers"]:
            print(name, row)
    record.write(
        options.out, claim_of(figures), {"sets": figures}, "python -m benchmarks.conformal --data FOLDER", options.seeds
    )


if __name__ == "__main__":
    main()
