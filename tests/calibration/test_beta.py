from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from lf_lightning.calibration import BetaCalibration, fit_beta, probabilities
from lf_lightning.metrics import ece


def bent(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of 4 labels whose confidence is right below 0.6 and near 1, and too high in between: no temperature mends it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 4)) * 2
    p = probabilities(torch.tensor(logits), "multiclass").numpy()
    confidence = p.max(1)
    true = np.where(confidence < 0.6, confidence, 0.6 + 0.4 * ((confidence - 0.6) / 0.4) ** 6)
    hit = rng.random(n) < true
    rest = np.where(p == p.max(1, keepdims=True), 0, p) / (1 - confidence)[:, None]
    others = np.array([rng.choice(4, p=row) for row in rest])
    return torch.tensor(logits), torch.tensor(np.where(hit, p.argmax(1), others))


def test_the_curve_is_logistic_regression_on_both_logarithms() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0.02, 0.98, size=4000)
    right = (rng.random(4000) < expit(1.7 * np.log(p) - 0.6 * np.log1p(-p) + 0.3)).astype(float)
    a, b, c = fit_beta(np.log(p), np.log1p(-p), right, strength=0.0)
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(np.stack([np.log(p), -np.log1p(-p)], 1), right)
    assert [a, b, c] == pytest.approx([*reference.coef_[0], reference.intercept_[0]], abs=2e-4)


def test_no_rows_leave_the_identity_and_a_pull_holds_few_rows_back() -> None:
    assert fit_beta(np.empty(0), np.empty(0), np.empty(0)).tolist() == [1, 1, 0]
    logits, labels = bent(20)
    pulls = [BetaCalibration(4, "multiclass", strength=strength) for strength in (0.1, 10.0, 1e9)]
    for calibrator in pulls:
        calibrator.fit(logits, labels)
    away = [float((calibrator.curve - torch.tensor([1.0, 1.0, 0.0])).abs().max()) for calibrator in pulls]
    assert away[0] > away[1] > away[2]
    assert away[2] < 1e-6


def test_it_bends_what_a_temperature_cannot_and_changes_no_decision() -> None:
    calibrator = BetaCalibration(4, "multiclass")
    calibrator.fit(*bent(3000))
    logits, labels = bent(20_000, seed=1)
    calibrated = calibrator(logits)
    p = calibrated.double().softmax(-1)
    assert torch.equal(calibrated.argmax(-1), logits.argmax(-1))
    assert torch.allclose(p.sum(-1), torch.ones(len(p), dtype=torch.float64))
    assert ece(p.numpy(), labels.numpy(), "multiclass") < 0.6 * ece(logits.softmax(-1).numpy(), labels.numpy(), "multiclass")
    top = logits.argmax(-1, keepdim=True)
    others = torch.ones_like(p, dtype=torch.bool).scatter(1, top, value=False)
    shares, before = (q[others].view(-1, 3) / q[others].view(-1, 3).sum(1, keepdim=True) for q in (p, logits.softmax(-1)))
    assert torch.allclose(shares, before, atol=1e-4)


@pytest.mark.parametrize("k", [2, 30])
def test_the_top_label_stays_on_top_however_low_the_curve_falls(k: int) -> None:
    calibrator = BetaCalibration(k, "multiclass")
    calibrator.curve.copy_(torch.tensor([1.0, 1.0, -8.0]))
    logits = torch.randn(500, k, generator=torch.Generator().manual_seed(0)) * 3
    calibrated = calibrator(logits)
    top = calibrated.gather(1, logits.argmax(1, keepdim=True))
    assert (top >= calibrated - 1e-6).all()
    assert torch.isfinite(calibrator(torch.tensor([[200.0] + [0.0] * (k - 1)]))).all()


def test_multilabel_is_one_curve_for_all_labels() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(3000, 3)) * 2
    labels = (rng.random((3000, 3)) < expit(0.5 * logits - 0.7)).astype(float)
    calibrator = BetaCalibration(3, "multilabel")
    calibrator.fit(torch.tensor(logits), torch.tensor(labels))
    moved = calibrator(torch.tensor([[-1.0, 0.0, 1.0]])).sigmoid().numpy()
    assert moved == pytest.approx(expit(np.array([[-1.2, -0.7, -0.2]])), abs=0.03)
