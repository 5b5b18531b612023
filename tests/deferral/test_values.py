"""What an opinion is worth: against the definition row by row, and where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lf_lightning.deferral import Deferral, ExpectedGain, LearnedGain, RandomDeferral, Uncertainty
from lf_lightning.errors import ConfigurationError, NotFittedError

KINDS = [ExpectedGain, LearnedGain, Uncertainty, RandomDeferral]
Rows = tuple[Tensor, Tensor, Tensor]


def pool(members: Tensor, present: Tensor) -> Tensor:
    """The product of the present members' probabilities."""
    return torch.where(present[..., None], members, 0.0).sum(1).softmax(-1)


def bernoulli(members: Tensor, present: Tensor) -> Tensor:
    return torch.where(present[..., None], members, 0.0).sum(1).sigmoid()


def rows_of(n: int = 300, k: int = 3, scorers: int = 2, seed: int = 0) -> Rows:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(k, (n,), generator=rng)
    truth = torch.nn.functional.one_hot(labels, k).float()
    noise = torch.randn(n, scorers + 1, k, generator=rng)
    members = (1.5 * truth[:, None] + noise).log_softmax(-1)
    present = torch.rand(n, scorers + 1, generator=rng) < 0.9
    present[:, 0] = True
    return members, present, labels


@pytest.mark.parametrize("measure", ["log", "brier", "accuracy"])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_expected_gain_is_its_definition(measure: str, task: str) -> None:
    members, present, labels = rows_of(40)
    fuse = pool if task == "multiclass" else bernoulli
    y = labels if task == "multiclass" else (torch.rand(40, 3, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    deferral = ExpectedGain(3, 2, task, measure=measure, bank=12)  # type: ignore[arg-type]
    deferral.fit(members, present, y, fuse)
    found = deferral.values(1, members[:5], present[:5], fuse)

    bank, told = deferral.opinions[1].double().numpy(), deferral.labels[1].numpy()
    assert task == "multilabel" or told.sum(0).tolist() == [4, 4, 4]
    for i in range(5):
        known = present[i : i + 1].clone()
        known[:, 2] = False
        p = fuse(members[i : i + 1].double(), known)[0].numpy()
        weights, gains = [], []
        for s, target in zip(bank, told, strict=True):
            chance = np.prod(np.where(target > 0, p, 1 - p)) if task == "multilabel" else p[target.argmax()]
            weights.append(chance / (told == target).all(1).sum())
            then, said = known.clone(), members[i : i + 1].double().clone()
            then[:, 2], said[:, 2] = True, torch.from_numpy(s)
            q = fuse(said, then)[0].numpy()
            gains.append(utility(q, target, measure, task) - utility(p, target, measure, task))
        expected = np.average(gains, weights=weights) * present[:, 2].float().mean().item()
        assert found[i].item() == pytest.approx(expected, abs=2e-5)


def utility(p: np.ndarray, target: np.ndarray, measure: str, task: str) -> float:
    if measure == "log":  # a probability of less than 0.001 counts as 0.001
        cells = np.log(np.maximum(np.where(target > 0, p, 1 - p), 1e-3))
        return float(cells.mean() if task == "multilabel" else np.log(p[target.argmax()]))
    if measure == "brier":
        return -float(((p - target) ** 2).mean() if task == "multilabel" else ((p - target) ** 2).sum())
    return float(((p > 0.5) == target).all() if task == "multilabel" else p.argmax() == target.argmax())


def test_a_scorer_is_asked_where_it_knows_the_labels_in_question() -> None:
    """It tells class 0 from 1 and never 2 from 3; the encoder is equally unsure within both pairs."""
    labels = torch.arange(400) % 4
    said = torch.zeros(400, 4)
    said[labels == 0] = torch.tensor([3.0, -3, 0, 0])
    said[labels == 1] = torch.tensor([-3.0, 3, 0, 0])
    encoder = torch.where((labels < 2)[:, None], torch.tensor([2.0, 2, -2, -2]), torch.tensor([-2.0, -2, 2, 2]))
    members = torch.stack([encoder, said], 1).log_softmax(-1)
    present = torch.ones(400, 2, dtype=torch.bool)
    for kind in (ExpectedGain, LearnedGain):
        deferral = kind(4, 1, "multiclass")
        deferral.fit(members, present, labels, pool)
        worth = deferral.values(0, members, present, pool)
        assert worth[labels < 2].min() > worth[labels > 1].max() + 0.1
    unsure = Uncertainty(4, 1, "multiclass")
    unsure.fit(members, present, labels, pool)
    assert unsure.values(0, members, present, pool).std() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_later_opinions_are_not_looked_at_and_texts_do_not_matter_to_each_other(kind: type[Deferral]) -> None:
    members, present, labels = rows_of()
    deferral = kind(3, 2, "multiclass")
    deferral.fit(members, present, labels, pool)
    for asked in (0, 1):
        worth = deferral.values(asked, members, present, pool)
        changed, hidden = members.clone(), present.clone()
        changed[:, asked + 1 :] = 7.0
        hidden[:, asked + 1 :] ^= True
        assert torch.equal(worth, deferral.values(asked, changed, hidden, pool))
        alone = torch.cat([deferral.values(asked, members[[i]], present[[i]], pool) for i in range(4)])
        assert torch.allclose(worth[:4], alone, atol=1e-6)
        assert worth.unique().numel() > 250


@pytest.mark.parametrize("kind", KINDS)
def test_state_travels_and_nothing_works_before(kind: type[Deferral]) -> None:
    members, present, labels = rows_of()
    deferral, other = kind(3, 2, "multiclass"), kind(3, 2, "multiclass")
    with pytest.raises(NotFittedError):
        deferral.values(0, members, present, pool)
    deferral.fit(members, present, labels, pool)
    other.load_state_dict(deferral.state_dict())
    assert torch.equal(deferral.values(1, members, present, pool), other.values(1, members, present, pool))
    with pytest.raises(ConfigurationError, match="asked=2"):
        deferral.values(2, members, present, pool)
    with pytest.raises(ConfigurationError, match="members of shape"):
        deferral.values(0, members[:, :2], present[:, :2], pool)


def test_a_scorer_that_never_answered_is_worth_nothing() -> None:
    members, present, labels = rows_of()
    present[:, 2] = False
    deferral = ExpectedGain(3, 2, "multiclass")
    deferral.fit(members, present, labels, pool)
    assert (deferral.values(1, members, present, pool) == 0).all()


def test_learned_gain_finds_the_ridge_solution() -> None:
    from sklearn.linear_model import Ridge

    members, present, labels = rows_of()
    deferral = LearnedGain(3, 2, "multiclass", strength=10.0)
    deferral.fit(members, present, labels, pool)
    first, second = present.clone(), present.clone()
    first[:, 1:] = False
    second[:, 2:] = False
    p, q = pool(members, first), pool(members, second)
    top = p.topk(2).values
    entropy = -(p * p.log()).sum(1)
    z = torch.cat([(top[:, 0] - top[:, 1])[:, None], entropy[:, None], p], 1).double().numpy()
    rows = torch.arange(len(labels))
    floor = np.log(1e-3)
    gain = (q[rows, labels].log().clamp(min=floor) - p[rows, labels].log().clamp(min=floor)).double().numpy()
    z = (z - z.mean(0)) / z.std(0)
    expected = Ridge(alpha=10.0).fit(z, gain).predict(z)
    assert np.allclose(deferral.values(0, members, present, pool), expected, atol=1e-4)
