"""Co-training's benchmarks: equal steps, their intervals, the classifiers side by side, and their tables."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from benchmarks import cotraining_consistency as consistency
from benchmarks import cotraining_tables as tables
from benchmarks.cotraining import FURTHER, MAIN
from benchmarks.cotraining_cell import BATCH, arguments_of
from benchmarks.cotraining_figures import FUSED, POOLED, resampled, table
from benchmarks.cotraining_weights import Pairs, Rows
from benchmarks.fusion_llm_labels import SETS
from lf_lightning.errors import MissingDependencyError

K, N = 3, 90


@pytest.mark.parametrize("gold", [80, 417])
@pytest.mark.parametrize("method", [m for m in (*MAIN, *FURTHER) if m != "self-training"])
def test_every_method_takes_the_same_steps(method: str, gold: int) -> None:
    pool, steps = 1500 - gold, (28, 70, 14)
    given = arguments_of(method, steps, gold, pool)
    rows = {"pool": pool, "both": gold + pool}[given.get("cotrain_rows", "pool")]
    batches = {"weights_epochs": -(-gold // BATCH), "cotrain_epochs": -(-rows // BATCH), "finetune_epochs": -(-gold // BATCH)}
    taken = sum(given[name] * count for name, count in batches.items())
    assert abs(taken - sum(steps)) <= -(-rows // BATCH) // 2 + -(-gold // BATCH) // 2


def cells(events: int = 2, subsets: int = 3) -> dict[tuple[str, int, int], dict[str, Any]]:
    """Cells in which co-training is right at 60 % of the rows, weights = 1 at 90 %, and the LLM at 70 %."""
    out = {}
    for e in range(events):
        draw = np.random.default_rng(e)
        labels = draw.integers(0, K, N)

        def said(share: float, draw: np.random.Generator = draw, labels: Any = labels) -> list[int]:
            return [int(y) for y in np.where(draw.random(N) < share, labels, (labels + 1) % K)]

        for s in range(1, subsets + 1):
            cell = {
                m: {"system": said(0.8), "llm": said(0.7), "with_llm": said(0.85), "labels": labels.tolist(), "weights": {}}
                for m in MAIN
            }
            cell["co-training"] |= {"system": said(0.6), "fused": said(0.9), "weights": {"first 1": 0.7, "first 2": 0.8}}
            cell["weights = 1"]["system"] = said(0.9)
            out["kaikoura" if e else "canada", 50, s] = cell
    return out


def test_means_are_scikit_learns() -> None:
    found = cells()
    rows = [{m: cell[m]["system"] for m in cell} for cell in found.values()]
    draws = resampled(found, rows, ["co-training"], resamples=50)["co-training"]
    pairs = [(cell["co-training"]["labels"], cell["co-training"]["system"]) for cell in found.values()]
    assert draws["accuracy"][0] == pytest.approx(np.mean([accuracy_score(*p) for p in pairs]))
    assert draws["macro_f1"][0] == pytest.approx(np.mean([f1_score(*p, average="macro") for p in pairs]))


def test_seeds_of_a_cell_are_averaged() -> None:
    cell = next(iter(cells(1, 1).values()))
    labels, made = cell["gold only"]["labels"], np.array([cell[m]["system"] for m in ("gold only", "weights = 1")])
    both = resampled({("bbc", 0, 0): {"x": {"labels": labels}}}, [{"x": made}], ["x"], resamples=5)["x"]["accuracy"]
    assert both[0] == pytest.approx((made == labels).mean())


def test_intervals_are_wider_where_subsets_differ() -> None:
    def width(last: float) -> float:
        right = [0.8, 0.8, last]
        found = {("bbc", 0, s): {"x": {"labels": [0, 1] * 50}} for s in range(3)}
        rows = [{"x": [y if i < 100 * share else 1 - y for i, y in enumerate([0, 1] * 50)]} for share in right]
        draws = resampled(found, rows, ["x"], resamples=300)["x"]["accuracy"]
        return float(np.subtract(*np.percentile(draws[1:], [97.5, 2.5])))

    assert width(0.2) > 1.5 * width(0.8)


def test_tables_say_where_co_training_loses() -> None:
    found = cells()
    found["canada", 50, 1]["confidence only"] = dict(found["canada", 50, 1]["gold only"])
    made = table(found, [*MAIN, *FURTHER], "gpt_4o")
    assert set(made["rows"]) == {*MAIN, *(m + POOLED for m in MAIN), FUSED, "gpt_4o"}
    assert made["minus"]["co-training"]["weights = 1"]["accuracy"]["high"] < 0
    gaps = [made["events"][event]["co-training − weights = 1"]["accuracy"]["mean"] for event in ("canada", "kaikoura")]
    assert np.mean(gaps) == pytest.approx(made["minus"]["co-training"]["weights = 1"]["accuracy"]["mean"])
    more = {**found, **{("maria", *key[1:]): cell for key, cell in found.items() if key[0] == "canada"}}
    events = table(more, [*MAIN, *FURTHER], "gpt_4o")["events"]
    assert set(events) == {"canada", "kaikoura", "maria", "kaikoura and canada"}
    assert events["kaikoura and canada"]["co-training − weights = 1"] == made["minus"]["co-training"]["weights = 1"]
    assert set(made["minus"][FUSED]) == {"co-training", "gpt_4o", "two-net ensemble" + POOLED}
    assert made["further"]["confidence only"]["cells"] == 1
    assert made["weights"]["co-training"] == {"first 1": pytest.approx(0.7), "first 2": pytest.approx(0.8)}
    steps = {"weights": 28, "co-train": 70, "fine-tune": 14}
    text = tables.cotraining({"tables": {"50 per class": made}, "steps": steps, "frozen_layers": 0})
    assert "50 per class, accuracy: weights = 1 ▼" in text
    assert "HumAID Canada (published subsets 1, 2, 3)" in text
    assert "AUC 0.70 and 0.80" in text
    assert "112 steps a net" in text
    assert "| co-training − weights = 1 | -" in text
    assert "| HumAID Canada: co-training − weights = 1 | -" in text


def test_the_other_tables() -> None:
    value = {"mean": 0.9, "low": 0.85, "high": 0.95}
    row, gap = (
        dict.fromkeys(tables.METRIC_NAMES, value),
        {m: {"mean": 0.1, "low": 0.05, "high": 0.15} for m in tables.METRIC_NAMES},
    )
    rate = {
        "rows": {"co-training": row, "weights = 1": row},
        "weights": {"first 1": 0.97, "first 2": 0.98},
        "minus weights = 1": gap,
    }
    text = tables.noise({"rates": {"40 % wrong": rate}})
    assert "| co-training − weights = 1 | +10.0 [+5.0, +15.0] ▲ |" in text
    assert "0.97, 0.98" in text
    plain = {m: {**value, "minus weights = 1": value} for m in tables.METRIC_NAMES}
    figures = {
        "tables": {"10 per class": {"weights = 1": plain, "co-training": plain}},
        "weights": {"co-training": {"canada_10": [0.7, 0.4]}},
        "right_labels": {"canada_10": 0.79},
    }
    assert "Right labels in the pool: canada 10 79 %." in tables.weights(figures)
    costs = {
        "extra_time": 0.01,
        "extra_time_of_each_epoch": [0.01],
        "cpu_seconds_an_epoch": {"weighted": 2.0, "plain": 1.9},
        "bytes_a_row_and_net": {"1000000 rows, 2 nets": 18.0},
    }
    assert "| history of 1000000 rows, 2 nets | 18.0 bytes a row and net |" in tables.cost(costs)


def test_classifiers_side_by_side_learn_as_adamw_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    x, truth = torch.randn(40, 5, generator=draw), torch.arange(40) % K
    folder = tmp_path / SETS["canada"][0]
    folder.mkdir(parents=True)
    pd.DataFrame({"labeled_10_set1": [1, 0] * 20}).to_csv(folder / "train.csv")
    options = Namespace(data=tmp_path, subsets=[1], seeds=2)
    rows = Rows(options, "canada", 10, ({"train": x.numpy()}, {}, (truth + 1) % K), truth)
    each = [rows.halves[0][truth == label].sum(0) / 2 for label in range(K)]
    assert all(abs(one - two) <= 1 and one + two == (truth[::2] == k).sum() for k, (one, two) in enumerate(each))
    monkeypatch.setattr(
        torch, "rand", lambda *shape, generator=None: torch.full(shape if isinstance(shape[0], int) else shape[0], 0.9)
    )
    pairs = Pairs(rows, 0)
    first = pairs.weight[0, 0].clone()
    pairs.learn(rows.pool, lambda _: torch.full((2, 40, 2), 0.5), 1, 0.1)
    layer = torch.nn.Linear(5, K)
    with torch.no_grad():
        layer.weight.copy_(first[:, :-1])
        layer.bias.copy_(first[:, -1])
    groups = [{"params": [layer.weight], "weight_decay": 0.01}, {"params": [layer.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    pool = rows.pool[0]
    loss: Any = 0.5 * torch.nn.functional.cross_entropy(layer(x[pool] / 0.9), (truth + 1)[pool] % K)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
    optimizer.step()
    learnt = torch.cat([layer.weight, layer.bias[:, None]], 1).detach()
    torch.testing.assert_close(pairs.weight[1, 1], learnt, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", consistency.CONSISTENCY)
def test_methods_of_another_library_say_how_to_install_it(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modssc", None)
    with pytest.raises(MissingDependencyError, match=f"{method}.* pip install modssc"):
        consistency.learned(method, torch.zeros(2, 3), torch.tensor([0, 1]), torch.zeros(2, 3), 2, seed=0)


@pytest.mark.parametrize("method", consistency.CONSISTENCY)
def test_methods_of_another_library_learn_where_it_is_installed(method: str) -> None:
    pytest.importorskip("modssc")
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % K
    x = torch.eye(K, 6)[labels] + 0.2 * torch.randn(120, 6, generator=draw)
    known = torch.arange(120) < 30
    learner = consistency.learned(method, x[known], labels[known], x[~known], K, seed=0)
    assert (learner.predict(x[~known]) == labels[~known]).float().mean() > 0.8  # by chance a third


def test_vectors_of_an_event_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {split: np.arange(4) for split in consistency.SPLITS}
    found = {split: np.full((4, 2), 3.0, dtype=np.float32) for split in consistency.SPLITS}

    class Data:
        def setup(self, stage: str) -> None: ...

        def scores_and_labels(self, split: str) -> tuple[None, None, torch.Tensor]:
            return None, None, torch.from_numpy(labels[split])

    data: Any = Data()
    monkeypatch.setattr(consistency, "vectors_of", lambda *_: (found, labels))
    first = consistency.kept_vectors(data, "encoder", tmp_path / "v.npz")
    monkeypatch.delattr(consistency, "vectors_of")
    again = consistency.kept_vectors(data, "encoder", tmp_path / "v.npz")
    assert all(np.array_equal(again[0][s], first[0][s]) for s in consistency.SPLITS)
    assert np.allclose(first[0]["train"], 0.5**0.5)
    assert np.array_equal(again[1]["test"], labels["test"])
