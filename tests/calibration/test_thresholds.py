from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from lf_lightning.calibration import Thresholds, best_threshold
from lf_lightning.errors import ConfigurationError, DataError, NotFiniteError, NotFittedError


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(0, 3))
def test_no_threshold_is_better_and_of_equals_none_is_nearer_to_a_half(seed: int, n: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.random(n).round(digits).astype(np.float32)
    y = rng.integers(0, 2, n)
    y[0] = 1
    threshold, value = best_threshold(p, y)
    assert value == pytest.approx(f1_score(y, p >= np.float32(threshold), zero_division=0))
    edges = np.unique(np.concatenate([[0.0, 0.5], p, (p[:, None] + p[None]).ravel() / 2]).astype(np.float32))
    made = p >= edges[:, None]
    every = 2 * (made & (y == 1)).sum(1) / (made.sum(1) + y.sum())
    assert value == pytest.approx(max(every))
    if f1_score(y, p >= np.float32(0.5), zero_division=0) == pytest.approx(value, abs=1e-12):
        assert threshold == 0.5


def test_neighbouring_floats_are_still_parted() -> None:
    low = np.float32(0.1)
    high = np.nextafter(low, np.float32(1))
    threshold, value = best_threshold(np.array([low, high]), np.array([0, 1]))
    assert value == 1.0
    assert low < np.float32(threshold) <= high


def rows(n: int = 400, k: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(n, k, generator=g) - 2
    return z.sigmoid(), (torch.rand(n, k, generator=g) < (1.5 * z).sigmoid()).float()


def test_tuned_decisions_have_the_greatest_f1_of_each_label() -> None:
    p, y = rows()
    thresholds = Thresholds(4)
    thresholds.fit(p, y)
    made = thresholds.decide(p)
    assert made.dtype == torch.int64
    for k in range(4):
        true = y[:, k].numpy()
        tuned, half = f1_score(true, made[:, k].numpy()), f1_score(true, p[:, k].numpy() >= 0.5)
        assert tuned >= half
        assert tuned == pytest.approx(best_threshold(p[:, k].numpy(), true)[1])


def test_rare_labels_take_the_pooled_threshold_and_without_positives_a_half() -> None:
    p, y = rows()
    y[:, 1] = 0
    y[:3, 1] = 1
    thresholds = Thresholds(4)
    thresholds.fit(p, y)
    pooled = best_threshold(p.flatten().numpy(), y.flatten().numpy())[0]
    assert float(thresholds.thresholds[1]) == pooled
    assert thresholds.report == {"rows": 400, "ignored_rows": 0, "tuned_labels": 3, "pooled_threshold": pooled}
    thresholds.fit(p, torch.zeros_like(y))
    assert thresholds.thresholds.tolist() == [0.5] * 4
    thresholds.fit(p[:0], y[:0])
    assert thresholds.thresholds.tolist() == [0.5] * 4


def test_rows_without_label_or_opinion_are_ignored_in_fit_and_undecided_after() -> None:
    p, y = rows(60)
    clean, dirty = Thresholds(4), Thresholds(4)
    clean.fit(p, y)
    missing = torch.full((1, 4), torch.nan)
    dirty.fit(torch.cat([p, missing, p[:1]]), torch.cat([y, y[:1], missing]))
    assert torch.equal(clean.thresholds, dirty.thresholds)
    assert dirty.decide(missing).tolist() == [[-1] * 4]


def test_state() -> None:
    thresholds = Thresholds(4)
    assert torch.isnan(thresholds.thresholds).all()
    with pytest.raises(NotFittedError):
        thresholds.decide(torch.zeros(1, 4))
    p, y = rows()
    thresholds.fit(p, y)
    fresh = Thresholds(4)
    fresh.load_state_dict(thresholds.state_dict())
    assert torch.equal(fresh.decide(p), thresholds.decide(p))


def test_bad_input_is_refused_by_name() -> None:
    p, y = rows(20)
    with pytest.raises(DataError, match="not logits"):
        Thresholds(4).fit(p * 3, y)
    with pytest.raises(ConfigurationError, match="shape"):
        Thresholds(3).fit(p, y)
    with pytest.raises(ConfigurationError, match="min_positives=0"):
        Thresholds(3, min_positives=0)
    p[1, 1] = torch.nan
    with pytest.raises(NotFiniteError, match="probabilities has 1 row"):
        Thresholds(4).fit(p, y)
