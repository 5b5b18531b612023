"""Decisions that lean to rare classes."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from lf_lightning.calibration import LogitAdjustment
from lf_lightning.errors import ConfigurationError, NotFittedError


def skewed(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns exact posteriors of three classes, the last one rare, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    prior = np.array([0.75, 0.2, 0.05])
    y = rng.choice(3, size=rows, p=prior)
    logits = np.eye(3)[y] + rng.normal(size=(rows, 3)) + np.log(prior)
    return torch.from_numpy(logits).softmax(-1), torch.from_numpy(y)


def test_the_decision_is_the_formula() -> None:
    p, y = skewed(2000, 0)
    rule = LogitAdjustment(3)
    rule.fit(p, y)
    tau = float(rule.report["tau"])
    assert tau > 0
    prior = (np.bincount(y.numpy(), minlength=3) + 1) / (len(y) + 3)
    expected = (np.log(p.numpy()) - tau * np.log(prior)).argmax(1)
    assert (rule.decide(p).numpy() == expected).mean() > 0.999


def test_macro_f1_rises_on_new_rows() -> None:
    rule = LogitAdjustment(3)
    rule.fit(*skewed(2000, 1))
    p, y = skewed(20_000, 2)
    plain = f1_score(y, p.argmax(1), average="macro")
    assert f1_score(y, rule.decide(p), average="macro") > plain + 0.01


@pytest.mark.parametrize("rows", [0, 3, 49])
def test_few_rows_leave_the_arg_max(rows: int) -> None:
    p, y = skewed(2000, 0)
    rule = LogitAdjustment(3)
    rule.fit(p[:rows], y[:rows])
    assert torch.equal(rule.decide(p), p.float().argmax(1))


def test_even_classes_leave_the_arg_max() -> None:
    rng = np.random.default_rng(0)
    y = torch.arange(600) % 3
    p = torch.from_numpy(np.eye(3)[y.numpy()] + rng.normal(size=(600, 3))).softmax(-1)
    rule = LogitAdjustment(3)
    rule.fit(p, y)
    assert torch.equal(rule.decide(p), p.float().argmax(1))


def test_state_travels_and_gaps_stay_gaps() -> None:
    p, y = skewed(500, 3)
    fresh = LogitAdjustment(3)
    with pytest.raises(NotFittedError):
        fresh.decide(p)
    rule = LogitAdjustment(3)
    rule.fit(p, y)
    fresh.load_state_dict(rule.state_dict())
    p[0] = torch.nan
    decided = fresh.decide(p)
    assert decided[0] == -1
    assert torch.equal(decided, rule.decide(p))
    with pytest.raises(ConfigurationError, match="num_labels=1"):
        LogitAdjustment(1)
