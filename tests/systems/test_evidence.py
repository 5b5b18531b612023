"""The head learns from what the encoder says of rows that it was not fitted on; a spy writes down who saw which rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from lf_lightning.errors import ConfigurationError
from lf_lightning.heads import AverageFusion
from lf_lightning.systems.evidence import EncoderEvidence
from lf_lightning.systems.row_pass import over_rows
from tests.systems.parts import data_of, fit, model_of, trainer_of


class Spy(Callback):
    """Rows served in each epoch of each phase, and the encoder at each phase's first step and end."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Counter[int]]] = defaultdict(list)
        self.begun: dict[str, dict[str, Tensor]] = {}
        self.ended: dict[str, dict[str, Tensor]] = {}

    @staticmethod
    def state(module: Any) -> dict[str, Tensor]:
        return {
            name: value.clone() for name, value in module.state_dict().items() if name.startswith(("encoder", "classifier"))
        }

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        name = pl_module.phase_of(trainer.current_epoch)[1].name
        if batch_idx == 0:
            self.rows[name].append(Counter())
            self.begun.setdefault(name, self.state(pl_module))
        self.rows[name][-1].update(batch["index"].tolist())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.ended[pl_module.phase_of(trainer.current_epoch)[1].name] = self.state(pl_module)


def said_by(world: Path, state: dict[str, Tensor], rows: Tensor) -> Tensor:
    """The logits (n, K) that an encoder and classifier of this state give of train rows, in a module of their own."""
    module, data = model_of(world).eval(), data_of(world)
    module.load_state_dict(state, strict=False)
    logits = torch.full((61, 3), torch.nan)
    with torch.no_grad():
        for batch in data.rows_dataloader("train", rows):
            logits[batch["index"]] = module.classifier(module.encoder(batch["input_ids"], batch["attention_mask"]))
    return logits[rows]


@pytest.mark.parametrize("folds", [2, 3])
def test_crossfit_shows_the_head_only_what_was_out_of_sample(folds: int, world: Path, tmp_path: Path) -> None:
    spy = Spy()
    module = fit(world, tmp_path, [spy], folds=folds, encoder_epochs=2)
    fold_of = data_of(world).folds(folds, module.seed)
    assert list(spy.rows) == [*(f"fold {k + 1}/{folds}" for k in range(folds)), "encoder", "head"]
    for k in range(folds):
        others = set((fold_of != k).nonzero().flatten().tolist())
        for epoch in spy.rows[f"fold {k + 1}/{folds}"]:
            assert set(epoch) == others
            assert set(epoch.values()) == {1}
    for name in ("encoder", "head"):
        assert all(epoch == Counter(range(61)) for epoch in spy.rows[name])
    assert len(spy.rows["encoder"]) == 2
    assert module.evidence.logits is not None
    for k in range(folds):
        held = (fold_of == k).nonzero().flatten()
        expected = said_by(world, spy.ended[f"fold {k + 1}/{folds}"], held)
        assert torch.allclose(module.evidence.logits[held], expected, atol=1e-5)
        in_sample = said_by(world, spy.ended["encoder"], held)
        assert not torch.allclose(module.evidence.logits[held], in_sample, atol=1e-2)


def test_each_encoder_starts_from_the_pretrained_weights_and_one_classifier(world: Path, tmp_path: Path) -> None:
    spy = Spy()
    fit(world, tmp_path, [spy])
    pretrained = Spy.state(model_of(world))
    first = spy.begun["fold 1/2"]
    for name in ("fold 1/2", "fold 2/2", "encoder"):
        begun = spy.begun[name]
        assert all(torch.equal(begun[key], value) for key, value in pretrained.items() if key.startswith("encoder"))
        assert torch.equal(begun["classifier.weight"], first["classifier.weight"])
    assert all(torch.equal(spy.begun["head"][key], value) for key, value in spy.ended["encoder"].items())


def test_holdout_keeps_a_share_for_the_head(world: Path, tmp_path: Path) -> None:
    spy = Spy()
    module = fit(world, tmp_path, [spy], evidence="holdout", holdout=0.25, encoder_epochs=2)
    kept = (data_of(world).folds(4, module.seed) == 0).nonzero().flatten()
    assert len(kept) in (15, 16)
    assert list(spy.rows) == ["encoder", "head"]
    assert all(epoch == Counter(kept.tolist()) for epoch in spy.rows["head"])
    assert all(epoch == Counter(set(range(61)) - set(kept.tolist())) for epoch in spy.rows["encoder"])
    logits = module.evidence.logits
    assert logits is not None
    assert torch.equal(logits.isfinite().all(-1).nonzero().flatten(), kept)
    assert torch.allclose(logits[kept], said_by(world, spy.ended["encoder"], kept), atol=1e-5)


@pytest.mark.parametrize(("share", "rows"), [(0.4, (24, 25)), (0.9, (54, 55, 56))])
def test_the_share_held_out_is_the_one_that_was_asked_for(share: float, rows: tuple[int, ...], world: Path) -> None:
    data = data_of(world)
    data.setup("fit")
    kept = EncoderEvidence("holdout", 5, share, 1, 1, seed=0).rows_after(0, data)
    assert kept is not None
    assert len(kept) in rows


def test_the_head_starts_from_rows_whose_classes_are_as_frequent_as_in_validation(world: Path, tmp_path: Path) -> None:
    table = pd.concat([pd.read_csv(world / "validation.csv"), pd.read_csv(world / "test.csv")])
    first = table["label"] == sorted(table["label"].unique())[0]
    skewed = pd.concat([table[first], table[~first][:4]])
    skewed.to_csv(tmp_path / "validation.csv", index=False)
    module = fit(world, tmp_path, data={"validation": str(tmp_path / "validation.csv")})
    held = module.held_out()
    assert held is not None
    counts = torch.bincount(held.labels, minlength=3).double()
    assert len(held.labels) < 61 + len(skewed)
    assert counts[0] / counts.sum() == pytest.approx(first.sum() / len(skewed), abs=0.1)


@pytest.mark.parametrize("group_by_length", [True, False])
def test_validation_rows_are_kept_with_their_own_opinions_where_not_all_are_served(
    group_by_length: bool, world: Path, tmp_path: Path
) -> None:
    module = fit(world, tmp_path, data={"group_by_length": group_by_length}, trainer={"limit_val_batches": 1})
    probabilities, labels, _ = module.validation_rows.arrays()
    index, held = module.evaluated["validation"].index, module.held_out()
    assert held is not None
    assert len(labels) == len(index) == 16
    own = held.logits[-len(pd.read_csv(world / "validation.csv")) :][index]
    assert np.array_equal(labels, held.labels[-len(pd.read_csv(world / "validation.csv")) :][index])
    expected = module.calibrator(own).softmax(-1).detach().double().numpy()
    assert np.allclose(probabilities[-1], expected, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16-true", "16-mixed"])
def test_a_precision_that_the_head_cannot_have_is_refused_before_the_fit(precision: Any, world: Path, tmp_path: Path) -> None:
    data = data_of(world)
    module = model_of(world, data, head=AverageFusion)
    trainer = trainer_of(tmp_path)
    trainer.strategy.precision_plugin = SimpleNamespace(precision=precision)  # 16-mixed needs a GPU
    with pytest.raises(ConfigurationError, match=f"trainer.precision='{precision}'.*Way out: bf16-mixed"):
        module.trainer = trainer
        module.setup("fit")


def test_joint_trains_once_on_all_rows(world: Path, tmp_path: Path) -> None:
    spy = Spy()
    module = fit(world, tmp_path, [spy], evidence="joint", encoder_epochs=3)
    assert list(spy.rows) == ["joint"]
    assert spy.rows["joint"] == [Counter(range(61))] * 3
    assert module.evidence.logits is None
    assert module.trainer.current_epoch == 3


def test_rows_with_one_text_share_a_fold(
    make_world: Callable[..., Path], topic_table: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    table = topic_table(60, seed=2)
    twice = pd.concat([table[:40], table[:20].assign(text=table["text"][:20].str.replace(" ", "  "))], ignore_index=True)
    folder = make_world({"train": twice, "validation": table[40:50], "test": table[50:]})
    spy = Spy()
    fit(folder, tmp_path, [spy], folds=3)
    for k in range(3):
        seen = set(spy.rows[f"fold {k + 1}/3"][0])
        assert {row for row in range(20) if row in seen} == {row - 40 for row in seen if row >= 40}
    labels = pd.Series(twice["label"])
    fold_of = pd.Series(data_of(folder).folds(3, 0).numpy())
    counts = pd.crosstab(fold_of, labels)
    assert (counts.max() - counts.min()).max() <= 5  # of 20 a label; pairs move together
    assert set(fold_of) == {0, 1, 2}


def test_a_frozen_encoder_reads_each_text_once(world: Path, tmp_path: Path) -> None:
    module = model_of(world, frozen_layers=-1)
    read: list[int] = []
    module.encoder.register_forward_pre_hook(lambda _, inputs: read.append(len(inputs[0])))
    trainer_of(tmp_path).fit(module, data_of(world))
    assert sum(read) == 61 + 29


def test_a_frozen_encoder_ends_as_if_it_had_read_them_each_time(world: Path, tmp_path: Path) -> None:
    kept = fit(world, tmp_path, frozen_layers=-1)
    again = model_of(world, frozen_layers=-1)
    again._vectors_of = lambda batch, split: again._encode(batch)  # type: ignore[method-assign]
    trainer_of(tmp_path).fit(again, data_of(world))
    for (name, one), other in zip(kept.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.allclose(one, other, atol=1e-3), name


def test_over_rows_leaves_mode_and_randomness_as_they_were(world: Path, tmp_path: Path) -> None:
    found: list[Any] = []

    class Ask(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            before = torch.get_rng_state()
            rows = torch.tensor([4, 60, 7])
            values = over_rows(pl_module, "train", rows, lambda part: part["index"].unsqueeze(-1))
            found.append((values, torch.equal(before, torch.get_rng_state()), pl_module.training, pl_module.encoder.training))
            trainer.should_stop = True

    fit(world, tmp_path, [Ask()], evidence="joint")
    values, same_state, *training = found[0]
    assert same_state
    assert training == [True, True]
    assert values.shape == (61, 1)
    assert values.isfinite().nonzero()[:, 0].tolist() == [4, 7, 60]
    assert values[[4, 7, 60]].flatten().tolist() == [4.0, 7.0, 60.0]


def test_calibrators_learn_from_train_and_validation_rows_that_nothing_was_fitted_on(world: Path, tmp_path: Path) -> None:
    module = fit(world, tmp_path, folds=2)
    held, rows = module.held_out(), 61 + len(pd.read_csv(world / "validation.csv"))
    assert held is not None
    assert module.evidence.logits is not None
    assert len(held.labels) == rows
    assert module.calibrator.report["rows"] == rows
    assert torch.allclose(held.members["encoder"][:61], module.evidence.logits.log_softmax(-1), atol=1e-5)
    assert set(held.members) == {"encoder", "good", "weak", "average", "stack"}
    rows_of_head = module.evidence.held_out
    assert rows_of_head is not None
    assert module.head is not None
    with torch.no_grad():
        fitted = module.head.eval()(rows_of_head.members, rows_of_head.present, torch.empty(rows, 0))
    cross_entropy = torch.nn.functional.cross_entropy
    assert cross_entropy(held.logits, held.labels) > cross_entropy(fitted, held.labels)


def test_joint_training_leaves_validation_rows_to_the_calibrators(world: Path, tmp_path: Path) -> None:
    module = fit(world, tmp_path, evidence="joint")
    assert module.held_out() is None
    assert module.calibrator.report["rows"] == len(pd.read_csv(world / "validation.csv"))
