from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.ensemble import VotingClassifier
from torch import Tensor

from lf_lightning.contract import Task
from lf_lightning.heads import AverageFusion, Evidence, MajorityFusion, MixtureFusion, RoutedFusion
from lf_lightning.heads.voting import route
from tests.heads.test_heads import TASKS, K, M, evidence_of


def full(n: int, task: Task, seed: int = 0, strengths: tuple[float, ...] = (1.0, 2.0, 0.2)) -> Evidence:
    rows = evidence_of(n, task, seed, strengths)
    return rows._replace(present=torch.ones_like(rows.present))


def say(head: torch.nn.Module, rows: Evidence) -> Tensor:
    with torch.no_grad():
        return head(rows.members, rows.present, torch.zeros(len(rows.members), 0))


class Fixed:
    """A classifier that says what it was given, for scikit-learn's vote."""

    def __init__(self, p: np.ndarray) -> None:
        self.p = p

    def predict(self, _: object) -> np.ndarray:
        return self.p.argmax(1)

    def predict_proba(self, _: object) -> np.ndarray:
        return self.p


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_votes_are_those_of_scikit_learn(voting: str) -> None:
    rows = full(300, "multiclass")
    p = rows.members.softmax(-1).numpy()
    vote = VotingClassifier([(str(m), None) for m in range(M)], voting=voting)
    vote.estimators_ = [Fixed(p[:, m]) for m in range(M)]
    vote.le_ = type("Identity", (), {"inverse_transform": staticmethod(lambda made: made)})()
    made = say((MajorityFusion if voting == "hard" else AverageFusion)(K, M, 0, "multiclass"), rows)
    expected = vote.predict(np.zeros((300, 1)))
    votes = np.eye(K)[p.argmax(-1)].sum(1)
    clear = votes.max(1) > 1 if voting == "hard" else np.ones(300, dtype=bool)  # scikit-learn breaks ties by the class number
    assert (made.argmax(1).numpy()[clear] == expected[clear]).all()
    assert clear.sum() < 300 or voting == "soft"


def test_a_tie_goes_to_the_surer_member() -> None:
    members = torch.log(torch.tensor([[[0.9, 0.1], [0.4, 0.6]], [[0.55, 0.45], [0.2, 0.8]]]))
    rows = Evidence(members, torch.ones(2, 2, dtype=torch.bool), torch.zeros(2))
    assert say(MajorityFusion(2, 2, 0, "multiclass"), rows).argmax(1).tolist() == [0, 1]


def test_a_majority_of_labels() -> None:
    odds = torch.logit(torch.tensor([[[0.9, 0.4], [0.4, 0.4], [0.3, 0.9], [0.9, 0.1], [0.9, 0.1]]]))
    rows = Evidence(odds, torch.ones(1, 5, dtype=torch.bool), torch.zeros(1, 2))
    logits = say(MajorityFusion(2, 5, 0, "multilabel"), rows)
    assert (logits > 0).tolist() == [[True, False]]
    absent = rows._replace(present=torch.tensor([[False, True, True, False, False]]))
    assert (say(MajorityFusion(2, 5, 0, "multilabel"), absent) > 0).tolist() == [[False, True]]  # a tie: mean 0.35, 0.65


@pytest.mark.parametrize("task", TASKS)
def test_shares_are_the_likeliest_and_shrink_to_equal(task: Task) -> None:
    rows = full(400, task)
    head = MixtureFusion(K, M, 0, task, prior_rows=0.0)
    head.start(rows)
    p = rows.members.double().softmax(-1) if task == "multiclass" else rows.members.double().sigmoid()

    def loss(free: np.ndarray) -> float:
        w = torch.from_numpy(np.exp(free) / np.exp(free).sum())
        mixed = torch.einsum("m,nmk->nk", w, p)
        if task == "multiclass":
            return float(-mixed[torch.arange(400), rows.labels].log().sum())
        return float(-torch.where(rows.labels > 0, mixed, 1 - mixed).log().sum())

    best = minimize(loss, np.zeros(M), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-8, "maxiter": 4000}).x
    assert np.abs(head.shares.numpy() - np.exp(best) / np.exp(best).sum()).max() < 0.01
    shrunk = MixtureFusion(K, M, 0, task, prior_rows=1e9)
    shrunk.start(rows)
    assert (shrunk.shares - 1 / M).abs().max() < 1e-4
    assert torch.allclose(say(shrunk, rows), say(AverageFusion(K, M, 0, task), rows), atol=1e-3)


def test_each_label_has_its_expert() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (600,), generator=generator)
    truth = torch.nn.functional.one_hot(labels, 4).float()
    sharp = torch.tensor([[3.0, 3.0, 0.1, 0.1], [0.1, 0.1, 3.0, 3.0]])  # each member knows two labels
    members = (truth.unsqueeze(1) * sharp + 0.3 * torch.randn(600, 2, 4, generator=generator)).log_softmax(-1)
    rows = Evidence(members, torch.ones(600, 2, dtype=torch.bool), labels)
    head = RoutedFusion(4, 2, 0, "multiclass")
    held = head.start(rows)
    assert head.experts.tolist() == [0, 0, 1, 1]
    right = (held.argmax(1) == labels).float().mean()
    assert right > (members.argmax(-1) == labels[:, None]).float().mean(0).max() + 0.1
    absent = rows._replace(present=torch.tensor([[True, False]]).expand(600, 2))
    assert torch.allclose(say(head, absent), members[:, 0])


@pytest.mark.parametrize("task", TASKS)
def test_by_luck_nobody_becomes_an_expert(task: Task) -> None:
    taken = 0
    for seed in range(20):
        rows = full(12, task, seed, strengths=(1.0, 1.0, 1.0))
        experts, best = route(rows.members[:, :1].expand(-1, 3, -1), rows.present, rows.labels, task)
        assert experts.tolist() == [best] * K
        strong = full(12, task, seed, strengths=(3.0, 0.0, 0.0))
        experts, best = route(strong.members, strong.present, strong.labels, task)
        taken += int((experts != 0).sum())
        assert best == 0
    assert taken <= 2


@pytest.mark.parametrize("head", [MixtureFusion, RoutedFusion])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("n", [1, 2, 4, 60])
def test_held_out_rows_are_not_fitted_on(head: type, task: Task, n: int) -> None:
    rows = full(n, task)
    made = head(K, M, 0, task)
    held = made.start(rows)
    assert held.shape == (n, K)
    assert torch.isfinite(held).all()
    if n == 60:
        others = torch.arange(n) % 5 != 0
        again = head(K, M, 0, task)
        again.start(Evidence(rows.members[others], rows.present[others], rows.labels[others]))
        assert torch.allclose(say(again, rows)[~others], held[~others], atol=1e-5)
