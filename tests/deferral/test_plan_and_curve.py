"""Plans keep their budgets, cascades their order, and the curve is what asking row by row gives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from lf_lightning.deferral import ValidationRows, average_gain_recovered, calls_needed, cost_curve, order_of_asking, plan_for
from lf_lightning.errors import ConfigurationError, NotFittedError

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(50, 2))
RIGHT = RNG.random((50, 3)) < [0.5, 0.7, 0.9]
PRICES = [1.0, 4.0]


def test_any_beginning_of_the_order_is_a_cascade_with_the_best_rates() -> None:
    rows, scorers, rates = order_of_asking(VALUES, np.array(PRICES))
    assert sorted(zip(rows.tolist(), scorers.tolist(), strict=True)) == list(itertools.product(range(50), range(2)))
    assert (np.diff(rates) <= 0).all()
    seen: set[tuple[int, int]] = set()
    for row, scorer in zip(rows.tolist(), scorers.tolist(), strict=True):
        assert scorer == 0 or (row, 0) in seen
        seen.add((row, scorer))


@pytest.mark.parametrize("budget", [0.0, 0.013, 0.3, 0.77, 1.0])
def test_a_plan_costs_its_budget_to_the_last_fraction(budget: float) -> None:
    plan = plan_for(VALUES, RIGHT, PRICES, budget=budget)
    assert plan.cost == pytest.approx(budget * 5)
    assert plan.shares @ PRICES == pytest.approx(plan.cost)
    assert plan.shares[0] >= plan.shares[1] - 1 / 50
    reached = RIGHT[np.arange(50), plan.depths]
    assert plan.accuracy == pytest.approx(reached.mean())
    rates = np.minimum.accumulate(VALUES / PRICES, 1)
    assert np.abs(plan.depths - (rates >= plan.rate).sum(1)).sum() <= 1  # a row whose two questions have one rate
    assert (plan.accuracy_without, plan.accuracy_with_all) == pytest.approx((RIGHT[:, 0].mean(), RIGHT[:, 2].mean()))


def test_a_cost_is_a_budget_in_another_unit() -> None:
    assert (
        plan_for(VALUES, RIGHT, PRICES, cost=1.5).depths.tolist() == plan_for(VALUES, RIGHT, PRICES, budget=0.3).depths.tolist()
    )
    assert plan_for(VALUES, RIGHT, PRICES, cost=99.0).cost == pytest.approx(5)


def test_a_target_is_reached_at_the_least_cost_or_refused_with_the_reachable_figure() -> None:
    target = 0.7
    plan = plan_for(VALUES, RIGHT, PRICES, target_accuracy=target)
    assert plan.accuracy >= target
    for cheaper in np.linspace(0, plan.cost / 5 - 0.0101, 20):
        assert plan_for(VALUES, RIGHT, PRICES, budget=cheaper).accuracy < target
    assert plan_for(VALUES, RIGHT, PRICES, target_accuracy=0.1).cost == 0
    with pytest.raises(ConfigurationError, match=r"at most 0\.\d+ \(at \d+% of the calls\)\. Way out"):
        plan_for(VALUES, RIGHT, PRICES, target_accuracy=0.999)


@pytest.mark.parametrize("wish", [{}, {"budget": 1.1}, {"budget": -0.1}, {"cost": -1.0}, {"target_accuracy": 2.0}])
def test_wishes_that_cannot_be(wish: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        plan_for(VALUES, RIGHT, PRICES, **wish)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="prices"):
        plan_for(VALUES, RIGHT, [1.0, 0.0], budget=0.5)


@pytest.mark.parametrize("prices", [None, [1.0, 3.0]])
def test_the_curve_is_asking_row_by_row(prices: list[float] | None) -> None:
    labels, decisions = RNG.integers(3, size=50), RNG.integers(3, size=(3, 50))
    curve = cost_curve(VALUES, decisions, labels, 3, prices, points=11)
    paid = np.ones(2) if prices is None else np.array(prices)
    for cost, acc, f1 in zip(curve.cost, curve.accuracy, curve.macro_f1, strict=True):
        plan = plan_for(VALUES, np.ones((50, 3), dtype=bool), paid.tolist(), budget=cost)
        made = decisions[plan.depths, np.arange(50)]
        assert acc == pytest.approx(accuracy_score(labels, made))
        assert f1 == pytest.approx(f1_score(labels, made, average="macro", labels=range(3), zero_division=0))


def test_area_and_calls_of_a_curve_that_is_known() -> None:
    """Ten texts, of which the first three are mended by a call and none is spoilt."""
    labels = np.ones(10, dtype=np.int64)
    decisions = np.stack([np.array([0, 0, 0, *[1] * 7]), labels])
    best = cost_curve(-np.arange(10.0)[:, None], decisions, labels, 2, points=11)
    worst = cost_curve(np.arange(10.0)[:, None], decisions, labels, 2, points=11)
    assert calls_needed(best) == pytest.approx(0.3)
    assert calls_needed(worst) == pytest.approx(1.0)
    assert average_gain_recovered(best) == pytest.approx(1 - 0.3 / 2)
    assert average_gain_recovered(best) + average_gain_recovered(worst) == pytest.approx(1)
    nothing = cost_curve(np.ones((10, 1)), decisions[[1, 1]], labels, 2)
    assert np.isnan(average_gain_recovered(nothing))
    assert np.isnan(calls_needed(nothing))


def test_validation_rows_of_any_number_come_back_from_a_state_dict() -> None:
    kept, other = ValidationRows(3, 2, "multiclass", max_rows=20), ValidationRows(3, 2, "multiclass")
    with pytest.raises(NotFittedError):
        kept.arrays()
    p = torch.rand(3, 20, 3).softmax(-1)
    kept.keep(p, torch.arange(20) % 3, torch.rand(20, 2))
    assert len(kept.chosen(100).unique()) == 20
    other.load_state_dict(kept.state_dict())
    for mine, theirs in zip(kept.arrays(), other.arrays(), strict=True):
        assert np.array_equal(mine, theirs)
    other.load_state_dict(ValidationRows(3, 2, "multiclass").state_dict())
    assert not other.is_fitted
    with pytest.raises(ConfigurationError, match="do not fit"):
        kept.keep(p[:2], torch.arange(20) % 3, torch.rand(20, 2))
