from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lf_lightning.contract import Batch
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.errors import ConfigurationError

EPOCHS, BATCHES = 3, 4  # 60 train rows in batches of 16


class Recorder(LightningModule):
    """Writes down which rows each step saw."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[tuple[int, list[int]]] = []

    def training_step(self, batch: Batch) -> Tensor:
        self.seen.append((self.current_epoch, batch["index"].tolist()))
        return self.layer(batch["input_ids"][:, :1].float()).mean()

    def validation_step(self, batch: Batch) -> None:
        pass

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 1e-9)


class Phased(Recorder):
    """Serves another number of rows in each epoch."""

    def rows_of_epoch(self, epoch: int) -> Tensor | None:
        return None if epoch == 1 else torch.arange(epoch, 40 - 10 * epoch)


class SaveAt(Callback):
    """Saves once, in the hook and after the step that it is told, then stops if told so."""

    def __init__(self, hook: str, step: int, path: Path) -> None:
        self.hook, self.step, self.path = hook, step, path

    def _save(self, trainer: Trainer, hook: str) -> None:
        if hook == self.hook and trainer.global_step == self.step and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._save(trainer, "on_train_batch_end")

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        self._save(trainer, "on_validation_end")

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        self._save(trainer, "on_train_epoch_end")


def fit(model: Recorder, data: ScoredTextDataModule, reload: int, callback: Callback | None = None, **options: Any) -> Trainer:
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=reload,
        callbacks=callback,
        num_sanity_val_steps=0,
        **{key: value for key, value in options.items() if key != "ckpt_path"},
    )
    trainer.fit(model, data, ckpt_path=options.get("ckpt_path"))
    return trainer


@pytest.fixture(scope="module")
def make(tiny_tokenizer: str, topic_table: Callable[..., pd.DataFrame]) -> Callable[..., ScoredTextDataModule]:
    table, validation = topic_table(60), topic_table(10, seed=1)

    def data(**arguments: Any) -> ScoredTextDataModule:
        return ScoredTextDataModule(
            **{"train": table, "validation": validation, "tokenizer": tiny_tokenizer, "batch_size": 16, **arguments}
        )

    return data


@pytest.mark.parametrize("reload", [0, 1])
@pytest.mark.parametrize(
    ("hook", "step"),
    [
        ("on_train_batch_end", 1),
        ("on_train_batch_end", 6),
        ("on_train_batch_end", 8),  # the last batch of an epoch
        ("on_validation_end", 4),
        ("on_train_epoch_end", 8),
    ],
)
def test_resumed_run_sees_what_the_other_would_have(
    make: Callable[..., ScoredTextDataModule], tmp_path: Path, reload: int, hook: str, step: int
) -> None:
    whole = Recorder()
    fit(whole, make(), reload, SaveAt(hook, step, tmp_path / "state.ckpt"))
    assert len(whole.seen) == EPOCHS * BATCHES
    resumed = Recorder()
    fit(resumed, make(), reload, ckpt_path=tmp_path / "state.ckpt")
    assert resumed.seen == whole.seen[step:]


def test_each_epoch_serves_each_row_once_in_another_order(make: Callable[..., ScoredTextDataModule]) -> None:
    model = Recorder()
    fit(model, make(), 0)
    orders = []
    for epoch in range(EPOCHS):
        rows = [row for at, batch in model.seen if at == epoch for row in batch]
        assert sorted(rows) == list(range(60))
        orders.append(tuple(rows))
    assert len(set(orders)) == EPOCHS
    again = Recorder()
    torch.manual_seed(123)
    fit(again, make(), 1)
    assert again.seen == model.seen
    other = Recorder()
    fit(other, make(seed=1), 1)
    assert other.seen != model.seen


@pytest.mark.parametrize(
    ("hook", "step"),
    [
        *(("on_train_batch_end", step) for step in (2, 3, 4, 7, 8)),
        *((hook, step) for hook in ("on_validation_end", "on_train_epoch_end") for step in (3, 7)),
    ],
)
def test_phases_of_other_lengths_resume_too(
    make: Callable[..., ScoredTextDataModule], tmp_path: Path, hook: str, step: int
) -> None:
    whole, resumed = Phased(), Phased()
    fit(whole, make(), 1, SaveAt(hook, step, tmp_path / "state.ckpt"))
    assert [len([1 for at, _ in whole.seen if at == epoch]) for epoch in range(EPOCHS)] == [3, 4, 2]
    assert {row for at, batch in whole.seen if at == 2 for row in batch} == set(range(2, 20))
    fit(resumed, make(), 1, ckpt_path=tmp_path / "state.ckpt")
    assert resumed.seen == whole.seen[step:]


def test_worker_processes_change_nothing(make: Callable[..., ScoredTextDataModule], tmp_path: Path) -> None:
    plain, whole = Recorder(), Recorder()
    fit(plain, make(), 0)
    fit(whole, make(num_workers=1), 0, SaveAt("on_train_batch_end", 8, tmp_path / "state.ckpt"))
    assert whole.seen == plain.seen
    resumed = Recorder()
    fit(resumed, make(num_workers=1), 0, ckpt_path=tmp_path / "state.ckpt")
    assert resumed.seen == whole.seen[8:]


def test_global_random_numbers_are_not_drawn(make: Callable[..., ScoredTextDataModule]) -> None:
    data = make()
    data.setup("fit")
    before = torch.get_rng_state()
    for loader in (data.train_dataloader(), data.val_dataloader()):
        list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_phased_system_without_reload_is_refused(make: Callable[..., ScoredTextDataModule]) -> None:
    with pytest.raises(ConfigurationError, match=r"trainer.reload_dataloaders_every_n_epochs=0.*has to be 1"):
        fit(Phased(), make(), 0)


def test_resuming_on_other_data_is_refused(
    make: Callable[..., ScoredTextDataModule], tmp_path: Path, topic_table: Callable[..., pd.DataFrame]
) -> None:
    fit(Recorder(), make(), 1, SaveAt("on_train_batch_end", 3, tmp_path / "state.ckpt"))
    state = torch.load(tmp_path / "state.ckpt", weights_only=True)["ScoredTextDataModule"]
    assert state["labels"] == ["politics", "science", "sport"]
    others = {"other train rows": {"train": topic_table(60, seed=5)}, "batch_size=8": {"batch_size": 8}, "seed=1": {"seed": 1}}
    for message, arguments in others.items():
        with pytest.raises(ConfigurationError, match=message):
            fit(Recorder(), make(**arguments), 1, ckpt_path=tmp_path / "state.ckpt")
    with pytest.raises(ConfigurationError, match="labels="):
        fit(Recorder(), make(labels=["sport", "science", "politics"]), 1, ckpt_path=tmp_path / "state.ckpt")


def test_overfit_batches_repeats_one_order(make: Callable[..., ScoredTextDataModule]) -> None:
    model = Recorder()
    fit(model, make(), 0, overfit_batches=1)
    assert len({tuple(batch) for _, batch in model.seen}) == 1
    assert len(model.seen) == EPOCHS


def test_fit_without_validation_rows(make: Callable[..., ScoredTextDataModule]) -> None:
    model = Recorder()
    with pytest.warns(UserWarning, match="Total length of `list` across ranks is zero"):
        fit(model, make(validation=None, validation_share=0.0), 0)
    assert len(model.seen) == EPOCHS * BATCHES


def test_predict_serves_every_row_once(
    make: Callable[..., ScoredTextDataModule], topic_table: Callable[..., pd.DataFrame]
) -> None:
    class Predicting(Recorder):
        def predict_step(self, batch: Batch) -> Tensor:
            return batch["index"]

    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    data = make(predict=topic_table(67, seed=3)[["text"]], eval_batch_size=8)
    rows = trainer.predict(Predicting(), data)
    assert rows is not None
    assert sorted(torch.cat([torch.as_tensor(part) for part in rows]).tolist()) == list(range(67))
