from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lf_lightning.contract import Task
from lf_lightning.heads import AverageFusion, Evidence, FusionHead, FusionMLP, GatedFusion, LinearStack, PooledFusion
from lf_lightning.heads.functional import (
    fit_linear,
    fit_pool,
    inverse_temperatures,
    linear_average,
    log_linear_pool,
    normalise,
)
from lf_lightning.heads.pool import agreements, flat_opinions

K, M, D = 4, 3, 5
TASKS: list[Task] = ["multiclass", "multilabel"]
HEADS = {
    "average": AverageFusion,
    "stack": LinearStack,
    "pool": PooledFusion,
    "plain pool": partial(PooledFusion, correction=False),
    "mlp": FusionMLP,
    "mlp with vectors": partial(FusionMLP, use_representation=True),
    "paper": partial(FusionMLP, residual=False),
    "gated": GatedFusion,
    "gated with vectors": partial(GatedFusion, use_representation=True),
}


def evidence_of(n: int, task: Task, seed: int = 0, strengths: tuple[float, ...] = (1.0, 2.0, 0.2)) -> Evidence:
    """n rows of M members of given strength, one of them over-confident; one opinion in five is absent, never the encoder's."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(K, (n,), generator=generator)
    truth = F.one_hot(labels, K).float() if task == "multiclass" else (torch.rand(n, K, generator=generator) < 0.4).float()
    scale = torch.tensor([1.0, 3.0, 1.0]).view(1, M, 1)
    noise = torch.randn(n, M, K, generator=generator)
    members = normalise(scale * (torch.tensor(strengths).view(1, M, 1) * (2 * truth - 1).unsqueeze(1) + noise), task)
    present = torch.rand(n, M, generator=generator) < 0.8
    present[:, 0] = True
    return Evidence(members, present, labels if task == "multiclass" else truth, torch.randn(n, D, generator=generator))


def loss(logits: Tensor, labels: Tensor, task: Task) -> float:
    if task == "multiclass":
        return float(F.cross_entropy(logits, labels))
    return float(F.binary_cross_entropy_with_logits(logits, labels))


def made(head: FusionHead, rows: Evidence) -> Tensor:
    head.eval()
    with torch.no_grad():
        return head(rows.members, rows.present, rows.representation)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", HEADS)
def test_an_absent_opinion_is_not_read(name: str, task: Task) -> None:
    torch.manual_seed(0)
    head = HEADS[name](K, M, D, task)
    rows = evidence_of(60, task)
    head.start(rows)
    logits = made(head, rows)
    assert logits.shape == (60, K)
    assert torch.isfinite(logits).all()
    silent = rows._replace(members=torch.where(rows.present.unsqueeze(-1), rows.members, torch.nan))
    assert torch.equal(made(head, silent), logits)
    again = HEADS[name](K, M, D, task)
    again.load_state_dict(head.state_dict())
    again.start(silent)  # fitting reads none either
    assert torch.isfinite(made(again, silent)).all()
    if name not in ("paper",):  # its weights are random, and start does nothing
        assert torch.allclose(made(again, silent), logits, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", HEADS)
def test_the_encoder_alone_is_enough(name: str, task: Task) -> None:
    torch.manual_seed(0)
    head = HEADS[name](K, M, D, task)
    rows = evidence_of(60, task)
    head.start(rows)
    alone = torch.zeros_like(rows.present)
    alone[:, 0] = True
    assert torch.isfinite(made(head, rows._replace(present=alone))).all()


def test_absent_members_count_as_the_mean_of_the_present_ones() -> None:
    members = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]]])
    flat = flat_opinions(members, torch.tensor([[True, True, False]]))
    assert flat.tolist() == [[1.0, 2.0, 3.0, 6.0, 2.0, 4.0]]


@pytest.mark.parametrize("task", TASKS)
def test_average_is_the_linear_pool(task: Task) -> None:
    rows = evidence_of(20, task)
    assert torch.equal(made(AverageFusion(K, M, D, task), rows), linear_average(rows.members, rows.present, task))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("strengths", [(1.0, 2.0, 0.2), (2.0, 0.1, 0.1), (0.05, 0.05, 0.05)])
@pytest.mark.parametrize("name", ["pool", "mlp", "gated"])
def test_starts_no_worse_than_the_best_member(name: str, strengths: tuple[float, ...], task: Task) -> None:
    torch.manual_seed(0)
    rows = evidence_of(300, task, seed=3, strengths=strengths)
    rows = rows._replace(present=torch.ones_like(rows.present))
    head = HEADS[name](K, M, D, task)
    head.start(rows)
    best = min(loss(rows.members[:, m], rows.labels, task) for m in range(M))
    slack = 0.02 if name == "gated" else 1e-4  # the gate keeps some trust in each member
    assert loss(made(head, rows), rows.labels, task) <= best + slack
    if name != "gated":  # a mixture of probabilities is not promised on new rows
        new = evidence_of(300, task, seed=4, strengths=strengths)
        new = new._replace(present=torch.ones_like(new.present))
        best = min(loss(new.members[:, m], new.labels, task) for m in range(M))
        assert loss(made(head, new), new.labels, task) <= best + 0.01


@pytest.mark.parametrize("task", TASKS)
def test_trust_is_a_distribution_over_those_who_spoke(task: Task) -> None:
    torch.manual_seed(0)
    rows = evidence_of(80, task)
    head = GatedFusion(K, M, D, task)
    head.start(rows)
    for parameter in head.gate.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.nn.init.normal_(head.shares.weight, std=0.1)
    with torch.no_grad():
        trust = head.trust(rows.members, rows.present, rows.representation)
    assert torch.allclose(trust.sum(-1), torch.ones(80))
    assert torch.equal(trust == 0, ~rows.present)
    assert float(trust[rows.present.all(-1)].std(0).max()) > 0.001  # it depends on the text


def test_trust_follows_the_evidence() -> None:
    rows = evidence_of(300, "multiclass", strengths=(0.1, 2.0, 0.1))
    rows = rows._replace(present=torch.ones_like(rows.present))
    head = GatedFusion(K, M, D, "multiclass")
    head.start(rows)
    with torch.no_grad():
        trust = head.trust(rows.members, rows.present, rows.representation).mean(0)
    assert trust.argmax() == 1


def test_without_residual_it_is_the_papers_mlp() -> None:
    torch.manual_seed(0)
    head = FusionMLP(K, M, D, "multiclass", hidden=[8, 6], residual=False, use_representation=True)
    assert head.pool is None
    linears = [layer for layer in head.mlp if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linears] == [(M * (K + 1) + D, 8), (8, 6), (6, K)]
    rows = evidence_of(10, "multiclass")
    before = made(head, rows)
    head.start(rows)  # nothing to fit
    assert torch.equal(made(head, rows), before)
    assert float(before.std()) > 0.01
    x = torch.cat([flat_opinions(rows.members, rows.present), rows.present.float(), rows.representation], -1)
    for layer in linears[:-1]:
        x = F.gelu(layer(x))
    assert torch.allclose(before, linears[-1](x), atol=1e-6)


def test_with_residual_it_begins_at_the_pool() -> None:
    torch.manual_seed(0)
    rows = evidence_of(100, "multiclass")
    head, pool = FusionMLP(K, M, D, "multiclass"), PooledFusion(K, M, D, "multiclass")
    head.start(rows)
    pool.start(rows)
    assert torch.allclose(made(head, rows), made(pool, rows), atol=1e-6)


def test_few_rows_leave_the_pool_as_it_is() -> None:
    head = PooledFusion(K, M, D, "multiclass", correction_rows=100)
    assert head.correction is not None
    for rows in (99, 100):
        head.start(evidence_of(rows, "multiclass", strengths=(0.2, 1.0, -1.0)))  # the last is right when it says no
        assert bool(head.correction.weight.any()) == (rows >= 100)


def test_stack_and_scikit_learn_agree() -> None:
    from sklearn.linear_model import LogisticRegression

    rows = evidence_of(300, "multiclass")
    head = LinearStack(K, M, D, "multiclass", c=0.05)
    head.start(rows)
    x = flat_opinions(rows.members, rows.present).double().numpy()
    theirs = LogisticRegression(C=0.05, tol=1e-8, max_iter=5000).fit(x, rows.labels.numpy())
    ours = made(head, rows).softmax(-1)
    np.testing.assert_allclose(ours, theirs.predict_proba(x), atol=0.1)  # their bias has no penalty
    assert (ours.argmax(-1).numpy() == theirs.predict(x)).mean() > 0.98


def test_a_head_needs_a_forward() -> None:
    with pytest.raises(TypeError, match="abstract"):
        FusionHead(K, M, D, "multiclass")  # type: ignore[abstract]


@pytest.mark.parametrize("task", TASKS)
def test_where_one_member_speaks_alone_the_pool_is_as_sharp_as_that_member_is_right(task: Task) -> None:
    rows = evidence_of(600, task)
    head = PooledFusion(K, M, D, task)
    head.start(rows)
    own = inverse_temperatures(rows.members, rows.present, rows.labels, task)
    for m in range(M):
        alone = torch.zeros_like(rows.present)
        alone[:, m] = True
        assert torch.allclose(made(head, rows._replace(present=alone)), own[m] * rows.members[:, m], atol=1e-5)


def test_agreements_are_products_of_probabilities() -> None:
    opinions = evidence_of(5, "multiclass").members
    p = opinions.softmax(-1)
    pairs = agreements(opinions, "multiclass").view(5, 3, K, K)
    assert torch.allclose(pairs.sum((2, 3)), torch.ones(5, 3))
    for at, (first, second) in enumerate([(0, 1), (0, 2), (1, 2)]):
        assert torch.allclose(pairs[:, at, 3, 1], p[:, first, 3] * p[:, second, 1])
    many = normalise(torch.randn(5, 2, 40), "multiclass")
    assert torch.allclose(agreements(many, "multiclass"), many.exp().prod(1))
    assert torch.allclose(agreements(many, "multilabel"), many.sigmoid().prod(1))


@pytest.mark.parametrize("task", TASKS)
def test_what_is_held_out_is_what_the_other_rows_say(task: Task) -> None:
    rows = evidence_of(60, task)
    others = torch.arange(60) % 5 != 2
    held = PooledFusion(K, M, D, task, correction=False).start(rows)
    weights, bias = fit_pool(rows.members[others], rows.present[others], rows.labels[others], task)
    assert torch.allclose(
        held[~others], log_linear_pool(rows.members[~others], rows.present[~others], weights, bias), atol=1e-5
    )
    stacked = LinearStack(K, M, D, task, c=0.5).start(rows)
    features = flat_opinions(rows.members, rows.present)
    weight, bias = fit_linear(features[others], rows.labels[others], task, 2.0, num_labels=K)
    assert torch.allclose(stacked[~others], features[~others] @ weight.T + bias, atol=2e-2)
    assert FusionMLP(K, M, D, task, residual=False).start(rows) is None


@pytest.mark.parametrize("task", TASKS)
def test_held_out_rows_are_judged_less_kindly_than_fitted_ones(task: Task) -> None:
    rows = evidence_of(150, task)
    for head in (PooledFusion(K, M, D, task), LinearStack(K, M, D, task)):
        held = head.start(rows)
        assert loss(held, rows.labels, task) > loss(made(head, rows), rows.labels, task)


@pytest.mark.parametrize("name", ["stack", "pool", "plain pool", "mlp"])
def test_rows_of_other_class_shares_teach_what_to_say_of_texts_once_they_are_shifted(name: str) -> None:
    """Evidence with as many rows of each class, for texts of which most are of one."""
    often = torch.tensor([0.7, 0.2, 0.07, 0.03])
    even, texts = (evidence_of(rows, "multiclass", rows, (0.3, 0.5, 0.1)) for rows in (2400, 6000))
    texts = texts.of(torch.multinomial(often[texts.labels], 1500, generator=torch.Generator().manual_seed(3)))
    shift = (0.25 / often).log().expand(2400, K)
    found = {}
    for kind, rows in (("as they are", even), ("shifted", even._replace(shift=shift)), ("texts", texts)):
        torch.manual_seed(0)
        head = HEADS[name](K, M, D, "multiclass")
        held = head.start(rows)
        found[kind] = loss(made(head, texts), texts.labels, "multiclass")
        if kind == "shifted":  # what is held out is said for texts, too
            assert loss(held + shift, even.labels, "multiclass") < loss(held, even.labels, "multiclass") - 0.05
    assert found["shifted"] < found["texts"] + 0.05  # nearly as good as if fitted on the texts themselves
    assert found["shifted"] < found["as they are"] - 0.05
