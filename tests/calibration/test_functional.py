from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from lf_lightning.calibration import (
    fit_isotonic,
    fit_platt,
    fit_temperature,
    fit_vector,
    log_probabilities,
    one_vs_rest_log_odds,
    probabilities,
)
from lf_lightning.errors import ConfigurationError


def multiclass_rows(n: int, k: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `sharpness` times too large, and labels drawn from the honest probabilities."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, k)) * 1.5
    p = np.exp(log_softmax(honest, axis=1))
    labels = np.array([rng.choice(k, p=row) for row in p])
    return honest * sharpness, labels


def multilabel_rows(n: int, k: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, k)) * 2 - 1
    return honest * sharpness, (rng.random((n, k)) < expit(honest)).astype(float)


def mean_nll(z: np.ndarray, y: np.ndarray) -> float:
    if y.ndim == 1:
        return float(-log_softmax(z, axis=1)[np.arange(len(y)), y].mean())
    return float((np.logaddexp(0, z) - y * z).mean())


def test_probabilities_follow_scipy_and_keep_float64() -> None:
    z = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 5
    torch.testing.assert_close(probabilities(z, "multiclass").numpy(), np.exp(log_softmax(z.numpy(), axis=1)))
    torch.testing.assert_close(probabilities(z, "multilabel").numpy(), expit(z.numpy()))
    torch.testing.assert_close(log_probabilities(z, "multilabel").numpy(), np.log(expit(z.numpy())))
    assert probabilities(z.bfloat16(), "multiclass").dtype == torch.float32
    with pytest.raises(ConfigurationError, match="multi_class"):
        probabilities(z, "multi_class")


def test_one_vs_rest_log_odds_agree_with_their_definition_and_stay_exact_at_the_ends() -> None:
    z = torch.randn(200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3
    torch.testing.assert_close(one_vs_rest_log_odds(z, "multiclass"), torch.logit(z.softmax(-1)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(one_vs_rest_log_odds(z + 7, "multiclass"), one_vs_rest_log_odds(z, "multiclass"))
    sure = one_vs_rest_log_odds(torch.tensor([[80.0, 0.0]]), "multiclass")
    torch.testing.assert_close(sure, torch.tensor([[80.0, -80.0]]))
    assert one_vs_rest_log_odds(z, "multilabel") is z


@pytest.mark.parametrize("strength", [0.0, 1.0, 50.0])
@pytest.mark.parametrize("rows", [multiclass_rows(300, 4, 3.0), multilabel_rows(200, 3, 0.4)])
def test_temperature_is_the_minimum_that_scipy_finds(rows: tuple[np.ndarray, np.ndarray], strength: float) -> None:
    z, y = rows
    n = y.size

    def objective(t: float) -> float:
        return mean_nll(z / t, y) * n + strength / 2 * np.log(t) ** 2

    reference = minimize_scalar(objective, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9}).x
    assert fit_temperature(z, y, "multiclass" if y.ndim == 1 else "multilabel", strength=strength) == pytest.approx(
        reference, rel=1e-5
    )


def test_temperature_recovers_the_sharpness() -> None:
    z, y = multiclass_rows(4000, 4, 3.0)
    assert fit_temperature(z, y, "multiclass") == pytest.approx(3.0, rel=0.08)


def test_temperature_of_few_faultless_rows_is_shrunk_and_without_shrinkage_bounded() -> None:
    z, y = np.array([[2.0, 0.0], [0.0, 2.0]] * 3), np.array([0, 1] * 3)
    # Near the bound the likelihood is 1 to all digits, and any T there is as good.
    assert 0.05 <= fit_temperature(z, y, "multiclass", strength=0.0) < 0.06
    assert 0.3 < fit_temperature(z, y, "multiclass") < 1.0
    assert fit_temperature(-z, y, "multiclass", strength=0.0) == pytest.approx(20.0)
    assert fit_temperature(np.ones((6, 2)), y, "multiclass") == 1.0
    with pytest.raises(ConfigurationError, match="bounds"):
        fit_temperature(z, y, "multiclass", bounds=(2.0, 3.0))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 30), st.integers(1, 40), st.sampled_from([0.0, 1.0]), st.booleans())
def test_temperature_never_makes_the_likelihood_worse(
    seed: int, sharpness: float, n: int, strength: float, multi: bool
) -> None:
    z, y = (multilabel_rows if multi else multiclass_rows)(n, 3, sharpness, seed)
    t = fit_temperature(z, y, "multilabel" if multi else "multiclass", strength=strength)
    assert 0.05 <= t <= 20.0
    assert mean_nll(z / t, y) <= mean_nll(z, y) + 1e-6


@pytest.mark.parametrize("rows", [multiclass_rows(400, 3, 2.0), multilabel_rows(300, 3, 0.5)])
def test_vector_scaling_is_the_minimum_that_scipy_finds(rows: tuple[np.ndarray, np.ndarray]) -> None:
    z, y = rows
    k = z.shape[1]

    def objective(theta: np.ndarray) -> float:
        a, b = theta[:k], theta[k:]
        return mean_nll(z * a + b, y) * y.size + 2.0 * (((a - 1) ** 2).sum() + (b**2).sum())

    start = np.concatenate([np.ones(k), np.zeros(k)])
    reference = minimize(objective, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 20_000}).x
    scale, bias = fit_vector(z, y, "multiclass" if y.ndim == 1 else "multilabel", strength=4.0)
    np.testing.assert_allclose(np.concatenate([scale, bias]), reference, atol=1e-4)


def test_vector_scaling_holds_labels_and_shrinks() -> None:
    z, y = multiclass_rows(200, 4, 2.0)
    scale, bias = fit_vector(z, y, "multiclass", free=np.array([True, False, True, True]))
    assert scale[1] == 1.0
    assert bias[1] == 0.0
    assert (scale[[0, 2, 3]] != 1.0).all()
    near = fit_vector(z, y, "multiclass", strength=1e7)
    np.testing.assert_allclose(near[0], 1.0, atol=1e-3)
    assert (fit_vector(-z, y, "multiclass", strength=0.0)[0] >= 0).all()


def test_platt_is_a_logistic_regression_on_smoothed_targets() -> None:
    z, y = multilabel_rows(150, 1, 4.0)
    s, positive = z[:, 0], y[:, 0]
    high, low = (positive.sum() + 1) / (positive.sum() + 2), 1 / ((1 - positive).sum() + 2)
    target = np.where(positive == 1, high, low)
    # A soft target t is a positive row of weight t and a negative one of weight 1 - t.
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    reference.fit(np.tile(s, 2)[:, None], np.repeat([1, 0], len(s)), sample_weight=np.concatenate([target, 1 - target]))
    assert fit_platt(s, positive) == pytest.approx((reference.coef_[0, 0], reference.intercept_[0]), rel=1e-4)


def test_platt_stays_finite_on_separable_and_on_constant_scores() -> None:
    a, b = fit_platt(np.array([-900.0, -800.0, 800.0, 900.0]), np.array([0, 0, 1, 1]))
    assert expit(a * 900 + b) == pytest.approx(3 / 4, abs=0.02)
    a, b = fit_platt(np.zeros(10), np.array([1] * 7 + [0] * 3))
    target_mean = (7 * (8 / 9) + 3 * (1 / 5)) / 10
    assert expit(b) == pytest.approx(target_mean, abs=1e-6)


def test_isotonic_agrees_with_sklearn_between_and_beyond_the_knots() -> None:
    z, y = multilabel_rows(500, 1, 2.0)
    s, positive = z[:, 0], y[:, 0]
    x, values = fit_isotonic(s, positive)
    where = np.linspace(s.min() - 3, s.max() + 3, 1001)
    reference = IsotonicRegression(out_of_bounds="clip").fit(s, positive).predict(where)
    # Clipped knots, against the clipped function: the two differ on the ramps next to a clipped knot only.
    np.testing.assert_allclose(np.interp(where, x, values), reference, atol=1 / 502 + 1e-12)
    assert x.shape == values.shape == (256,)
    assert values.min() >= 1 / 502
    assert values.max() <= 501 / 502


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(2, 12))
def test_isotonic_knots_never_fall(seed: int, n: int, knots: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = fit_isotonic(rng.normal(size=n).round(1), rng.integers(0, 2, n), knots)
    assert x.shape == y.shape == (knots,)
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()
    assert y.min() >= 1 / (n + 2)
    assert y.max() <= 1 - 1 / (n + 2)
