from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from torch import Tensor

from lf_lightning.calibration import (
    BetaCalibration,
    Calibrator,
    IdentityCalibration,
    IsotonicCalibration,
    PlattScaling,
    TemperatureScaling,
    VectorScaling,
    fit_platt,
    one_vs_rest_log_odds,
    probabilities,
)
from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError, DataError, NotFiniteError, NotFittedError

FITTED = [TemperatureScaling, VectorScaling, PlattScaling, IsotonicCalibration, BetaCalibration]
Kind = Callable[[int, Task], Calibrator]
TASKS: list[Task] = ["multiclass", "multilabel"]


def rows(task: Task, n: int = 300, k: int = 3, seed: int = 0, sharpness: float = 4.0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    honest = torch.randn(n, k, generator=g)
    p = probabilities(honest, task)
    labels = torch.multinomial(p, 1, generator=g)[:, 0] if task == "multiclass" else (torch.rand(n, k, generator=g) < p).float()
    return honest * sharpness + 0.5, labels


def nll(logits: Tensor, labels: Tensor) -> float:
    if labels.ndim == 1:
        return float(torch.nn.functional.cross_entropy(logits.double(), labels))
    return float(torch.nn.functional.binary_cross_entropy_with_logits(logits.double(), labels.double()))


def fitted(kind: Kind, task: Task, n: int = 300, k: int = 3, seed: int = 0) -> Calibrator:
    calibrator = kind(k, task)
    calibrator.fit(*rows(task, n, k, seed))
    return calibrator


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", FITTED)
def test_calibration_improves_held_out_likelihood(kind: Kind, task: Task) -> None:
    calibrator = fitted(kind, task, n=600)
    z, y = rows(task, 2000, seed=1)
    assert nll(calibrator(z), y) < nll(z, y) - 0.05
    assert calibrator.report["method"] == {"TemperatureScaling": "temperature", "VectorScaling": "vector"}.get(
        kind.__name__,
        kind.__name__.removesuffix("Scaling").removesuffix("Calibration").lower(),
    )
    assert calibrator.report["rows"] == 600


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", FITTED)
def test_unfitted_raises_and_says_the_way_out(kind: Kind, task: Task) -> None:
    calibrator = kind(3, task)
    assert not calibrator.is_fitted
    assert all(torch.isnan(b).all() for b in calibrator.buffers())
    with pytest.raises(NotFittedError, match=r"\.fit\("):
        calibrator(torch.zeros(2, 3))


def test_identity_passes_logits_through() -> None:
    z = torch.randn(4, 3)
    calibrator = IdentityCalibration(3, "multiclass")
    assert torch.equal(calibrator(z), z)
    calibrator.fit(*rows("multiclass"))
    assert torch.equal(calibrator(z), z)
    assert calibrator.report["method"] == "identity"
    assert not calibrator.state_dict()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 80), st.sampled_from(FITTED), st.floats(0.01, 20))
def test_probabilities_are_probabilities_whatever_the_rows(seed: int, n: int, kind: Kind, sharpness: float) -> None:
    for task in TASKS:
        calibrator = kind(3, task)
        calibrator.fit(*rows(task, n, seed=seed, sharpness=sharpness))
        z = torch.cat([rows(task, 20, seed=seed + 1)[0] * 10, torch.tensor([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0]])])
        p = probabilities(calibrator(z), task)
        assert torch.isfinite(p).all()
        assert ((p >= 0) & (p <= 1)).all()
        if task == "multiclass":
            torch.testing.assert_close(p.sum(-1), torch.ones(len(p)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(25, 300))
def test_order_is_kept(seed: int, n: int) -> None:
    z, _ = rows("multiclass", 100, seed=seed + 1)
    calibrator = TemperatureScaling(3, "multiclass")
    calibrator.fit(*rows("multiclass", n, seed=seed))
    assert torch.equal(calibrator(z).argmax(-1), z.argmax(-1))
    isotonic = IsotonicCalibration(3, "multilabel", min_rows=1)
    isotonic.fit(*rows("multilabel", n, seed=seed))
    line = torch.linspace(-30, 30, 2001)[:, None].expand(-1, 3)
    assert (isotonic(line).diff(dim=0) >= -1e-5).all()


def test_isotonic_module_agrees_with_sklearn() -> None:
    z, y = rows("multilabel", 400)
    calibrator = IsotonicCalibration(3, "multilabel")
    calibrator.fit(z, y)
    new = rows("multilabel", 500, seed=3)[0]
    p = calibrator(new).sigmoid().numpy()
    for k in range(3):
        model = IsotonicRegression(out_of_bounds="clip").fit(z[:, k].double().numpy(), y[:, k].numpy())
        np.testing.assert_allclose(p[:, k], model.predict(new[:, k].double().numpy()), atol=1 / 402 + 1e-4)


def test_multiclass_platt_is_one_vs_rest_renormalised() -> None:
    z, y = rows("multiclass", 200)
    calibrator = PlattScaling(3, "multiclass")
    calibrator.fit(z, y)
    s = one_vs_rest_log_odds(z.double(), "multiclass").numpy()
    each = np.stack(
        [1 / (1 + np.exp(-(a * s[:, k] + b))) for k in range(3) for a, b in [fit_platt(s[:, k], y.numpy() == k)]], 1
    )
    np.testing.assert_allclose(probabilities(calibrator(z), "multiclass"), each / each.sum(1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("kind", [VectorScaling, PlattScaling, IsotonicCalibration])
@pytest.mark.parametrize("task", TASKS)
def test_a_label_with_few_rows_gets_temperature_scaling(kind: Kind, task: Task) -> None:
    z, y = rows(task, 300, k=4)
    if task == "multiclass":
        z, y = z[y != 3], y[y != 3]
        z, y = torch.cat([z, z[:1]]), torch.cat([y, torch.tensor([3])])
    else:
        y[:, 3] = 0
        y[0, 3] = 1
    calibrator, temperature = kind(4, task), TemperatureScaling(4, task)
    calibrator.fit(z, y)
    temperature.fit(z, y)
    assert "label 3 has 1" in str(calibrator.report["reason"])
    assert calibrator.report["temperature"] == temperature.report["temperature"]
    if task == "multilabel":
        torch.testing.assert_close(calibrator(z)[:, 3], temperature(z)[:, 3])
        assert not torch.allclose(calibrator(z)[:, 0], temperature(z)[:, 0])
    assert torch.isfinite(calibrator(z)).all()


@pytest.mark.parametrize("kind", [VectorScaling, PlattScaling, IsotonicCalibration])
@pytest.mark.parametrize("task", TASKS)
def test_where_all_labels_have_few_rows_the_answer_is_temperature_scaling(kind: Kind, task: Task) -> None:
    z, y = rows(task, 6, seed=5)
    calibrator, temperature = kind(3, task), TemperatureScaling(3, task)
    calibrator.fit(z, y)
    temperature.fit(z, y)
    assert calibrator.report["method"] == "temperature"
    torch.testing.assert_close(probabilities(calibrator(z), task), probabilities(temperature(z), task))


@pytest.mark.parametrize("kind", FITTED)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("case", ["none", "one row", "one class"])
def test_too_few_rows_or_one_class_is_identity(kind: Kind, task: Task, case: str) -> None:
    z, y = rows(task, {"none": 0, "one row": 1, "one class": 50}[case])
    if case == "one class":
        y = torch.zeros_like(y)
    calibrator = kind(3, task)
    calibrator.fit(z, y)
    assert calibrator.is_fitted
    assert calibrator.report["method"] == "identity"
    assert calibrator.report["reason"]
    new = rows(task, 20, seed=2)[0]
    torch.testing.assert_close(probabilities(calibrator(new), task), probabilities(new, task))


@pytest.mark.parametrize("kind", FITTED)
@pytest.mark.parametrize("task", TASKS)
def test_unlabelled_rows_and_rows_without_an_opinion_change_nothing(kind: Kind, task: Task) -> None:
    z, y = rows(task, 100)
    clean, dirty = kind(3, task), kind(3, task)
    clean.fit(z, y)
    unlabelled = torch.full_like(y[:2], -1 if task == "multiclass" else torch.nan)
    dirty.fit(torch.cat([z, torch.full((5, 3), torch.nan), z[:2]]), torch.cat([y, y[:5], unlabelled]))
    assert dirty.report["ignored_rows"] == 7
    for a, b in zip(clean.buffers(), dirty.buffers(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", [IdentityCalibration, *FITTED])
@pytest.mark.parametrize("task", TASKS)
def test_forward_passes_nan_on_and_computes_in_float32(kind: Kind, task: Task) -> None:
    calibrator = fitted(kind, task)
    z = rows(task, 8)[0]
    z[2] = torch.nan
    out = calibrator(z)
    assert torch.isnan(out[2]).all()
    torch.testing.assert_close(torch.cat([out[:2], out[3:]]), calibrator(torch.cat([z[:2], z[3:]])))
    half = z.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = calibrator(half)
    assert under.dtype == torch.float32
    torch.testing.assert_close(under, calibrator(half.float()), equal_nan=True)
    assert calibrator(z[:0]).shape == (0, 3)


@pytest.mark.parametrize("kind", FITTED)
@pytest.mark.parametrize("task", TASKS)
def test_gradients_are_finite_also_beside_fallen_back_labels(kind: Kind, task: Task) -> None:
    z, y = rows(task, 100)
    if task == "multiclass":
        z, y = z[y != 2], y[y != 2]
    else:
        y[:, 2] = 0
    calibrator = kind(3, task)
    calibrator.fit(z, y)
    x = z[:10].clone().requires_grad_()
    calibrator(x).square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", FITTED)
@pytest.mark.parametrize("task", TASKS)
def test_state_dict_round_trip_is_bitwise(kind: Kind, task: Task) -> None:
    calibrator, other = fitted(kind, task, n=300), fitted(kind, task, n=20, seed=9)
    file = io.BytesIO()
    torch.save(calibrator.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    z = rows(task, 50, seed=4)[0]
    for fresh in (kind(3, task), other):
        fresh.load_state_dict(state)
        assert fresh.is_fitted
        assert torch.equal(fresh(z), calibrator(z))
    assert torch.equal(pickle.loads(pickle.dumps(calibrator))(z), calibrator(z))
    assert torch.equal(copy.deepcopy(calibrator)(z), calibrator(z))
    other.load_state_dict(kind(3, task).state_dict())
    assert not other.is_fitted
    with pytest.raises(NotFittedError):
        other(z)


@pytest.mark.parametrize("kind", FITTED)
def test_fitting_again_leaves_nothing_of_the_first_fit(kind: Kind) -> None:
    again = fitted(kind, "multilabel", n=300)
    z, y = rows("multilabel", 40, seed=8)
    y[:, 1] = 1
    again.fit(z, y)
    once = kind(3, "multilabel")
    once.fit(z, y)
    for a, b in zip(again.buffers(), once.buffers(), strict=True):
        assert torch.equal(a, b)
    assert again.report == once.report


@pytest.mark.parametrize("kind", FITTED)
def test_state_keeps_float32_when_the_model_is_cast(kind: Kind) -> None:
    calibrator = fitted(kind, "multiclass")
    before = {name: b.clone() for name, b in calibrator.named_buffers()}
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), calibrator).bfloat16()
    assert model[0].weight.dtype == torch.bfloat16
    for name, buffer in calibrator.named_buffers():
        assert buffer.dtype == torch.float32
        assert torch.equal(buffer, before[name])


def test_fit_runs_under_inference_mode_and_takes_bf16() -> None:
    z, y = rows("multiclass", 100)
    calibrator = IsotonicCalibration(3, "multiclass")
    with torch.inference_mode():
        calibrator.fit(z.bfloat16(), y)
    calibrator.fit(z.requires_grad_(), y)
    assert calibrator(z).requires_grad


@pytest.mark.parametrize("kind", [IdentityCalibration, *FITTED])
def test_bad_rows_are_refused_by_name(kind: Kind) -> None:
    z, y = rows("multiclass", 10)
    broken = z.clone()
    broken[3, 1] = -torch.inf
    with pytest.raises(NotFiniteError, match="row 3"):
        kind(3, "multiclass").fit(broken, y)
    broken[3, 1] = torch.nan
    with pytest.raises(NotFiniteError, match="row 3"):
        kind(3, "multiclass").fit(broken, y)
    with pytest.raises(DataError, match="row 0: 3 is not allowed"):
        kind(3, "multiclass").fit(z, torch.full_like(y, 3))
    with pytest.raises(DataError, match="0 and 1"):
        kind(3, "multilabel").fit(z, torch.full((10, 3), 0.5))
    for logits, labels in ((z, y[:9]), (z[:, :2], y), (z, torch.zeros(10, 3))):
        with pytest.raises(ConfigurationError, match="shape"):
            kind(3, "multiclass").fit(logits, labels)


def test_bad_arguments_are_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="num_labels=1"):
        TemperatureScaling(1, "multiclass")
    with pytest.raises(ConfigurationError, match="task='both'"):
        TemperatureScaling(3, "both")
    with pytest.raises(ConfigurationError, match="min_rows=1"):
        TemperatureScaling(3, "multiclass", min_rows=1)
    with pytest.raises(ConfigurationError, match="strength=-1"):
        VectorScaling(3, "multiclass", strength=-1.0)
    with pytest.raises(ConfigurationError, match="knots=1"):
        IsotonicCalibration(3, "multiclass", knots=1)
