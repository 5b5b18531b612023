"""Agreement, margin and swapped weights against numpy and scipy in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.special import expit, rel_entr, softmax

from lf_lightning.dynamics import agreement, margin, swapped_weights

N, K = 40, 5


@pytest.fixture
def logits() -> torch.Tensor:
    return 3 * torch.randn(N, K, generator=torch.Generator().manual_seed(0))


def test_agreement_with_a_hard_label_is_its_probability(logits: torch.Tensor) -> None:
    labels = torch.arange(N) % K
    expected = softmax(logits.double().numpy(), 1)[np.arange(N), labels.numpy()]
    np.testing.assert_allclose(agreement(logits, labels, "multiclass").numpy(), expected, rtol=1e-5)


def test_agreement_with_a_soft_label_is_exp_minus_kl(logits: torch.Tensor) -> None:
    shares = np.random.default_rng(0).dirichlet(np.full(K, 0.3), N)
    shares[0] = np.eye(K)[2]
    expected = np.exp(-rel_entr(shares, softmax(logits.double().numpy(), 1)).sum(1))
    got = agreement(logits, torch.from_numpy(shares).float(), "multiclass")
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4)
    assert float(got[0]) == pytest.approx(float(logits[0].softmax(0)[2]))
    said = logits.softmax(-1)
    torch.testing.assert_close(agreement(logits, said, "multiclass"), torch.ones(N))


@pytest.mark.parametrize("hard", [True, False])
def test_agreement_of_multilabel_rows_is_the_geometric_mean_over_labels(hard: bool, logits: torch.Tensor) -> None:
    q = np.random.default_rng(1).random((N, K))
    q = (q > 0.5).astype(float) if hard else q
    p = expit(logits.double().numpy())
    expected = np.exp(-(rel_entr(q, p) + rel_entr(1 - q, 1 - p)).mean(1))
    np.testing.assert_allclose(agreement(logits, torch.from_numpy(q).float(), "multilabel").numpy(), expected, rtol=1e-4)


def test_agreement_stays_finite_and_within_0_and_1_at_extreme_logits() -> None:
    z = torch.tensor([[200.0, -200.0], [-200.0, 200.0]])
    for labels in (torch.tensor([0, 0]), torch.tensor([[0.7, 0.3], [1.0, 0.0]])):
        got = agreement(z, labels, "multiclass")
        assert ((got >= 0) & (got <= 1)).all()
    got = agreement(z, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), "multilabel")
    torch.testing.assert_close(got, torch.tensor([1.0, 0.0]))


def test_margin_is_the_label_against_the_best_other(logits: torch.Tensor) -> None:
    labels = np.arange(N) % K
    z = logits.numpy()
    expected = [z[i, y] - max(z[i, j] for j in range(K) if j != y) for i, y in enumerate(labels)]
    np.testing.assert_allclose(margin(logits, torch.from_numpy(labels), "multiclass").numpy(), expected, rtol=1e-6)
    shares = torch.full((N, K), 0.1).scatter(1, torch.from_numpy(labels)[:, None], 0.6)
    torch.testing.assert_close(margin(logits, shares, "multiclass"), margin(logits, torch.from_numpy(labels), "multiclass"))
    q = (torch.arange(N * K).reshape(N, K) % 2).float()
    expected = ((2 * q.numpy() - 1) * z).mean(1)
    np.testing.assert_allclose(margin(logits, q, "multilabel").numpy(), expected, rtol=1e-5, atol=1e-6)


def test_weights_are_swapped_between_the_nets() -> None:
    c, v = torch.tensor([[0.9, 0.4]]), torch.tensor([[0.1, 0.2]])
    # net 1 learns with c2 - v2, net 2 with c1 + v1
    torch.testing.assert_close(swapped_weights(c, v), torch.tensor([[0.2, 1.0]]))


def test_the_least_conservative_weight_is_as_the_docstring_says() -> None:
    # A share s of the epochs at 1 and the others at 0: c - v = s - sqrt(s (1 - s)), least at s = (1 - 1 / sqrt 2) / 2.
    shares = np.linspace(0, 1, 100_001)
    assert (shares - np.sqrt(shares * (1 - shares))).min() == pytest.approx(-0.2071, abs=1e-4)
    least = min(
        np.mean(series) - np.std(series)
        for n in range(1, 13)
        for series in itertools.combinations_with_replacement((0.0, 1.0), n)
    )
    assert -0.2072 < least < -0.2
    c, v = torch.full((1, 2), 0.1464), torch.full((1, 2), 0.3536)
    assert float(swapped_weights(c, v)[0, 0]) == 0.0
    assert float(swapped_weights(c, v, "none")[0, 0]) == pytest.approx(-0.2072, abs=1e-4)


def test_rescaled_weights_span_0_to_1_and_pass_over_unknown_rows() -> None:
    c = torch.tensor([[0.1, 0.9], [0.5, 0.3], [torch.nan, torch.nan]])
    v = torch.tensor([[0.1, 0.1], [0.2, 0.35], [0.0, 0.0]])
    weights = swapped_weights(c, v, "rescale")
    assert weights[:2].amin(0).tolist() == [0.0, 0.0]
    assert weights[:2].amax(0).tolist() == [1.0, 1.0]
    assert weights[2].isnan().all()
