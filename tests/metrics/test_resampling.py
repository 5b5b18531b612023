from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import f1_score

from lf_lightning.errors import ConfigurationError, NotFiniteError
from lf_lightning.metrics import accuracy, bootstrap_interval, f1, mcnemar, nll, paired_bootstrap

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 4, 400)
A = np.where(RNG.random(400) < 0.8, Y, RNG.integers(0, 4, 400))
B = np.where(RNG.random(400) < 0.7, Y, RNG.integers(0, 4, 400))
TY = RNG.integers(0, 2, (300, 3))
TA = np.where(RNG.random((300, 3)) < 0.8, TY, 1 - TY)
TB = np.where(RNG.random((300, 3)) < 0.75, TY, 1 - TY)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "micro_f1", "weighted_f1"])
@pytest.mark.parametrize(("a", "y"), [(A, Y), (TA, TY)])
def test_interval_agrees_with_resampling_rows_one_by_one(metric: str, a: np.ndarray, y: np.ndarray) -> None:
    def number(p: np.ndarray, t: np.ndarray) -> float:
        return accuracy(p, t) if metric == "accuracy" else f1(p, t, metric.removesuffix("_f1"), 4 if t.ndim == 1 else None)

    k = 4 if y.ndim == 1 else None
    fast = bootstrap_interval(metric, a, y, num_labels=k, n=4000)
    slow = bootstrap_interval(number, a, y, n=1500, seed=1)
    assert fast["value"] == pytest.approx(slow["value"], abs=1e-12)
    width = slow["high"] - slow["low"]
    assert fast["low"] == pytest.approx(slow["low"], abs=0.12 * width)
    assert fast["high"] == pytest.approx(slow["high"], abs=0.12 * width)
    assert fast["low"] < fast["value"] < fast["high"]


def test_accuracy_interval_is_that_of_the_binomial() -> None:
    found = bootstrap_interval("accuracy", A, Y, n=20_000, level=0.9)
    low, high = binom.ppf([0.05, 0.95], 400, (A == Y).mean()) / 400
    assert found["low"] == pytest.approx(low, abs=1 / 400 + 1e-9)
    assert found["high"] == pytest.approx(high, abs=1 / 400 + 1e-9)


def test_same_seed_same_interval_and_another_differs() -> None:
    assert bootstrap_interval("macro_f1", A, Y, seed=3) == bootstrap_interval("macro_f1", A, Y, seed=3)
    assert bootstrap_interval("macro_f1", A, Y, seed=3) != bootstrap_interval("macro_f1", A, Y, seed=4)
    order = RNG.permutation(400)
    assert bootstrap_interval("macro_f1", A[order], Y[order]) == bootstrap_interval("macro_f1", A, Y)


def test_classes_that_never_occur_count_as_in_f1() -> None:
    assert bootstrap_interval("macro_f1", A, Y, num_labels=6)["value"] == pytest.approx(f1(A, Y, num_labels=6))
    assert bootstrap_interval("macro_f1", A + 2, Y + 2)["value"] == pytest.approx(f1_score(Y, A, average="macro"))


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
@pytest.mark.parametrize(("a", "b", "y"), [(A, B, Y), (TA, TB, TY)])
def test_paired_bootstrap(metric: str, a: np.ndarray, b: np.ndarray, y: np.ndarray) -> None:
    number = accuracy if metric == "accuracy" else f1
    found = paired_bootstrap(a, b, y, metric, n=4000)
    slow = paired_bootstrap(a, b, y, number, n=1500, seed=1)
    assert found["difference"] == pytest.approx(number(a, y) - number(b, y))
    assert found["low"] == pytest.approx(slow["low"], abs=0.12 * (slow["high"] - slow["low"]))
    assert found["high"] == pytest.approx(slow["high"], abs=0.12 * (slow["high"] - slow["low"]))
    assert found["p"] == pytest.approx(slow["p"], abs=0.03)
    back = paired_bootstrap(b, a, y, metric, n=4000, seed=5)
    assert back["difference"] == -found["difference"]
    assert back["low"] == pytest.approx(-found["high"], abs=0.01)
    # Drawn in pairs, shared errors cancel: narrower than two intervals side by side.
    apart = [bootstrap_interval(metric, x, y) for x in (a, b)]
    assert found["high"] - found["low"] < sum(i["high"] - i["low"] for i in apart)


def test_paired_p_values_are_level_under_no_difference_and_1_for_one_classifier() -> None:
    assert paired_bootstrap(A, A, Y, "macro_f1")["p"] == 1.0
    assert paired_bootstrap(Y, (Y + 1) % 4, Y)["p"] == pytest.approx(2 / 1001)
    rng = np.random.default_rng(7)
    small = 0
    for i in range(200):
        right = rng.random((2, 200)) < 0.8
        p = paired_bootstrap(right[0].astype(int), right[1].astype(int), np.ones(200, int), n=400, seed=i)["p"]
        small += p <= 0.1
    assert binom.ppf(0.001, 200, 0.1) <= small <= binom.ppf(0.999, 200, 0.1)


def test_functions_of_probabilities_work_too() -> None:
    p = np.full((400, 4), 0.1)
    p[np.arange(400), A] = 0.7
    found = bootstrap_interval(lambda q, y: nll(q, y, "multiclass"), p, Y, n=100)
    assert found["value"] == pytest.approx(nll(p, Y, "multiclass"))
    assert found["low"] < found["value"] < found["high"]


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (3, 9), (10, 10), (40, 22)])
def test_mcnemar_is_the_exact_binomial_tail(only_a: int, only_b: int) -> None:
    y = np.zeros(200, int)
    a, b = y.copy(), y.copy()
    b[:only_a] = 1
    a[only_a : only_a + only_b] = 1
    a[-5:] = b[-5:] = 1
    found = mcnemar(a, b, y)
    expected = min(1.0, 2 * binom.cdf(min(only_a, only_b), only_a + only_b, 0.5))
    assert found == {"a_only": only_a, "b_only": only_b, "p": pytest.approx(expected)}


def test_mcnemar_of_tables_is_of_whole_rows() -> None:
    found = mcnemar(TA, TB, TY)
    right_a, right_b = (TA == TY).all(1), (TB == TY).all(1)
    assert found["a_only"] == (right_a & ~right_b).sum()
    assert found["b_only"] == (right_b & ~right_a).sum()


def test_a_thousand_resamples_of_a_test_set_take_less_than_a_second() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 10, 7600)
    a, b = (np.where(rng.random(7600) < 0.9, y, rng.integers(0, 10, 7600)) for _ in range(2))
    start = time.process_time()
    bootstrap_interval("accuracy", a, y, num_labels=10)
    bootstrap_interval("macro_f1", a, y, num_labels=10)
    paired_bootstrap(a, b, y, "macro_f1", num_labels=10)
    assert time.process_time() - start < 1.0


def test_bad_input_is_refused() -> None:
    with pytest.raises(NotFiniteError):
        bootstrap_interval("accuracy", np.where(A == 0, np.nan, A), Y)
    with pytest.raises(NotFiniteError):
        paired_bootstrap(A, B, np.where(Y == 0, np.nan, Y))
    with pytest.raises(NotFiniteError):
        mcnemar(A, np.where(B == 0, np.nan, B), Y)
    with pytest.raises(ConfigurationError, match="shape"):
        mcnemar(A, B[:9], Y)
    with pytest.raises(ConfigurationError, match="shape"):
        paired_bootstrap(A, B[:9], Y)
    with pytest.raises(ConfigurationError, match="shape"):
        bootstrap_interval(accuracy, A[:9], Y)
    with pytest.raises(ConfigurationError, match="metric='auc'"):
        bootstrap_interval("auc", A, Y)
    with pytest.raises(ConfigurationError, match="level=95"):
        bootstrap_interval("accuracy", A, Y, level=95)
