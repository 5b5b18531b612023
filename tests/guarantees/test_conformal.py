"""Sets against their definitions and an independent library's rule, and their promises by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from lf_lightning.errors import ConfigurationError, DataError, NotFittedError
from lf_lightning.guarantees import AdaptiveSets, LeastAmbiguousSets, PredictionSets, RecallSets, conformal_quantile

K = 4


def drawn(n: int, seed: int, sure: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, over-confident on purpose, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, K)) * sure
    true = np.exp(logits / 2) / np.exp(logits / 2).sum(1, keepdims=True)
    labels = (true.cumsum(1) > rng.random((n, 1))).argmax(1)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return p, labels


MAKES = {
    "lac": lambda c: LeastAmbiguousSets(c),
    "aps": lambda c: AdaptiveSets(c),
    "raps": lambda c: AdaptiveSets(c, penalty=0.05, free=1),
    "lac by label": lambda c: LeastAmbiguousSets(c, by_label=True),
}


@pytest.mark.parametrize("n", [4, 9, 10, 99, 100])
@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_the_quantile_is_numpys_higher_one_of_n_plus_1(n: int, coverage: float) -> None:
    scores = np.random.default_rng(n).random(n)
    with_infinity = np.append(scores, np.inf)
    level = np.ceil((n + 1) * coverage - 1e-9) / (n + 1)
    expected = np.sort(with_infinity)[int(np.ceil(level * (n + 1) - 1e-9)) - 1]
    assert conformal_quantile(scores, coverage) == expected


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_coverage_over_many_draws(name: str, coverage: float) -> None:
    n, hits = 60, []
    for seed in range(150):
        p, y = drawn(n + 100, seed)
        inside = MAKES[name](coverage).fit(p[:n], y[:n]).sets(p[n:])
        hits.append(inside[np.arange(100), y[n:]].mean())
    mean, error = np.mean(hits), np.std(hits) / np.sqrt(len(hits))
    assert mean > coverage - 2.5 * error
    if name in ("lac", "aps", "raps"):
        assert mean < coverage + 1 / (n + 1) + 2.5 * error + 0.02  # the likeliest label is always in


def test_by_label_keeps_the_promise_for_a_rare_label_that_the_other_breaks() -> None:
    rng = np.random.default_rng(0)
    rare, plain, own = [], [], []
    for _ in range(100):
        y = (rng.random(900) < 0.15).astype(int)
        p1 = 1 / (1 + np.exp(-(rng.normal(size=900) + 1.2 * (2 * y - 1) - 1.7)))
        p = np.stack([1 - p1, p1], 1)
        rare = y[450:] == 1
        for into, made in ((plain, LeastAmbiguousSets(0.9)), (own, LeastAmbiguousSets(0.9, by_label=True))):
            into.append(made.fit(p[:450], y[:450]).sets(p[450:])[rare, 1].mean())
    assert np.mean(plain) < 0.75
    assert np.mean(own) > 0.88


@pytest.mark.parametrize("name", MAKES)
def test_brute_force(name: str) -> None:
    p, y = drawn(30, 1)
    new, _ = drawn(20, 2)
    made = MAKES[name](0.8).fit(p, y)
    found = made.sets(new)

    def badness(row: np.ndarray, k: int) -> float:
        if name.startswith("lac"):
            return float(1 - row[k])
        likelier = sum(v for v in row if v > row[k])
        rank = sum(v >= row[k] for v in row)
        return float(likelier + (0.05 * max(rank - 1, 0) if name == "raps" else 0.0))

    seen = [(badness(row, label), label) for row, label in zip(p, y, strict=True)]
    for row, inside in zip(new, found, strict=True):
        for k in range(K):
            alike = [s for s, label in seen if label == k or name != "lac by label"]
            # In unless fewer than (1 - coverage)(n + 1) scores, its own among them, are as bad: the conformal p-value.
            p_value = (sum(s >= badness(row, k) - 1e-12 for s in alike) + 1) / (len(alike) + 1)
            assert inside[k] == (p_value > 0.2 + 1e-12 or k == row.argmax())


def test_few_rows_of_a_label_put_it_into_every_set() -> None:
    p, y = drawn(100, 3)
    y[y == 3] = 0
    y[:3] = 3
    assert LeastAmbiguousSets(0.9, by_label=True).fit(p, y).sets(p)[:, 3].all()


@pytest.mark.parametrize("coverage", [0.7, 0.9])
def test_recall_sets_by_brute_force_and_over_many_draws(coverage: float) -> None:
    missed = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        y = (rng.random((120, 5)) < 0.3).astype(np.int64)
        p = 1 / (1 + np.exp(-(rng.normal(size=y.shape) + 1.5 * (2 * y - 1))))
        sets = RecallSets(coverage).fit(p[:60], y[:60])
        if seed < 20:
            assert sets.threshold == pytest.approx(greatest(p[:60], y[:60], coverage))
        missed.append(rate(p[60:], y[60:], sets.threshold or 0.0))
    assert np.mean(missed) < 1 - coverage + 2.5 * np.std(missed) / np.sqrt(200)
    assert np.mean(missed) > 1 - coverage - 0.05


def rate(p: np.ndarray, y: np.ndarray, threshold: float) -> float:
    return float(np.mean([(row > 0)[q < threshold].sum() / max(row.sum(), 1) for q, row in zip(p, y, strict=True)]))


def greatest(p: np.ndarray, y: np.ndarray, coverage: float) -> float:
    n = len(p)
    allowed = [t for t in np.append(p.ravel(), 1.0) if n / (n + 1) * rate(p, y, t) + 1 / (n + 1) <= 1 - coverage + 1e-12]
    return float(max(allowed, default=0.0))


def test_too_few_rows_promise_by_every_label() -> None:
    p, y = np.full((3, 2), 0.1), np.array([[1, 0], [0, 1], [0, 0]])
    assert RecallSets(0.9).fit(p, y).sets(p).all()
    assert LeastAmbiguousSets(0.9).fit(p, np.array([0, 1, 0])).sets(p).all()


@pytest.mark.parametrize("kind", [LeastAmbiguousSets, AdaptiveSets, RecallSets])
def test_what_is_refused(kind: type[PredictionSets] | type[RecallSets]) -> None:
    with pytest.raises(ConfigurationError, match="coverage=1"):
        kind(1.0)
    with pytest.raises(NotFittedError):
        kind(0.9).sets(np.ones((1, 2)))
    with pytest.raises(ConfigurationError, match="do not fit"):
        kind(0.9).fit(np.ones((2, 2)), np.zeros(3, dtype=np.int64))
    with pytest.raises(DataError):
        kind(0.9).fit(np.ones((0, 2)), np.zeros((0, 2) if kind is RecallSets else 0, dtype=np.int64))
