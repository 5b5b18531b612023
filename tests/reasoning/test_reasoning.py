"""The four layouts: what they learn from, what they answer, what moves; a stopped fit, a reload, a saved folder."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback
from transformers import AutoModelForCausalLM

from lf_lightning.callbacks import WritePredictions
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.errors import ConfigurationError
from lf_lightning.predictor import Predictor
from lf_lightning.systems import ReasoningLightningModule
from lf_lightning.systems.rationales import Pieces, collate, sequences
from tests.reasoning.conftest import LABELS
from tests.reasoning.parts import data_of, fit, model_of, state_of, trainer_of
from tests.systems.parts import differing

LAYOUTS = ["label", "reason_label", "label_reason", "multitask"]


class Losses(Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(float(outputs["loss"]))


def answers(module: ReasoningLightningModule, world: Path, lm: str, root: Path, **data: Any) -> Any:
    trainer = trainer_of(root, [WritePredictions()])
    trainer.test(module, data_of(world, lm, **data), verbose=False)
    return module.evaluated["test"]


# ---- what is learnt


PIECES = Pieces(labels=[[11], [12, 13]], label_cue=[7, 8], reason_cue=[9], end=1, closing=[])


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("label", [([5, 6, 7, 8, 12, 13], "....LL")]),
        ("reason_label", [([5, 6, 9, 20, 21, 1, 7, 8, 12, 13], "...RRR..LL")]),
        ("label_reason", [([5, 6, 7, 8, 12, 13, 9, 20, 21, 1], "....LL.RRR")]),
        ("multitask", [([5, 6, 7, 8, 12, 13], "....LL"), ([5, 6, 9, 20, 21, 1], "...RRR")]),
    ],
)
@pytest.mark.parametrize("share", [None, 0.25])
def test_what_a_row_is_learnt_from(layout: Any, expected: list[tuple[list[int], str]], share: float | None) -> None:
    rows = sequences(layout, PIECES, [5, 6], 1, [20, 21], share)
    assert [row.ids for row in rows] == [ids for ids, _ in expected]
    for row, (_, kinds) in zip(rows, expected, strict=True):
        assert (
            "".join("L" if a else "R" if b else "." for a, b in zip(row.label_weights, row.reason_weights, strict=True))
            == kinds
        )
    of_label, of_reason = {w for r in rows for w in r.label_weights if w}, {w for r in rows for w in r.reason_weights if w}
    if layout == "label":
        assert (of_label, of_reason) == ({1}, set())
    else:
        assert (of_label, of_reason) == (({0.25}, {0.75 / 3}) if share else ({1 / 5}, {1 / 5}))
    (alone,) = sequences(layout, PIECES, [5, 6], 1, [], share)
    assert alone.ids == [5, 6, 7, 8, 12, 13]
    assert alone.label_weights == [0, 0, 0, 0, 1, 1]


def test_the_loss_is_that_of_plain_passes(lm: str, world: Path) -> None:
    module = model_of(lm, layout="reason_label", label_share=0.4, class_weight=[1.0, 2.0, 0.5])
    module._reasons = [[[20, 21, 22]], [], [[30, 31]]]
    data = data_of(world, lm)
    data.setup("fit")
    batch = data._rows_of("train")[[0, 1, 2]]
    expected = 0.0
    for row in range(3):
        ids = batch["input_ids"][row][batch["attention_mask"][row] > 0].tolist()
        label, reason = int(batch["labels"][row]), [r[0] if r else [] for r in module._reasons][row]
        name, p = module.pieces.labels[label], module.pieces
        told = [*p.reason_cue, *reason, p.end] if reason else []
        whole = [*ids, *told, *p.label_cue, *name]
        with torch.no_grad():
            logs = module.model(torch.tensor([whole])).logits[0].log_softmax(-1)
        nll = [-float(logs[place - 1, whole[place]]) for place in range(1, len(whole))]
        of_label = float(np.sum(nll[-len(name) :]))
        begin = len(ids) + len(p.reason_cue) - 1
        of_reason = float(np.mean(nll[begin : begin + len(reason) + 1])) if reason else 0.0
        loss = 0.4 * of_label + 0.6 * of_reason if reason else of_label
        expected += [1.0, 2.0, 0.5][label] * loss / 3
    assert float(module.losses(batch)["loss"].detach()) == pytest.approx(expected, rel=1e-5)


def test_labels_that_begin_alike_and_those_that_are_alike(lm: str) -> None:
    pieces = model_of(lm, labels=["new", "new york", "sport"]).pieces  # "york" is unknown, which is a token, too
    assert all(ids[-1] == pieces.end for ids in pieces.labels)
    assert all(ids[-1] != pieces.end for ids in model_of(lm).pieces.labels)
    with pytest.raises(ConfigurationError, match="same tokens"):
        model_of(lm, labels=["York", "Paris"])


def test_a_row_with_several_reasons_learns_from_all_and_one_without_from_its_label(
    lm: str, world: Path, tmp_path: Path
) -> None:
    module = model_of(lm, layout="reason_label", epochs=1)
    seen: dict[int, set[tuple[int, ...]]] = {}
    reason_of = module._reason_of
    module._reason_of = lambda row: seen.setdefault(row, set()).add(tuple(reason_of(row))) or reason_of(row)  # type: ignore[method-assign]
    trainer_of(tmp_path).fit(module, data_of(world, lm))
    assert len(seen) == 64
    module._reasons = [[[1], [2]], [], [[3]]]
    assert [reason_of(row) for row in range(3)] in ([[1], [], [3]], [[2], [], [3]])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_learns_answers_and_explains(layout: str, world: Path, lm: str, tmp_path: Path) -> None:
    module = fit(world, lm, tmp_path, layout=layout, epochs=12)
    outputs = answers(module, world, lm, tmp_path)
    assert outputs.logits.shape == (33, 3)
    table = pd.read_csv(tmp_path / "predictions_test.csv")
    assert (table["predicted"] == table["label"]).mean() > 0.7
    predictor = Predictor(module, lm, 64, device="cpu")
    texts = pd.read_csv(world / "test.csv")["text"].tolist()
    if layout == "label":
        assert "rationale_system" not in table
        with pytest.raises(ConfigurationError, match="has not learnt to write reasons"):
            predictor.explain(texts)
    else:
        assert table["rationale_system"].str.startswith("it speaks of").mean() > 0.8
        assert module._reasons == []
        opinion, reasons = predictor.explain(texts)
        assert reasons == table["rationale_system"].tolist()
        assert [LABELS[k] for k in opinion.decisions] == table["predicted"].tolist()
        np.testing.assert_allclose(opinion.probabilities[:, 1], table["p_science"], rtol=1e-4)
        nothing, none = predictor.explain([])
        assert (nothing.probabilities.shape, none) == ((0, 3), [])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_batch_can_be_learnt_by_heart(layout: str, world: Path, lm: str, tmp_path: Path) -> None:
    losses = Losses()
    fit(
        world, lm, tmp_path, [losses], layout=layout, epochs=60, lr=1e-2, schedule="constant", data={"group_by_length": False},
        trainer={"overfit_batches": 1, "limit_val_batches": 0, "max_epochs": -1}, weight_decay=0.0,
    )  # fmt: skip
    assert losses.seen[0] > 2
    # The writers of the two reasons of a row differ in a word, so that the reasons' loss has a floor.
    assert losses.seen[-1] < (0.02 if layout == "label" else 0.3)


# ---- what is answered


@torch.inference_mode()
def brute_force(lm: str, prefix: list[int], label: list[int]) -> float:
    model = AutoModelForCausalLM.from_pretrained(lm).eval()
    whole = [*prefix, *label]
    logs = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    return float(np.mean([float(logs[place - 1, whole[place]]) for place in range(len(prefix), len(whole))]))


@pytest.mark.parametrize("size", [1, 16])
def test_logits_are_the_labels_mean_log_likelihoods(lm: str, world: Path, size: int) -> None:
    labels = ["politics", "big science", "sport"]
    module = model_of(lm, labels=labels).eval()
    data = data_of(world, lm)
    data.setup("test")
    rows = data._rows_of("test")
    with torch.no_grad():
        found = torch.cat([module.outputs(rows[list(range(start, start + size))]).logits for start in range(0, 16, size)])
    batch = rows[list(range(16))]
    for row in (0, 7, 15):
        prefix = [*batch["input_ids"][row][batch["attention_mask"][row] > 0].tolist(), *module.pieces.label_cue]
        expected = [brute_force(lm, prefix, label) for label in module.pieces.labels]
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-4)


def test_probabilities_over_drawn_reasons_are_averaged_and_seeded(lm: str, world: Path) -> None:
    data = data_of(world, lm)
    data.setup("test")
    rows = data._rows_of("test")

    def outputs(batch: list[int], **options: Any) -> Any:
        with torch.no_grad():
            return model_of(lm, layout="reason_label", samples=3, temperature=1.0, **options).eval().outputs(rows[batch])

    whole = outputs([0, 1, 2, 3])
    torch.testing.assert_close(whole.logits.exp().sum(1), torch.ones(4))
    again = outputs([2])
    torch.testing.assert_close(again.logits[0], whole.logits[2], atol=1e-5, rtol=1e-4)
    assert again.rationales[0].tolist() == whole.rationales[2].tolist()
    torch.manual_seed(5)
    assert torch.equal(outputs([0, 1, 2, 3]).logits, whole.logits)
    assert not torch.allclose(outputs([0, 1, 2, 3], seed=1).logits, whole.logits)

    module = model_of(lm, layout="reason_label", samples=3, temperature=1.0).eval()
    batch = rows[[0]]
    prefix = [*batch["input_ids"][0][batch["attention_mask"][0] > 0].tolist(), *module.pieces.reason_cue]
    drawn = module._write([prefix], 3)[0]
    assert len({tuple(reason) for reason in drawn}) > 1
    each = []
    for reason in drawn:
        behind = [*prefix, *reason, module.pieces.end, *module.pieces.label_cue]
        scores = np.array([brute_force(lm, behind, label) for label in module.pieces.labels])
        each.append(np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum())
    np.testing.assert_allclose(whole.logits[0].exp().numpy(), np.mean(each, 0), atol=1e-4)


def test_half_precision_is_near(lm: str, world: Path) -> None:
    data = data_of(world, lm)
    data.setup("test")
    batch = data._rows_of("test")[list(range(8))]
    module = model_of(lm).eval()
    with torch.no_grad():
        exact = module.outputs(batch).logits
        with torch.autocast("cpu", torch.bfloat16):
            rough = module.outputs(batch).logits
    assert rough.isfinite().all()
    torch.testing.assert_close(rough, exact, atol=0.1, rtol=0.05)


# ---- adapters


def test_a_frozen_base_moves_only_its_adapters(lm: str, world: Path, tmp_path: Path) -> None:
    module = model_of(lm, lora_rank=4, lora_dropout=0.1, epochs=3, layout="multitask")
    before = state_of(module)
    assert list(module.parameter_groups()) == ["adapters"]
    trainer_of(tmp_path).fit(module, data_of(world, lm))
    moved = {name for name in differing(before, state_of(module)) if name.startswith("model.")}
    assert moved
    assert all("lora_" in name for name in moved)
    adapters = {name for name in before if "lora_B" in name}
    assert adapters <= moved
    # At first the adapters change nothing, so both begin at the same model.
    fresh, plain = model_of(lm, lora_rank=4).eval(), model_of(lm).eval()
    ids = torch.tensor([[0, 30, 31]])
    torch.testing.assert_close(fresh.model(ids).logits, plain.model(ids).logits)


# ---- stopped, reloaded, saved, shared


class StopAt(Callback):
    def __init__(self, folder: Path, at: tuple[int, int]) -> None:
        self.folder, self.at = folder, at

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:
            trainer.save_checkpoint(self.folder / "stopped.ckpt", weights_only=False)


@pytest.mark.parametrize("at", [(0, 3), (1, 5)])
def test_a_resumed_fit_ends_bit_for_bit_as_if_it_had_not_stopped(
    at: tuple[int, int], lm: str, world: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"layout": "reason_label", "lora_rank": 2, "lora_dropout": 0.3}
    whole = fit(world, lm, tmp_path / "whole", [StopAt(tmp_path, at)], **options)
    torch.manual_seed(99)
    resumed = fit(world, lm, tmp_path / "resumed", ckpt_path=tmp_path / "stopped.ckpt", **options)
    assert differing(state_of(whole), state_of(resumed)) == []
    with pytest.raises(ConfigurationError, match="had other reasons"):
        fit(world, lm, tmp_path, ckpt_path=tmp_path / "stopped.ckpt", data={"reason_writers": ["writer"]}, **options)


@pytest.mark.parametrize("layout", ["label", "reason_label"])
def test_a_checkpoint_needs_neither_model_nor_tokenizer_folder(layout: str, lm: str, world: Path, tmp_path: Path) -> None:
    module = fit(world, lm, tmp_path, layout=layout, last=0, lora_rank=2)
    with torch.no_grad():
        expected = answers(module, world, lm, tmp_path).logits
    kept = torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)
    kept["hyper_parameters"]["encoder"] = "no/such model"
    torch.save(kept, tmp_path / "moved.ckpt")
    loaded = ReasoningLightningModule.load_from_checkpoint(tmp_path / "moved.ckpt")
    data = data_of(world, lm)
    data.setup("test")
    best = ReasoningLightningModule.load_from_checkpoint(tmp_path / "checkpoints/best.ckpt").eval()
    with torch.no_grad():
        batch = data._rows_of("test")[list(range(9))]
        assert torch.equal(loaded.eval().outputs(batch).logits, best.outputs(batch).logits)
    assert expected.shape == (33, 3)

    predictor = Predictor(best, lm, 64, device="cpu")
    predictor.save(tmp_path / "saved")
    texts = pd.read_csv(world / "test.csv")["text"].tolist()
    again = Predictor.of_run(tmp_path / "saved", device="cpu")
    np.testing.assert_array_equal(again.predict_proba(texts), predictor.predict_proba(texts))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"task": "multilabel"}, "exactly one applies"),
        ({"samples": 2}, "all samples are one"),
        ({"label_share": 1.5}, "label_share=1.5"),
        ({"epochs": 0}, "epochs=0"),
        ({"lora_rank": 2, "lora_targets": ["nothing"]}, "lora_targets"),
        ({"label_cue": "x", "reason_cue": "x"}, "cues differ"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], told: str, lm: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        model_of(lm, **options)


def test_without_reasons_a_layout_with_reasons_is_refused(lm: str, world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no train row has one"):
        fit(world, lm, tmp_path, layout="multitask", data={"reasons": None})


def test_too_long_for_the_model(lm: str, world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the model takes 128"):
        fit(world, lm, tmp_path, layout="reason_label", max_reason_tokens=120)


def test_all_layouts_take_the_same_steps(lm: str, world: Path, tmp_path: Path) -> None:
    steps = {fit(world, lm, tmp_path, layout=layout, epochs=1).trainer.global_step for layout in LAYOUTS}
    assert steps == {math.ceil(64 / 8)}


def test_collated_rows_end_together() -> None:
    rows = [row for label in (0, 1) for row in sequences("reason_label", PIECES, [5] * (1 + label), label, [20], 0.5)]
    learnt = collate(rows)
    assert learnt.ids[:, -1].tolist() == [11, 13]
    assert learnt.mask.sum(1).tolist() == [len(row.ids) for row in rows]
    torch.testing.assert_close(learnt.label_weights.sum(1), torch.tensor([0.5, 2 * 0.5]))
    torch.testing.assert_close(learnt.reason_weights.sum(1), torch.full((2,), 0.5))
    assert all(a <= b for a, b in pairwise([len(row.ids) for row in rows]))


def test_data_module_gives_reasons_apart_from_scores(world: Path, lm: str) -> None:
    data = data_of(world, lm)
    assert data.scorer_names == []
    found = data.reasons("train")
    assert list(found) == ["writer", "writer 2"]
    assert found["writer 2"][3] is None
    assert isinstance(data, ScoredTextDataModule)
    assert list(data_of(world, lm, reason_writers=["writer 2"]).reasons("train")) == ["writer 2"]
