"""benchmarks/fits.py: the difference and its interval against a bootstrap by hand, and what the table says of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from benchmarks.fits import Fit, claim_of, mean_difference, table
from benchmarks.record import ROOT

CLASSES = 3


def rows_of(decisions: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Probabilities whose arg max is the decision."""
    p = rng.dirichlet(np.ones(CLASSES), len(decisions)) * 0.4
    p[np.arange(len(p)), decisions] += 0.6
    return p


def fit_of(labels: NDArray[np.int64], right: dict[str, float], seed: int, best: str = "encoder") -> Fit:
    """A seed in which a row of the table is right on the given share of the rows, and wrong at random elsewhere."""
    rng = np.random.default_rng(seed)
    decisions = {
        name: np.where(rng.random(len(labels)) < share, labels, (labels + rng.integers(1, CLASSES, len(labels))) % CLASSES)
        for name, share in right.items()
    }
    return Fit({name: rows_of(made, rng) for name, made in decisions.items()}, decisions, labels, best)


@pytest.fixture
def labels() -> NDArray[np.int64]:
    return np.random.default_rng(7).choice(CLASSES, 150, p=[0.6, 0.3, 0.1])


def accuracy(y: NDArray[np.int64], made: NDArray[np.int64]) -> float:
    return float((y == made).mean())


def macro_f1(y: NDArray[np.int64], made: NDArray[np.int64]) -> float:
    """Class by class; scikit-learn's takes a millisecond, and there are thousands of resamples."""
    hits, said, true = (np.bincount(x, minlength=CLASSES) for x in (y[y == made], made, y))
    return float(np.mean([2 * h / (s + t) if s + t else 0.0 for h, s, t in zip(hits, said, true, strict=True)]))


def by_hand(fits: list[Fit], name: str, metric: str, resamples: int) -> tuple[float, float, float]:
    """Draws test rows with replacement, for all seeds at once."""
    score = {"accuracy": accuracy, "macro_f1": macro_f1}[metric]
    labels = fits[0].labels

    def gap(rows: NDArray[np.int64]) -> float:
        both = [[score(labels[rows], f.decisions[which][rows]) for which in ("fusion", name)] for f in fits]
        return float(np.mean([ours - other for ours, other in both]))

    rng = np.random.default_rng(123)
    drawn = [gap(rng.integers(len(labels), size=len(labels))) for _ in range(resamples)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return gap(np.arange(len(labels))), float(low), float(high)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_difference_is_that_of_a_paired_bootstrap_by_hand(labels: NDArray[np.int64], metric: str, seeds: int) -> None:
    fits = [fit_of(labels, {"encoder": 0.6, "llm": 0.5, "fusion": 0.7}, seed) for seed in range(seeds)]
    found = mean_difference(fits, "encoder", metric, resamples=4000)
    difference, low, high = by_hand(fits, "encoder", metric, resamples=1000)
    assert found["difference"] == pytest.approx(difference, abs=1e-12)
    # Ends of a bootstrap interval from 1000 resamples move by about 2 % of its width (one standard deviation).
    tolerance = 0.1 * (high - low)
    assert found["low"] == pytest.approx(low, abs=tolerance)
    assert found["high"] == pytest.approx(high, abs=tolerance)


def test_the_macro_f1_by_hand_is_that_of_scikit_learn(labels: NDArray[np.int64]) -> None:
    made = fit_of(labels, {"fusion": 0.7}, 0).decisions["fusion"]
    assert macro_f1(labels, made) == pytest.approx(f1_score(labels, made, average="macro"))


def test_all_seeds_share_the_drawn_rows(labels: NDArray[np.int64]) -> None:
    """Seeds that are copies of one are no more evidence than it; independent rows would narrow the interval by half."""
    one = fit_of(labels, {"encoder": 0.6, "fusion": 0.7}, 0)
    other = fit_of(labels, {"encoder": 0.6, "fusion": 0.7}, 1)
    alone, copies = (mean_difference([one] * n, "encoder", "accuracy", resamples=4000) for n in (2, 4))
    assert copies == pytest.approx(alone)
    both = mean_difference([one, other], "encoder", "accuracy", resamples=4000)
    assert both["high"] - both["low"] < alone["high"] - alone["low"]


@pytest.mark.parametrize(("fusion", "below"), [(0.9, False), (0.7, False), (0.4, True)])
def test_the_table_says_where_fusion_is_significantly_below(labels: NDArray[np.int64], fusion: float, below: bool) -> None:
    right = {"encoder": 0.5, "llm": 0.7, "average": 0.95, "stack": 0.95, "fusion": fusion}
    found = table([fit_of(labels, right, seed, best="llm") for seed in range(3)])
    # `average` and `stack` are combinations, not members, however good they are.
    assert found["best_member_on_test"] == {"accuracy": "llm", "macro_f1": "llm"}
    assert found["fusion_significantly_below_best_member"] == {"accuracy": below, "macro_f1": below}
    assert set(found["fusion_minus"]) == {"encoder", "llm"}
    gap = found["fusion_minus"]["llm"]["accuracy"]
    rows = found["rows"]
    assert gap["difference"] == pytest.approx(rows["fusion"]["accuracy"]["mean"] - rows["llm"]["accuracy"]["mean"])
    assert gap["low"] <= gap["difference"] <= gap["high"]


def test_the_table_has_mean_and_deviation_over_seeds(labels: NDArray[np.int64]) -> None:
    fits = [fit_of(labels, {"encoder": 0.6, "llm": 0.5, "fusion": 0.7}, seed) for seed in range(3)]
    accuracies = [float((f.decisions["fusion"] == labels).mean()) for f in fits]
    found = table(fits)
    assert found["test_rows"] == len(labels)
    assert found["best_member_on_validation"] == ["encoder"] * 3
    assert found["rows"]["fusion"]["accuracy"] == pytest.approx({"mean": np.mean(accuracies), "sd": np.std(accuracies, ddof=1)})
    assert table(fits[:1])["rows"]["fusion"]["accuracy"]["sd"] == 0.0


def test_tuned_decisions_count_and_not_the_arg_max(labels: NDArray[np.int64]) -> None:
    made = fit_of(labels, {"encoder": 0.6, "fusion": 0.7}, 0)
    made.decisions["fusion"] = labels.copy()
    assert table([made])["rows"]["fusion"]["accuracy"]["mean"] == 1.0
    assert mean_difference([made], "encoder", "accuracy")["difference"] == pytest.approx(
        1 - (made.decisions["encoder"] == labels).mean()
    )


def test_seeds_with_other_test_rows_are_refused(labels: NDArray[np.int64]) -> None:
    right = {"encoder": 0.6, "fusion": 0.7}
    with pytest.raises(AssertionError):
        table([fit_of(labels, right, 0), fit_of(labels[::-1].copy(), right, 1)])


def test_the_claim_says_what_the_figures_say() -> None:
    def cell(accuracy: tuple[float, float, float], macro_f1: tuple[float, float, float]) -> dict[str, object]:
        keys = ("difference", "low", "high")
        gaps = {"accuracy": dict(zip(keys, accuracy, strict=True)), "macro_f1": dict(zip(keys, macro_f1, strict=True))}
        best = {"accuracy": "llm", "macro_f1": "llm"}
        return {"best_member_on_test": best, "fusion_minus": {"llm": gaps, "encoder": {}}}

    cells = {"a": cell((0.02, 0.01, 0.03), (0.01, -0.01, 0.03)), "b": cell((0.03, 0.01, 0.05), (-0.05, -0.07, -0.03))}
    assert claim_of(cells) == (
        "Fusion minus its best member, in accuracy and macro-F1 on each of 2 sets: significantly above in 2 of 4 comparisons, "
        "significantly below in 1; on average +2.5 points accuracy and -2.0 points macro-F1."
    )


@pytest.mark.parametrize(("name", "key"), [("fusion_llm_labels", "sets"), ("fusion_low_data", "cells")])
def test_a_record_claims_what_its_figures_say(name: str, key: str) -> None:
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    if not path.exists():
        pytest.skip("not measured yet")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["claim"] == claim_of(record["figures"][key])
