"""Co-training stopped in any phase and resumed in another process ends bit for bit the same; two processes, one history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import torch
from torch import Tensor

from lf_lightning.dynamics import SmallLoss
from lf_lightning.errors import ConfigurationError
from lf_lightning.systems.cotraining import CoTrainingLightningModule
from tests.processes import run_script
from tests.systems.cotraining_parts import fit_pair, rows_of, state_of
from tests.systems.parts import differing, trainer_of, without_dropout
from tests.systems.test_new_process import SaveAt

# epochs: 0 and 1 weights (3 batches each), 2 to 4 co-train (6 batches), 5 and 6 fine-tune (3)
POINTS: dict[str, tuple[int, int | str]] = {
    "in the phase of weights": (0, 1),
    "after an epoch of weights": (0, "end"),
    "at the last batch of the phase of weights": (1, 2),
    "before co-training": (1, "end"),
    "in the first epoch of co-training": (2, 3),
    "in a validation": (3, "validation"),
    "after an epoch of co-training": (3, "end"),
    "in a later epoch of co-training": (4, 0),
    "at the last batch of co-training": (4, 5),
    "before fine-tuning": (4, "end"),
    "in fine-tuning": (6, 1),
    "after an epoch of fine-tuning": (5, "end"),
}
MODELS: dict[str, dict[str, Any]] = {
    "paper": {"finetune_epochs": 2},
    "pass": {"record": "pass", "first_weights": "last"},
    "ends with co-training": {"finetune_epochs": 0},
}
CASES = [("paper", point) for point in POINTS]
CASES += [("pass", "in the first epoch of co-training"), ("pass", "before co-training")]
CASES += [
    ("ends with co-training", "after an epoch of co-training"),
    ("ends with co-training", "in a later epoch of co-training"),
]


class Compared(NamedTuple):
    expected: dict[str, dict[str, Tensor]]
    got: dict[tuple[str, str], dict[str, Tensor]]
    folder: Path


@pytest.fixture(scope="module")
def compared(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    folder = tmp_path_factory.mktemp("resumed")
    expected, jobs = {}, []
    for name, options in MODELS.items():
        (folder / name).mkdir()
        points = {point: POINTS[point] for model, point in CASES if model == name}
        save = SaveAt(folder / name, points)
        expected[name] = state_of(fit_pair(world, folder / name / "run", [save], last=0, **options))
        assert save.points == {}
        jobs += [
            {"world": str(world), "checkpoint": str(folder / name / f"{point}.ckpt"), "model": options} for point in points
        ]
    (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    run_script(Path(__file__).with_name("cotraining_process.py"), "resume", folder / "jobs.json", folder / "out.pt")
    results = torch.load(folder / "out.pt", weights_only=True)
    return Compared(expected, dict(zip(CASES, results, strict=True)), folder)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "point"), CASES)
def test_a_resumed_fit_ends_as_the_uninterrupted(model: str, point: str, compared: Compared) -> None:
    assert differing(compared.got[model, point], compared.expected[model]) == []


def test_the_comparison_covers_nets_calibrators_history_and_weights(compared: Compared) -> None:
    names = compared.expected["paper"].keys()
    wanted = [
        "nets.0",
        "nets.1",
        "calibrator",
        "member_calibrators",
        "decision",
        "history.mean",
        "history.squares",
        "row_weights",
    ]
    assert all(any(name.startswith(part) for name in names) for part in wanted)
    assert int(compared.expected["paper"]["steps"]) == 30
    assert len({float(state["nets.0.classifier.weight"].sum()) for state in compared.expected.values()}) == len(MODELS)


def test_a_checkpoint_of_other_pseudo_labels_or_halves_is_refused(world: Path, compared: Compared, tmp_path: Path) -> None:
    checkpoint = compared.folder / "paper/in fine-tuning.ckpt"
    for options in ({"data": {"scorers": ["weak"]}, "scorers": ["weak"]}, {"seed": 5}, {"soft_labels": True}):
        with pytest.raises(ConfigurationError, match="other LLM labels or other halves"):
            fit_pair(world, tmp_path, ckpt_path=checkpoint, **options)


def test_a_reload_predicts_bit_for_bit_and_holds_plain_values(world: Path, tmp_path: Path) -> None:
    module = fit_pair(world, tmp_path, last=0, weighting=SmallLoss, weights_epochs=0, cotrain_epochs=1, finetune_epochs=1)
    trainer_of(tmp_path).test(module, rows_of(world), verbose=False)
    loaded = CoTrainingLightningModule.load_from_checkpoint(tmp_path / "checkpoints/last.ckpt", encoder="nowhere")
    trainer_of(tmp_path).test(loaded, rows_of(world), verbose=False)
    assert torch.equal(loaded.evaluated["test"].logits, module.evaluated["test"].logits)
    kept = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert kept["hyper_parameters"]["weighting"]["class_path"].endswith(".SmallLoss")


def test_a_fit_that_stopped_early_does_not_go_on(world: Path, tmp_path: Path) -> None:
    shape = {"weights_epochs": 1, "cotrain_epochs": 1, "finetune_epochs": 9, "patience": 1, "finetune_factor": 0.0}
    first = fit_pair(world, tmp_path, last=0, **shape)
    assert first.trainer.current_epoch == 4
    again = fit_pair(world, tmp_path, last=0, ckpt_path=tmp_path / "checkpoints/last.ckpt", **shape)
    assert differing(state_of(again), state_of(first)) == []


class Ran(NamedTuple):
    world: Path
    ranks: list[dict[str, Any]]


@pytest.fixture(scope="module")
def ran(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    out = tmp_path_factory.mktemp("ddp")
    world = without_dropout(world, out / "world")
    # 18 gold rows and 42 others: with an odd number a row would be trained on twice.
    pd.read_csv(world / "train.csv")[:60].to_csv(world / "train.csv", index=False)
    run_script(Path(__file__).with_name("cotraining_process.py"), "ddp", world, out)
    return Ran(world, [torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)])


@pytest.mark.parametrize("record", ["training", "pass"])
def test_two_processes_hold_the_same_history_and_that_of_one(record: str, ran: Ran, tmp_path: Path) -> None:
    first, second = (rank[record] for rank in ran.ranks)
    assert differing(first, second) == []
    module = fit_pair(ran.world, tmp_path, last=0, record=record, dropout=0.0, data={"batch_size": 8})
    single = state_of(module)
    assert int(first["steps"]) == int(single["steps"])
    pool = module.rows.pool
    assert torch.equal(first["history.epochs"], single["history.epochs"])
    assert first["history.epochs"][pool].tolist() == [5] * len(pool)
    # Sums of another order differ in the last digit, which Adam's first steps make larger.
    for name in ("history.mean", "row_weights"):
        torch.testing.assert_close(first[name][pool], single[name][pool], atol=2e-3, rtol=0)


def test_a_strategy_that_would_wait_for_a_resting_net_is_refused(ran: Ran) -> None:
    for rank in ran.ranks:
        assert "trainer.strategy: ddp_find_unused_parameters_true" in rank["refused"]
