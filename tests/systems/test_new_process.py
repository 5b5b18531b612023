"""A fit that was stopped and goes on in another process ends bit for bit as if nothing had happened; a reload says the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from lf_lightning.calibration import IsotonicCalibration, PlattScaling, VectorScaling
from lf_lightning.heads import FusionMLP, GatedFusion, PooledFusion
from tests.processes import run_script
from tests.systems.parts import data_of, differing, final_state, fit, model_of, test_logits

State = dict[str, Tensor]

# epochs of the crossfit plan: 0 and 1 fold 1, 2 and 3 fold 2, 4 and 5 encoder, 6 and 7 head
MODELS: dict[str, dict[str, Any]] = {
    "crossfit": {"encoder_epochs": 2, "score_dropout": 0.3},
    "frozen": {"frozen_layers": -1},  # a fold's epoch 0, 1; encoder 2; head 3, 4
    "holdout": {"evidence": "holdout"},
    "joint": {"evidence": "joint", "encoder_epochs": 2},
}
POINTS: dict[str, dict[str, tuple[int, int | str]]] = {
    "crossfit": {
        "in a fold": (2, 1),
        "at the last batch of a fold": (1, 3),
        "after a fold": (1, "end"),
        "in a validation": (3, "validation"),
        "in the encoder's phase": (5, 2),
        "before the head": (5, "end"),
        "in the head's phase": (6, 3),
        "at a head epoch's end": (6, "end"),
    },
    "frozen": {"in a fold": (1, 2), "in the head's phase": (4, 0)},
    "holdout": {"in the head's phase": (1, 0)},
    "joint": {"in the first epoch": (0, 4)},
}
CASES = [(model, point) for model, points in POINTS.items() for point in points]
LOADED: dict[str, dict[str, Any]] = {
    "a class": {"head": GatedFusion},
    "a partial": {"head": partial(FusionMLP, hidden=[16, 8], dropout=0.3)},
    "calibrators": {"calibrator": VectorScaling, "score_calibrator": PlattScaling, "head": PooledFusion},
    "isotonic": {"calibrator": IsotonicCalibration, "class_weight": [1.0, 2.0, 0.5]},
}


class SaveAt(Callback):
    """Saves the state after a batch, or at the end of an epoch as the last callback, wherever it is told to."""

    def __init__(self, folder: Path, points: dict[str, tuple[int, int | str]]) -> None:
        self.folder, self.points = folder, {where: name for name, where in points.items()}

    def _save(self, trainer: Trainer, where: tuple[int, int | str]) -> None:
        if where in self.points:
            trainer.save_checkpoint(self.folder / f"{self.points.pop(where)}.ckpt", weights_only=False)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._save(trainer, (trainer.current_epoch, batch_idx))

    def on_validation_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        self._save(trainer, (trainer.current_epoch, "validation"))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._save(trainer, (trainer.current_epoch, "end"))


class Compared(NamedTuple):
    expected: dict[tuple[str, str], State]
    got: dict[tuple[str, str], State]
    checkpoints: dict[str, Path]


@pytest.fixture(scope="module")
def compared(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    folder = tmp_path_factory.mktemp("new_process")
    jobs: list[dict[str, Any]] = []
    expected: dict[tuple[str, str], State] = {}
    for name, options in MODELS.items():
        (folder / name).mkdir()
        save = SaveAt(folder / name, POINTS[name])
        whole = final_state(world, folder, fit(world, folder / name / "run", [save], last=0, **options))
        assert save.points == {}
        for point in POINTS[name]:
            expected[name, point] = whole
            jobs.append({"world": str(world), "resume": str(folder / name / f"{point}.ckpt"), "model": options})
    # The encoder that these were made of is gone before they are loaded; only its tokenizer is read again, by the data.
    gone = folder / "gone"
    checkpoints = {}
    for name, options in LOADED.items():
        shutil.copytree(world / "encoder", gone, dirs_exist_ok=True)
        module = fit(world, folder / name, last=0, encoder=str(gone), **options)
        shutil.rmtree(gone)
        checkpoints[name] = folder / name / "checkpoints/last.ckpt"
        expected["load", name] = {"test_logits": test_logits(world, folder, module)}
        jobs.append({"world": str(world), "load": str(checkpoints[name])})
    (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    run_script(Path(__file__).with_name("new_process.py"), folder / "jobs.json", folder / "out.pt")
    results = torch.load(folder / "out.pt", weights_only=True)
    return Compared(expected, dict(zip(expected, results, strict=True)), checkpoints)


@pytest.mark.parametrize(("model", "point"), CASES)
def test_a_resumed_fit_ends_as_the_uninterrupted(model: str, point: str, compared: Compared) -> None:
    assert differing(compared.got[model, point], compared.expected[model, point]) == []


def test_the_comparison_covers_weights_calibrators_decisions_evidence_and_predictions(compared: Compared) -> None:
    names = compared.expected["crossfit", "in a fold"].keys()
    wanted = [
        "encoder",
        "classifier",
        "head",
        "calibrator",
        "score_calibrators",
        "member_calibrators",
        "decision",
        "references",
    ]
    assert all(any(name.startswith(part) for name in names) for part in wanted)
    assert {"evidence", "test_logits"} <= names
    states = [compared.expected[name, next(iter(POINTS[name]))] for name in MODELS]
    assert len({float(state["test_logits"].sum()) for state in states}) == len(states)  # the four differ


@pytest.mark.parametrize("name", LOADED)
def test_a_reload_without_the_encoders_folder_predicts_bit_for_bit(name: str, compared: Compared) -> None:
    assert differing(compared.got["load", name], compared.expected["load", name]) == []


@pytest.mark.parametrize("name", LOADED)
def test_a_checkpoint_holds_plain_values_only(name: str, compared: Compared) -> None:
    kept = torch.load(compared.checkpoints[name], weights_only=True)
    hyperparameters = kept["hyper_parameters"]

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str | int) and plain(inner) for key, inner in value.items())
        if isinstance(value, list | tuple):
            return all(plain(inner) for inner in value)
        return value is None or type(value) in (str, int, float, bool)

    assert plain(hyperparameters)
    assert hyperparameters["encoder_config"]["model_type"] == "bert"
    head = {"a class": "GatedFusion", "calibrators": "PooledFusion"}.get(name, "FusionMLP")
    assert hyperparameters["head"]["class_path"].endswith(f".{head}")
    if name == "a partial":
        assert hyperparameters["head"]["init_args"] == {"hidden": [16, 8], "dropout": 0.3}


def test_a_factory_without_a_name_is_refused(world: Path) -> None:
    with pytest.raises(Exception, match=r"cannot be named in a checkpoint\. Way out: a class"):
        model_of(world, head=lambda *shape: PooledFusion(*shape))


def test_other_labels_or_rows_cannot_go_on(
    world: Path, compared: Compared, tmp_path: Path, topic_table: Callable[..., Any]
) -> None:
    with pytest.raises(Exception, match="the run to be resumed had"):
        fit(world, tmp_path, data={"batch_size": 16}, ckpt_path=compared.checkpoints["a class"], head=GatedFusion)
    data = data_of(world)
    assert data.labels == ["politics", "science", "sport"]
