from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import throughput
from benchmarks.throughput_rows import LABELS, LENGTHS, TITLE, Rows, rows_of
from benchmarks.throughput_sides import Joint, system_of
from benchmarks.turns import Turns, take_turns


@pytest.fixture
def rows(tmp_path: Path, tiny_encoder: str) -> Rows:
    return rows_of(tmp_path, batches=5, batch_size=8, encoder=tiny_encoder)


def test_texts_have_the_lengths_of_ag_news_with_titles_and_one_score_each(rows: Rows) -> None:
    assert np.median(rows.lengths) == pytest.approx(LENGTHS[50] + TITLE, abs=2)
    assert np.quantile(rows.lengths, 0.9) == pytest.approx(LENGTHS[90] + TITLE, abs=4)
    assert rows.lengths.max() <= 128  # the tiny tokenizer's limit
    assert rows.scores.shape == (40, 1, len(LABELS))
    assert (len(rows.table), len(rows.validation)) == (40, 16)


def test_batches_hold_texts_of_similar_length_and_every_row_once(rows: Rows) -> None:
    for batches in (rows.epoch(0), rows.epoch(1), rows.evaluation()):
        assert sorted(np.concatenate(batches)) == list(range(40))
        assert np.mean([rows.lengths[batch].max() for batch in batches]) < 1.1 * rows.lengths.mean()
    assert [batch[0] for batch in rows.epoch(0)] != [batch[0] for batch in rows.epoch(1)]


def test_a_batch_is_padded_to_its_longest_text_or_to_a_width(rows: Rows) -> None:
    index = np.array([3, 5])
    batch = rows.batch(index)
    assert batch["input_ids"].shape == (2, rows.lengths[index].max())
    assert batch["attention_mask"].sum(1).tolist() == rows.lengths[index].tolist()
    wide = rows.batch(index, 128)
    assert wide["input_ids"].shape == wide["attention_mask"].shape == (2, 128)
    assert wide["attention_mask"].sum() == batch["attention_mask"].sum()


def test_the_plain_model_is_the_systems(rows: Rows) -> None:
    system = system_of(rows, passes=1).eval()
    system.score_dropout = 0.0
    for calibrator in system.score_calibrators:
        calibrator.temperature.fill_(1.0)
    torch.nn.init.normal_(system.head.mlp[-1].weight)
    batch = rows.batch(np.arange(6))
    plain = Joint(system).eval()(**batch)
    theirs = system.losses({**batch, "index": torch.arange(6), "scored": torch.ones(6, 1, dtype=torch.bool)})
    torch.testing.assert_close(plain["loss"], theirs["loss"])
    groups = Joint(system).groups(system.lrs, system.weight_decay)
    ours = system.configure_optimizers().param_groups
    shape = [(len(g["params"]), g["lr"], g["weight_decay"]) for g in groups]
    assert shape == [(len(g["params"]), g["lr"], g["weight_decay"]) for g in ours]


def test_sides_take_turns_and_a_failure_is_raised() -> None:
    seen: list[str] = []

    def side(name: str, batches: int, length: int) -> Turns:
        def work(turns: Turns) -> None:
            for _ in range(4):
                turns.begin()
                for batch in range(batches):
                    seen.append(name)
                    turns.batch(3, batch + 1 == batches)

        return Turns(work, length)

    sides = [side("a", 5, 3), side("b", 2, 1)]
    take_turns(sides, 4 * 2, seed=0)
    assert [[rows for rows, _, _ in side.passes] for side in sides] == [[15] * 4, [6] * 4]
    order = "".join(seen)
    assert [sorted(order[i : i + 4]) for i in range(0, 28, 7)] == [list("aaab")] * 4
    assert [sorted(order[i + 4 : i + 7]) for i in range(0, 28, 7)] == [list("aab")] * 4

    def fail(turns: Turns) -> None:
        turns.begin()
        raise ValueError("no")

    broken = Turns(fail)
    broken.advance()
    with pytest.raises(ValueError, match="no"):
        broken.advance()


@pytest.mark.parametrize("with_trainer", [False, True])
def test_all_sides_run_and_are_compared(tmp_path: Path, tiny_encoder: str, with_trainer: bool) -> None:
    if with_trainer:
        pytest.importorskip("accelerate", reason="transformers.Trainer needs it")
    found = throughput.measure(tmp_path, batches=4, batch_size=8, rounds=1, encoder=tiny_encoder, with_trainer=with_trainer)
    figures = throughput.figures_of([found, found])
    rivals = {"loop", "loop_padded_to_256"} | ({"transformers_trainer"} if with_trainer else set())
    for kind in ("training", "prediction"):
        assert set(figures[kind]["ratio"]) == rivals
        assert all(0 < value["median"] < 100 for value in figures[kind]["ratio"].values())
        assert figures[kind]["rows_per_second"][throughput.OURS] > 0
