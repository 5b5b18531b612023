from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from lf_lightning import metrics
from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError, DataError, NotFiniteError

Arrays = tuple[np.ndarray, np.ndarray]


def multiclass(n: int = 300, k: int = 5, seed: int = 0, present: int | None = None) -> Arrays:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, k)) * 2
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return p, rng.integers(0, present or k, n)


def multilabel(n: int = 300, k: int = 4, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    p = rng.random((n, k))
    y = (rng.random((n, k)) < p**2).astype(int)
    return p, y


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 5), st.sampled_from(["macro", "micro", "weighted"]))
def test_f1_and_accuracy_are_sklearns(seed: int, n: int, present: int, average: str) -> None:
    p, y = multiclass(n, 5, seed, present)
    made = p.argmax(1)
    assert metrics.accuracy(made, y) == pytest.approx(sk.accuracy_score(y, made))
    every = sk.f1_score(y, made, average=average, labels=range(5), zero_division=0)
    assert metrics.f1(made, y, average, 5) == pytest.approx(every)
    assert metrics.f1(made, y, average) == pytest.approx(sk.f1_score(y, made, average=average, zero_division=0))
    q, table = multilabel(n, 3, seed)
    decided = (q >= 0.6).astype(int)
    assert metrics.accuracy(decided, table) == pytest.approx(sk.accuracy_score(table, decided))
    assert metrics.f1(decided, table, average) == pytest.approx(sk.f1_score(table, decided, average=average, zero_division=0))


def test_a_class_that_never_occurs_counts_as_zero_when_k_says_that_it_exists() -> None:
    assert metrics.f1([0, 1], [0, 1], num_labels=3) == pytest.approx(2 / 3)
    assert metrics.f1([0, 1], [0, 1]) == 1.0


@pytest.mark.parametrize("rows", [multiclass(present=3), multilabel()])
def test_per_label_table_is_sklearns(rows: Arrays) -> None:
    p, y = rows
    k = p.shape[1]
    made = metrics.decide(p, "multiclass" if y.ndim == 1 else "multilabel")
    table = metrics.per_label(made, y, k)
    reference = sk.precision_recall_fscore_support(y, made, labels=range(k), zero_division=0)
    for name, expected in zip(("precision", "recall", "f1", "support"), reference, strict=True):
        np.testing.assert_allclose(table[name], expected)


def test_likelihood_and_brier_are_sklearns() -> None:
    p, y = multiclass()
    assert metrics.nll(p, y, "multiclass") == pytest.approx(sk.log_loss(y, p))
    assert metrics.brier(p, y, "multiclass") == pytest.approx(((p - np.eye(5)[y]) ** 2).sum(1).mean())
    q, t = multilabel()
    assert metrics.nll(q, t, "multilabel") == pytest.approx(np.mean([sk.log_loss(t[:, k], q[:, k]) for k in range(4)]))
    assert metrics.brier(q, t, "multilabel") == pytest.approx(
        np.mean([sk.brier_score_loss(t[:, k], q[:, k]) for k in range(4)])
    )
    assert metrics.nll([[1.0, 0.0]], [1], "multiclass") == pytest.approx(36.04, abs=0.01)


def test_roc_auc_is_sklearns_and_absent_where_there_is_none() -> None:
    p, y = multiclass()
    assert metrics.roc_auc(p, y, "multiclass") == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr"))
    q, t = multilabel()
    q = q.round(1)
    assert metrics.roc_auc(q, t, "multilabel") == pytest.approx(sk.roc_auc_score(t, q))
    assert metrics.roc_auc(*multiclass(present=4), "multiclass") is None
    t[:, 2] = 1
    assert metrics.roc_auc(q, t, "multilabel") is None
    assert "roc_auc" not in metrics.evaluate(q, t, "multilabel")


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_equal_width_ece_is_torchmetrics(bins: int) -> None:
    p, y = multiclass()
    expected = multiclass_calibration_error(torch.tensor(p), torch.tensor(y), 5, n_bins=bins, norm="l1")
    assert metrics.ece(p, y, "multiclass", "equal_width", bins) == pytest.approx(float(expected), abs=1e-6)
    q, t = multilabel()
    pooled = binary_calibration_error(torch.tensor(q).flatten(), torch.tensor(t).flatten(), n_bins=bins, norm="l1")
    assert metrics.ece(q, t, "multilabel", "equal_width", bins) == pytest.approx(float(pooled), abs=1e-6)


def test_equal_mass_ece_is_that_of_sorted_chunks() -> None:
    p, y = multiclass(300)
    order = p.max(1).argsort()
    confidence, right = p.max(1)[order], (p.argmax(1) == y)[order]
    chunks = zip(np.split(confidence, 15), np.split(right, 15), strict=True)
    assert metrics.ece(p, y, "multiclass") == pytest.approx(np.mean([abs(c.mean() - r.mean()) for c, r in chunks]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 50), st.integers(1, 20), st.sampled_from(["equal_mass", "equal_width"]))
def test_reliability_does_not_depend_on_the_order_of_rows(seed: int, n: int, bins: int, mode: str) -> None:
    p, y = multilabel(n, 2, seed)
    p = p.round(1)
    curve = metrics.reliability_curve(p, y, "multilabel", mode, bins)
    order = np.random.default_rng(seed + 1).permutation(n)
    again = metrics.reliability_curve(p[order], y[order], "multilabel", mode, bins)
    for name, column in curve.items():
        np.testing.assert_allclose(column, again[name])
    assert curve["count"].sum() == 2 * n
    assert len(curve["count"]) <= bins
    assert (np.diff(curve["confidence"]) > 0).all()
    assert (curve["low"] <= curve["confidence"] + 1e-12).all()
    assert (curve["confidence"] <= curve["high"] + 1e-12).all()
    assert 0 <= metrics.ece(p, y, "multilabel", mode, bins) <= 1


def test_equal_mass_bins_are_equal_without_ties() -> None:
    p, y = multiclass(301)
    count = metrics.reliability_curve(p, y, "multiclass")["count"]
    assert len(count) == 15
    assert count.max() - count.min() <= 1


@pytest.mark.parametrize(("rows", "task"), [(multiclass(), "multiclass"), (multilabel(), "multilabel")])
def test_evaluate_gathers_the_numbers_from_arrays_and_tensors(rows: Arrays, task: Task) -> None:
    p, y = rows
    numbers = metrics.evaluate(p, y, task)
    made = metrics.decide(p, task)
    assert list(numbers) == ["accuracy", "macro_f1", "micro_f1", "weighted_f1", "nll", "brier", "ece", "roc_auc"]
    assert numbers["accuracy"] == sk.accuracy_score(y, made)
    assert numbers["macro_f1"] == pytest.approx(sk.f1_score(y, made, average="macro", zero_division=0))
    assert numbers["ece"] == metrics.ece(p, y, task)
    assert metrics.evaluate(torch.tensor(p, requires_grad=True), torch.tensor(y), task) == numbers
    assert metrics.evaluate(torch.tensor(p).float(), torch.tensor(y).float(), task)["nll"] == pytest.approx(
        numbers["nll"], abs=1e-5
    )
    assert metrics.nll(torch.tensor([[0.5, 0.5]]).bfloat16(), [0], "multiclass") == pytest.approx(np.log(2))
    other = metrics.evaluate(p, y, task, decisions=np.zeros_like(y))
    assert other["accuracy"] == metrics.accuracy(np.zeros_like(y), y)
    assert other["nll"] == numbers["nll"]


def test_bad_input_is_refused() -> None:
    p, y = multiclass(10)
    broken = p.copy()
    broken[2, 1] = np.nan
    calls = [metrics.nll, metrics.brier, metrics.ece, metrics.roc_auc, metrics.evaluate, metrics.reliability_curve]
    for call in calls:
        with pytest.raises(NotFiniteError, match="probabilities"):
            call(broken, y, "multiclass")
        with pytest.raises(ConfigurationError, match="shape"):
            call(p, y[:9], "multiclass")
        with pytest.raises(ConfigurationError, match="shape"):
            call(p, y, "multilabel")
        with pytest.raises(DataError, match="sum to 1"):
            call(p * 0.9, y, "multiclass")
        with pytest.raises(DataError, match="softmax"):
            call(np.log(p), y, "multiclass")
        with pytest.raises(DataError, match="unlabelled"):
            call(p, np.full(10, -1), "multiclass")
        with pytest.raises(DataError, match="class 5"):
            call(p, np.full(10, 5), "multiclass")
        with pytest.raises(DataError, match="no row"):
            call(p[:0], y[:0], "multiclass")
    for simple in (metrics.accuracy, metrics.f1, metrics.per_label):
        with pytest.raises(NotFiniteError, match="decisions"):
            simple(np.where(y == y[0], np.nan, y), y)
        with pytest.raises(NotFiniteError, match="labels"):
            simple(y, np.where(y == y[0], np.nan, y))
        with pytest.raises(ConfigurationError, match="shape"):
            simple(y[:9], y)
        with pytest.raises(DataError, match="numbers"):
            simple(["a", "b"], ["a", "b"])
        with pytest.raises(DataError, match="0 and 1"):
            simple([[2, 0]], [[1, 0]])
    with pytest.raises(DataError, match="num_labels=2"):
        metrics.f1(y, y, num_labels=2)
    with pytest.raises(ConfigurationError, match="average='samples'"):
        metrics.f1(y, y, "samples")
    with pytest.raises(ConfigurationError, match="mode='width'"):
        metrics.ece(p, y, "multiclass", "width")


@pytest.mark.parametrize("mode", ["equal_mass", "equal_width"])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_floor_of_ece_is_what_perfect_calibration_scores(task, mode):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(4, 0.4), size=400) if task == "multiclass" else rng.beta(0.5, 2.0, size=(100, 4))
    drawn = []
    for _ in range(200):
        if task == "multiclass":
            y = (p.cumsum(1) < rng.random((len(p), 1))).sum(1).clip(max=3)
        else:
            y = (rng.random(p.shape) < p).astype(int)
        drawn.append(metrics.ece(p, y, task, mode))
    assert metrics.ece_floor(p, task, mode) == pytest.approx(np.mean(drawn), rel=0.06)
