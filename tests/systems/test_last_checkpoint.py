"""When `last.ckpt` is written: never in a state from which a run would go on without a validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lf_lightning.errors import NotFiniteError
from tests.systems.parts import data_of, fit, model_of, trainer_of


class Stop(Callback):
    """Raises in the middle of a validation or after a batch."""

    def __init__(self, error: BaseException, epoch: int, batch: int | None = None) -> None:
        self.error, self.epoch, self.batch = error, epoch, batch

    def on_validation_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        if self.batch is None and trainer.current_epoch == self.epoch:
            raise self.error

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.batch and trainer.current_epoch == self.epoch:
            raise self.error


def saved(root: Path) -> tuple[int, int] | None:
    file = root / "checkpoints/last.ckpt"
    if not file.exists():
        return None
    kept = torch.load(file, weights_only=True)
    return kept["epoch"], kept["global_step"]


# A fold of 30 or 31 rows has 4 batches; the plan is two folds, the encoder, two epochs of the head.
@pytest.mark.parametrize(
    ("error", "epoch", "batch", "every", "expected"),
    [
        (SIGTERMException(), 1, 1, 0, (1, 6)),  # mid-epoch: where it stopped
        (RuntimeError("disk"), 1, 1, 0, (1, 6)),
        (NotFiniteError("nan"), 1, 1, 0, (0, 4)),  # the weights are the error: the epoch before
        (SIGTERMException(), 1, None, 0, (0, 4)),  # in a validation: the epoch before
        (SIGTERMException(), 1, None, 3, (1, 6)),  # or the last step that was saved
        (SIGTERMException(), 0, None, 0, (0, 4)),  # in the first validation, with nothing saved before
        (NotFiniteError("nan"), 0, None, 0, None),
    ],
)
def test_what_an_interruption_leaves(
    error: BaseException, epoch: int, batch: int | None, every: int, expected: Any, world: Path, tmp_path: Path
) -> None:
    with pytest.raises(type(error)):
        fit(world, tmp_path, [Stop(error, epoch, batch)], last=every)
    assert saved(tmp_path) == expected


def test_a_fit_of_one_epoch_leaves_nothing_when_its_validation_is_interrupted(world: Path, tmp_path: Path) -> None:
    with pytest.raises(SIGTERMException):
        fit(world, tmp_path, [Stop(SIGTERMException(), 0)], last=0, evidence="joint")
    assert saved(tmp_path) is None  # resumed, it would end without calibrators


def test_no_step_is_saved_at_an_epochs_last_batch(world: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int] | None] = []

    class Look(Callback):
        def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
            steps.append(saved(tmp_path))

    fit(world, tmp_path, [Look()], last=1)
    assert steps == [(0, 3), (1, 7), (2, 15), (3, 23), (4, 31)]
    assert saved(tmp_path) == (4, 32)


def test_an_error_in_a_test_saves_nothing(world: Path, tmp_path: Path) -> None:
    class Fail(Callback):
        def on_test_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
            raise RuntimeError("in the test")

    module = model_of(world, evidence="joint")
    trainer = trainer_of(tmp_path, [Fail()], last=0)
    trainer.fit(module, data_of(world))
    (tmp_path / "checkpoints/last.ckpt").unlink()
    with pytest.raises(RuntimeError, match="in the test"):
        trainer.test(module, data_of(world), verbose=False)
    assert saved(tmp_path) is None
