"""Decisions that lean to rare classes."""

from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from lf_lightning.calibration import PlugInDecision
from lf_lightning.calibration.plug_in import expected_utility
from lf_lightning.errors import ConfigurationError, NotFittedError


def skewed(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns exact posteriors of three classes, the last one rare, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    prior = np.array([0.75, 0.2, 0.05])
    y = rng.choice(3, size=rows, p=prior)
    logits = np.eye(3)[y] + rng.normal(size=(rows, 3)) + np.log(prior)
    return torch.from_numpy(logits).softmax(-1), torch.from_numpy(y)


def utility(y: torch.Tensor, decided: torch.Tensor) -> float:
    return float((y == decided).double().mean()) + f1_score(y, decided, average="macro")


def test_no_other_linear_rule_expects_more() -> None:
    p, y = skewed(400, 0)
    rule = PlugInDecision(3)
    rule.fit(p, y)
    ours = expected_utility(p.numpy(), rule.decide(p).numpy())
    assert ours > expected_utility(p.numpy(), p.argmax(1).numpy()) + 0.01
    grid = np.linspace(0.5, 6, 9)
    offsets = np.linspace(-0.2, 0.4, 5)
    best = max(
        expected_utility(p.numpy(), (p.numpy() * [1, b, c] - [0, e, f]).argmax(1))
        for b, c, e, f in product(grid, grid, offsets, offsets)
    )
    assert ours > best - 0.002


def test_expected_utility_is_the_mean_over_drawn_labels() -> None:
    p, _ = skewed(4000, 1)
    decided = p.argmax(1)
    rng = np.random.default_rng(0)
    drawn = [torch.from_numpy((p.numpy().cumsum(1) < rng.random((len(p), 1))).sum(1).clip(max=2)) for _ in range(50)]
    measured = np.mean([utility(y, decided) for y in drawn])
    assert expected_utility(p.numpy(), decided.numpy()) == pytest.approx(measured, abs=0.01)


def test_macro_f1_rises_on_new_rows() -> None:
    rule = PlugInDecision(3)
    rule.fit(*skewed(2000, 1))
    p, y = skewed(20_000, 2)
    assert f1_score(y, rule.decide(p), average="macro") > f1_score(y, p.argmax(1), average="macro") + 0.01
    assert utility(y, rule.decide(p)) > utility(y, p.argmax(1)) + 0.01


@pytest.mark.parametrize("rows", [0, 3, 49])
def test_few_rows_leave_the_arg_max(rows: int) -> None:
    p, y = skewed(2000, 0)
    rule = PlugInDecision(3)
    rule.fit(p[:rows], y[:rows])
    assert torch.equal(rule.decide(p), p.float().argmax(1))


def test_even_classes_leave_the_arg_max() -> None:
    rng = np.random.default_rng(0)
    y = torch.arange(600) % 3
    p = torch.from_numpy(np.eye(3)[y.numpy()] + rng.normal(size=(600, 3))).softmax(-1)
    rule = PlugInDecision(3)
    rule.fit(p, y)
    assert (rule.decide(p) == p.float().argmax(1)).double().mean() > 0.97


def test_a_class_that_nobody_expects_is_never_decided() -> None:
    p, y = skewed(500, 0)
    wide = torch.cat([p, torch.zeros(len(p), 1)], 1)
    rule = PlugInDecision(4)
    rule.fit(wide, y)
    assert int(rule.decide(wide).max()) == 2


def test_state_travels_and_gaps_stay_gaps() -> None:
    p, y = skewed(500, 3)
    fresh = PlugInDecision(3)
    with pytest.raises(NotFittedError):
        fresh.decide(p)
    rule = PlugInDecision(3)
    rule.fit(p, y)
    fresh.load_state_dict(rule.state_dict())
    p[0] = torch.nan
    decided = fresh.decide(p)
    assert decided[0] == -1
    assert torch.equal(decided, rule.decide(p))
    with pytest.raises(ConfigurationError, match="num_labels=1"):
        PlugInDecision(1)
