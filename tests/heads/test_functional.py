"""The pools and the regressions against scipy and scikit-learn, in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from lf_lightning.contract import Task
from lf_lightning.heads.functional import (
    choose_ridge,
    fit_linear,
    fit_mixture,
    fit_pool,
    linear_average,
    log_linear_pool,
    normalise,
    one_hot,
    opinions,
)

TASKS: list[Task] = ["multiclass", "multilabel"]


def opinions_of(n: int, members: int, k: int, task: Task, seed: int = 0, strength: float = 1.0) -> tuple[Tensor, Tensor]:
    """Opinions (n, M, K) that tell the labels, the first member best, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    truth = np.eye(k)[labels] if task == "multiclass" else (rng.random((n, k)) < 0.4).astype(float)
    strengths = strength * np.linspace(1.0, 0.3, members)[:, None]
    logits = torch.tensor(strengths * (2 * truth - 1)[:, None] + rng.normal(size=(n, members, k)))
    return normalise(logits, task), torch.tensor(labels if task == "multiclass" else truth)


def nll(logits: np.ndarray, labels: Tensor, task: Task) -> float:
    y = one_hot(labels, logits.shape[-1])
    if task == "multiclass":
        return -float((log_softmax(logits, axis=1) * y).sum())
    return -float((np.log(expit(logits)) * y + np.log(expit(-logits)) * (1 - y)).sum())


def test_opinions_are_clipped_logarithms_and_log_odds() -> None:
    p = np.array([[0.0, 0.3, 0.7], [1.0, 0.0, 0.0]])
    clipped = np.clip(p, 1e-4, 1 - 1e-4)
    np.testing.assert_allclose(opinions(torch.tensor(p), "multiclass"), np.log(clipped), rtol=1e-3)
    np.testing.assert_allclose(opinions(torch.tensor(p), "multilabel"), logit(clipped), rtol=1e-3)


@pytest.mark.parametrize("task", TASKS)
def test_linear_average_is_the_mean_of_the_present_members_probabilities(task: Task) -> None:
    members, _ = opinions_of(6, 3, 4, task)
    present = torch.tensor([[True, True, True], [True, False, True], [True, False, False]] * 2)
    members[~present] = torch.nan  # what is absent is not read
    p = softmax(members.numpy(), axis=-1) if task == "multiclass" else expit(members.numpy())
    expected = np.nanmean(p, axis=1)
    got = linear_average(members, present, task)
    made = got.softmax(-1) if task == "multiclass" else got.sigmoid()
    np.testing.assert_allclose(made, expected, atol=1e-6)
    weights = torch.tensor([[3.0, 1.0, 0.0]]).expand(6, 3)
    first = linear_average(members, present, task, weights)
    assert torch.allclose(first[2], linear_average(members[2:3, :1], present[2:3, :1], task)[0])


def test_log_linear_pool_by_hand_and_its_scale_with_absent_members() -> None:
    members, _ = opinions_of(4, 3, 3, "multiclass")
    weights, bias = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.1, -0.1, 0.0])
    everyone = torch.ones(4, 3, dtype=torch.bool)
    expected = bias + (weights.view(1, 3, 1) * members).sum(1)
    assert torch.allclose(log_linear_pool(members, everyone, weights, bias), expected, atol=1e-6)
    alone = everyone.clone()
    alone[:, 1:] = False
    assert torch.allclose(log_linear_pool(members, alone, weights, bias), bias + members[:, 0], atol=1e-6)
    silent = torch.where(alone.unsqueeze(-1), members, torch.nan)
    assert torch.equal(log_linear_pool(silent, alone, weights, bias), log_linear_pool(members, alone, weights, bias))


@pytest.mark.parametrize("task", TASKS)
def test_fit_pool_solves_its_penalised_problem(task: Task) -> None:
    members, labels = opinions_of(80, 3, 3, task, seed=1)
    present = torch.ones(80, 3, dtype=torch.bool)
    weights, bias = fit_pool(members, present, labels, task, prior_rows=2.0, bias_rows=3.0)
    x = members.double().numpy()

    def alone(m: int) -> float:  # the member's own inverse temperature, pulled towards a half
        def objective(t: np.ndarray) -> float:
            return nll(t[0] * x[:, m], labels, task) + (t[0] - 0.5) ** 2

        return float(minimize(objective, [0.5], bounds=[(0, None)], tol=1e-12).x[0])

    prior = np.array([alone(m) for m in range(3)]) / 3

    def objective(theta: np.ndarray) -> float:
        pooled = np.einsum("m,nmk->nk", theta[:3], x) + theta[3:]
        return nll(pooled, labels, task) + ((theta[:3] - prior) ** 2).sum() + 1.5 * (theta[3:] ** 2).sum()

    reference = minimize(objective, np.full(6, 0.2), bounds=[(0, None)] * 3 + [(None, None)] * 3, tol=1e-12).x
    np.testing.assert_allclose(weights, reference[:3], atol=2e-3)
    np.testing.assert_allclose(bias, reference[3:], atol=2e-3)


def test_fit_pool_ignores_a_flat_member_and_shrinks_to_the_mean_without_rows() -> None:
    members, labels = opinions_of(300, 2, 3, "multiclass", seed=2, strength=0.5)
    members[:, 1] = math.log(1 / 3)
    present = torch.ones(300, 2, dtype=torch.bool)
    both, _ = fit_pool(members, present, labels, "multiclass")
    only, _ = fit_pool(members[:, :1], present[:, :1], labels, "multiclass")
    pooled = [
        log_linear_pool(m, p, w, torch.zeros(3))
        for m, p, w in [(members, present, both), (members[:, :1], present[:, :1], only)]
    ]
    assert torch.allclose(pooled[0].softmax(-1), pooled[1].softmax(-1), atol=0.02)
    weights, bias = fit_pool(members[:0], present[:0], labels[:0], "multiclass")
    assert torch.allclose(weights, torch.tensor([0.25, 0.25]))
    assert torch.equal(bias, torch.zeros(3))


def test_fit_pool_reads_nothing_of_absent_members() -> None:
    members, labels = opinions_of(60, 3, 3, "multiclass", seed=3)
    present = torch.rand(60, 3, generator=torch.Generator().manual_seed(0)) < 0.7
    silent = torch.where(present.unsqueeze(-1), members, torch.nan)
    for one, other in zip(
        fit_pool(members, present, labels, "multiclass"), fit_pool(silent, present, labels, "multiclass"), strict=True
    ):
        assert torch.isfinite(one).all()
        assert torch.equal(one, other)


def test_fit_linear_is_scikit_learns_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5))
    y = (x @ rng.normal(size=(5, 3)) + rng.normal(size=(200, 3))).argmax(1)
    ours, bias = fit_linear(torch.tensor(x), torch.tensor(y), "multiclass", 2.0, num_labels=3)
    # A feature of sqrt(10) is a bias whose penalty is a tenth.
    with_bias = np.hstack([x, np.full((200, 1), math.sqrt(10))])
    theirs = LogisticRegression(C=1 / 2.0, fit_intercept=False, tol=1e-10, max_iter=5000).fit(with_bias, y).coef_
    np.testing.assert_allclose(ours, theirs[:, :5], atol=2e-3)
    np.testing.assert_allclose(bias, theirs[:, 5] * math.sqrt(10), atol=2e-3)


def test_fit_linear_of_several_labels_is_one_regression_for_each() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 4))
    y = (x @ rng.normal(size=(4, 3)) + rng.normal(size=(200, 3)) > 0).astype(float)
    ours, bias = fit_linear(torch.tensor(x), torch.tensor(y), "multilabel", 5.0, num_labels=3)
    with_bias = np.hstack([x, np.full((200, 1), math.sqrt(10))])
    for label in range(3):
        fitted = LogisticRegression(C=1 / 5.0, fit_intercept=False, tol=1e-10, max_iter=5000).fit(with_bias, y[:, label])
        np.testing.assert_allclose(ours[label], fitted.coef_[0, :4], atol=2e-3)
        np.testing.assert_allclose(bias[label], fitted.coef_[0, 4] * math.sqrt(10), atol=2e-3)


@pytest.mark.parametrize("task", TASKS)
def test_fit_linear_starts_at_its_offset(task: Task) -> None:
    members, labels = opinions_of(100, 2, 3, task, seed=4, strength=2.0)
    offset = members[:, 0]
    stiff, stiff_bias = fit_linear(members[:, 1], labels, task, 1e9, offset=offset, num_labels=3)
    assert float(stiff.abs().max()) < 1e-6
    assert float(stiff_bias.abs().max()) < 1e-5
    soft, bias = fit_linear(members[:, 1], labels, task, 0.1, offset=offset, num_labels=3)
    assert nll((offset + members[:, 1] @ soft.T.to(offset) + bias).numpy(), labels, task) < nll(offset.numpy(), labels, task)


def explained(n: int, task: Task, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features that have nothing to do with the labels, labels, and the logits that the labels were drawn from."""
    rng = np.random.default_rng(seed)
    offset = rng.normal(size=(n, 3))
    p = softmax(offset, axis=1) if task == "multiclass" else expit(offset)
    labels = [rng.choice(3, p=row) for row in p] if task == "multiclass" else (rng.random(p.shape) < p).astype(float)
    return torch.tensor(rng.normal(size=(n, 6))), torch.tensor(np.array(labels)), torch.tensor(offset)


@pytest.mark.parametrize("task", TASKS)
def test_choose_ridge_keeps_the_pool_when_there_is_nothing_per_class_to_learn(task: Task) -> None:
    chosen, costs = [], []
    for seed in range(6):
        features, labels, offset = explained(150, task, seed)
        ridge, held = choose_ridge(features, labels, task, offset=offset)
        assert math.isfinite(ridge) or torch.equal(held, offset.float())
        chosen.append(ridge)
        if math.isfinite(ridge):  # by luck; then it is strong, and costs next to nothing on new rows
            weight, bias = (w.double() for w in fit_linear(features, labels, task, ridge, offset=offset, num_labels=3))
            features, labels, offset = explained(2000, task, seed + 100)
            fitted = (offset + features @ weight.T + bias).numpy()
            costs.append((nll(fitted, labels, task) - nll(offset.numpy(), labels, task)) / 2000)
    assert chosen.count(math.inf) >= 3
    assert min(chosen) >= 30
    assert sum(costs) / 6 < 0.005


@pytest.mark.parametrize("task", TASKS)
def test_choose_ridge_leaves_the_pool_for_what_one_class_shows(task: Task) -> None:
    rng = np.random.default_rng(5)
    labels = (
        torch.tensor(rng.integers(3, size=400))
        if task == "multiclass"
        else torch.tensor((rng.random((400, 3)) < 0.4).astype(float))
    )
    truth = one_hot(labels, 3)
    swapped = torch.tensor(2 * truth[:, [1, 0, 2]] + rng.normal(size=(400, 3)) * 0.5)  # a member that confuses two classes
    assert choose_ridge(swapped, labels, task, offset=normalise(swapped, task))[0] < 1000


def test_choose_ridge_with_fewer_rows_than_folds() -> None:
    members, labels = opinions_of(3, 1, 3, "multiclass", seed=6)
    assert choose_ridge(members[:, 0], labels, "multiclass", offset=members[:, 0])[0] >= 0.3


@pytest.mark.parametrize("task", TASKS)
def test_fit_mixture_has_the_greatest_likelihood(task: Task) -> None:
    members, labels = opinions_of(120, 3, 3, task, seed=7)
    present = torch.ones(120, 3, dtype=torch.bool)
    got = fit_mixture(members, present, labels, task, prior_rows=0.0)
    p = np.exp(members.numpy()) if task == "multiclass" else expit(members.numpy())
    y = one_hot(labels, 3)

    def objective(theta: np.ndarray) -> float:
        mixed = np.einsum("m,nmk->nk", softmax(theta), p)
        return -float((np.log(mixed) * y).sum() + (0 if task == "multiclass" else (np.log(1 - mixed) * (1 - y)).sum()))

    assert float(got.sum()) == pytest.approx(1)
    best = minimize(objective, np.zeros(3), tol=1e-12)
    np.testing.assert_allclose(got, softmax(best.x), atol=0.02)
    assert objective(np.log(got.double().numpy() + 1e-12)) < best.fun + 0.1
