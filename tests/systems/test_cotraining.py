"""Co-training: which rows and weights each phase has, what a step moves, and that one optimizer is two."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.optim import AdamW

from lf_lightning.dynamics import (
    AreaUnderMargin,
    CleanlabPruning,
    Confidence,
    Dynamics,
    SmallLoss,
    StatedConfidence,
    Uniform,
    Weighting,
    swapped_weights,
)
from lf_lightning.errors import ConfigurationError, NotFittedError
from lf_lightning.store import ScorerCard, ScoreStore, Status
from lf_lightning.systems.cotraining import CoTrainingLightningModule
from tests.systems.cotraining_parts import fit_pair, pair_of, rows_of
from tests.systems.parts import trainer_of


class Watch(Callback):
    """Keeps what each epoch was served and weighed by, and each net's weights when a phase begins and ends."""

    def __init__(self) -> None:
        self.served: dict[int, list[int]] = {}
        self.weights: dict[int, Tensor] = {}
        self.phases: dict[int, str] = {}
        self.confidence: dict[int, tuple[Tensor, Tensor]] = {}
        self.first: dict[str, dict[str, Tensor]] = {}
        self.last: dict[str, dict[str, Tensor]] = {}
        self.rates: dict[str, set[tuple[str, float]]] = {}

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        phase = pl_module.phase_of(trainer.current_epoch)[1].name
        self.first.setdefault(phase, {n: p.detach().clone() for n, p in pl_module.named_parameters()})
        for group in optimizer.param_groups:
            self.rates.setdefault(phase, set()).add((group["name"], group["lr"]))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        epoch = trainer.current_epoch
        self.served.setdefault(epoch, []).extend(batch["index"].tolist())
        self.weights.setdefault(epoch, pl_module.row_weights.clone())
        self.phases[epoch] = pl_module.phase_of(epoch)[1].name
        self.confidence.setdefault(epoch, (pl_module.history.confidence.clone(), pl_module.history.deviation.clone()))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        phase = pl_module.phase_of(trainer.current_epoch)[1].name
        self.last[phase] = {n: p.detach().clone() for n, p in pl_module.named_parameters()}


@pytest.fixture(scope="module")
def watched(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Watch, CoTrainingLightningModule]:
    watch = Watch()
    return watch, fit_pair(world, tmp_path_factory.mktemp("watched"), [watch])


Watched = tuple[Watch, CoTrainingLightningModule]


def test_each_phase_is_served_its_rows(watched: Watched) -> None:
    watch, module = watched
    gold, pool = module.rows.gold.tolist(), module.rows.pool.tolist()
    assert (len(gold), len(pool)) == (18, 43)
    assert list(watch.phases.values()) == ["weights"] * 2 + ["co-train"] * 3 + ["fine-tune"] * 2
    for epoch, rows in watch.served.items():
        assert sorted(rows) == (pool if watch.phases[epoch] == "co-train" else gold)


def test_the_halves_of_the_gold_rows_are_of_even_classes_and_one_net_each(watched: Watched) -> None:
    watch, module = watched
    labels, half = module.rows.labels[module.rows.gold], module.rows.half[module.rows.gold]
    for h in (0, 1):
        assert torch.bincount(labels[half == h]).tolist() == [3, 3, 3]
    for epoch, phase in watch.phases.items():
        if phase != "co-train":
            weights = watch.weights[epoch][module.rows.gold]
            assert torch.equal(weights, 2 * torch.nn.functional.one_hot(half, 2).float())


def test_each_epoch_of_co_training_is_weighed_by_the_history_before_it(watched: Watched) -> None:
    watch, module = watched
    pool = module.rows.pool
    for epoch in (2, 3, 4):
        c, v = (table[pool] for table in watch.confidence[epoch])
        assert torch.equal(watch.weights[epoch][pool], swapped_weights(c, v))
        assert c.isfinite().all()
    assert not torch.equal(watch.weights[2], watch.weights[3])
    assert module.history.epochs[pool].unique().tolist() == [5]
    assert module.history.epochs[module.rows.gold].unique().tolist() == [0]


def test_the_nets_begin_anew_before_co_training_and_not_before_fine_tuning(watched: Watched, world: Path) -> None:
    watch, _ = watched
    pretrained = dict(pair_of(world).named_parameters())
    for phase in ("weights", "co-train"):
        for name, value in watch.first[phase].items():
            assert ".encoder." not in name or torch.equal(value, pretrained[name]), name
            assert torch.equal(value, watch.first["weights"][name])
        assert not torch.equal(watch.first[phase]["nets.0.classifier.weight"], watch.first[phase]["nets.1.classifier.weight"])
    assert all(torch.equal(value, watch.last["co-train"][name]) for name, value in watch.first["fine-tune"].items())


def test_every_phase_moves_every_weight_of_both_nets_at_its_learning_rate(watched: Watched) -> None:
    watch, _ = watched
    asked = {"encoder": 1e-3, "classifier": 1e-2}
    for phase, after in watch.last.items():
        assert all(not torch.equal(value, watch.first[phase][name]) for name, value in after.items())
        factor = 0.1 if phase == "fine-tune" else 1.0
        for name, lr in watch.rates[phase]:
            assert 0 < lr <= factor * asked[name.split("_")[0]]
        assert {name.removesuffix("_no_decay") for name, _ in watch.rates[phase]} == {
            f"{part}_{k}" for part in asked for k in (1, 2)
        }


@pytest.mark.parametrize("phase", ["weights", "co-train", "fine-tune"])
@pytest.mark.parametrize("resting", [0, 1])
def test_a_batch_without_rows_of_a_net_leaves_it_as_it_is(phase: str, resting: int, world: Path, tmp_path: Path) -> None:
    moved: dict[int, bool] = {}

    class OneNet(Callback):
        """Gives a net no weight in one batch late in the phase, when its optimizer state would have moved it."""

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            self.chosen = (
                pl_module.phase_of(trainer.current_epoch)[1:] == (pl_module.phases()[order[phase]], 1) and batch_idx == 1
            )
            self.before = {n: p.detach().clone() for n, p in pl_module.named_parameters()}

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if self.chosen:
                for k in (0, 1):
                    moved[k] = any(
                        not torch.equal(p, self.before[n])
                        for n, p in pl_module.named_parameters()
                        if n.startswith(f"nets.{k}.")
                    )

    class Rests(CoTrainingLightningModule):
        def losses(self, batch: Any) -> dict[str, Tensor]:
            kept = self.row_weights
            if watch.chosen:
                self.row_weights = kept.clone()
                self.row_weights[batch["index"], resting] = 0.0
                self.row_weights[batch["index"], 1 - resting] = 1.0
            out = super().losses(batch)
            self.row_weights = kept
            return out

    order = {"weights": 0, "co-train": 1, "fine-tune": 2}
    watch = OneNet()
    data = rows_of(world)
    shape = {"weights_epochs": 2, "cotrain_epochs": 2, "finetune_epochs": 2}
    module = Rests(data.labels, encoder=str(world / "encoder"), scorers=["good"], encoder_lr=1e-3, **shape)
    trainer_of(tmp_path, [watch]).fit(module, data)
    assert moved == {resting: False, 1 - resting: True}


def test_one_optimizer_on_the_sum_is_two_optimizers(world: Path, tmp_path: Path) -> None:
    class Losses(Callback):
        """Does each step again with two optimizers, from the same weights and state of chance."""

        def __init__(self) -> None:
            self.twin: CoTrainingLightningModule = pair_of(world, dropout=0.0)
            self.steps = 0

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if pl_module.phase_of(trainer.current_epoch)[1].name != "co-train":
                return
            if not self.steps:
                self.twin.load_state_dict(pl_module.state_dict())
                for k in (0, 1):  # the phase has not begun yet at its first batch: the nets are about to begin anew
                    self.twin.net(k).encoder.load_state_dict(pl_module.nets.initial[0])
                    torch.manual_seed(pl_module.seed * 100 + k)
                    self.twin.net(k).classifier.reset_parameters()
                self.optimizers = []
                for k in (1, 2):
                    groups = [dict(g, params=[]) for g in trainer.optimizers[0].param_groups if f"_{k}" in g["name"]]
                    named = dict(zip(map(id, pl_module.parameters()), self.twin.parameters(), strict=True))
                    originals = [g for g in trainer.optimizers[0].param_groups if f"_{k}" in g["name"]]
                    for group, original in zip(groups, originals, strict=True):
                        group["params"] = [named[id(p)] for p in original["params"]]
                    self.optimizers.append(AdamW(groups, fused=True))

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if pl_module.phase_of(trainer.current_epoch)[1].name != "co-train":
                return
            labels, weights = pl_module.rows.labels[batch["index"]], pl_module.row_weights[batch["index"]]
            for k, optimizer in enumerate(self.optimizers):
                rates = {g["name"]: g["lr"] for g in trainer.optimizers[0].param_groups}
                for group in optimizer.param_groups:
                    group["lr"] = rates[group["name"]]
                net = self.twin.net(k)
                loss = torch.nn.functional.cross_entropy(
                    net(net.encoder(batch["input_ids"], batch["attention_mask"])), labels, reduction="none"
                )
                optimizer.zero_grad()
                (weights[:, k] * loss).mean().backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
                optimizer.step()
            self.steps += 1
            for (name, ours), theirs in zip(pl_module.named_parameters(), self.twin.parameters(), strict=True):
                assert torch.equal(ours, theirs), name

    config = world / "encoder/config.json"
    before = config.read_text(encoding="utf-8")
    config.write_text(before.replace('_dropout_prob": 0.1', '_dropout_prob": 0.0'), encoding="utf-8")
    try:
        watch = Losses()
        module = fit_pair(
            world, tmp_path, [watch], dropout=0.0, weights_epochs=1, cotrain_epochs=2, trainer={"gradient_clip_val": 0.5}
        )
    finally:
        config.write_text(before, encoding="utf-8")
    assert module.net(0).encoder.model.config.hidden_dropout_prob == 0.0
    assert watch.steps == 12


def test_clipped_bf16_training_takes_fused_steps(world: Path, tmp_path: Path) -> None:
    told = fit_pair(
        world,
        tmp_path,
        weights_epochs=0,
        cotrain_epochs=1,
        finetune_epochs=0,
        weighting=Uniform,
        trainer={"gradient_clip_val": 0.5, "precision": "bf16-mixed"},
    )
    (optimizer,) = told.trainer.optimizers
    assert all(group["fused"] for group in optimizer.param_groups)
    assert {float(state["step"]) for state in optimizer.state.values()} == {told.trainer.global_step}


def test_one_batch_can_be_overfitted(world: Path, tmp_path: Path) -> None:
    class LastLoss(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
            self.loss = float(outputs["loss"])

    watch = LastLoss()
    fit_pair(
        world,
        tmp_path,
        [watch],
        weighting=Uniform,
        weights_epochs=0,
        finetune_epochs=0,
        cotrain_epochs=60,
        dropout=0.0,
        schedule="constant",
        encoder_lr=3e-3,
        trainer={"overfit_batches": 1},
    )
    assert watch.loss < 0.05


def test_the_pair_says_the_mean_of_the_two_softmaxes(watched: Watched, world: Path, tmp_path: Path) -> None:
    _, module = watched
    trainer_of(tmp_path).test(module, rows_of(world), verbose=False)
    outputs = module.evaluated["test"]
    mean = torch.stack([outputs.members[f"net {k}"].softmax(-1) for k in (1, 2)]).mean(0)
    torch.testing.assert_close(outputs.logits.exp(), mean, atol=1e-6, rtol=1e-5)
    assert list(outputs.members) == ["net 1", "net 2", "good"]
    scores, _, _ = rows_of(world).scores_and_labels("test")
    torch.testing.assert_close(outputs.members["good"].softmax(-1), scores[:, 0], atol=2e-3, rtol=0)
    assert outputs.index.tolist() == list(range(67))


BASELINES: dict[str, dict[str, Any]] = {
    "gold only": {"nets": 1, "weighting": Uniform, "cotrain_epochs": 0, "finetune_factor": 1.0},
    "LLM labels only": {"nets": 1, "weighting": Uniform, "weights_epochs": 0, "finetune_epochs": 0},
    "gold and LLM": {"nets": 1, "weighting": Uniform, "weights_epochs": 0, "finetune_epochs": 0, "cotrain_rows": "both"},
    "LLM then gold": {"nets": 1, "weighting": Uniform, "weights_epochs": 0},
    "ensemble": {"weighting": Uniform, "weights_epochs": 0, "finetune_epochs": 0, "cotrain_rows": "both", "halves": False},
    "weights 1": {"weighting": Uniform, "weights_epochs": 0},
    "confidence": {"weighting": Confidence, "first_weights": "last"},
    "co-teaching": {"weighting": partial(SmallLoss, forget=0.3), "weights_epochs": 0},
    "margin": {"weighting": AreaUnderMargin, "record": "pass"},
    "stated": {"weighting": StatedConfidence, "weights_epochs": 0},
    "cleanlab": {"weighting": CleanlabPruning},
    "soft": {"soft_labels": True},
    "frozen": {"frozen_layers": -1},
}
STEPS = {"gold only": 6, "LLM labels only": 18, "gold and LLM": 24, "LLM then gold": 24, "ensemble": 24}


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_fits_over_the_same_code(name: str, world: Path, tmp_path: Path) -> None:
    if name == "cleanlab":
        pytest.importorskip("cleanlab")
    module = fit_pair(world, tmp_path, **BASELINES[name])
    trainer_of(tmp_path).test(module, rows_of(world), verbose=False)
    assert module.evaluated["test"].logits.isfinite().all()
    assert module.trainer.global_step == 0  # of the test's trainer
    phases = [(phase.name, phase.epochs) for phase in module.phases()]
    batches = {"weights": 3, "co-train": 8 if module.cotrain_rows == "both" else 6, "fine-tune": 3}
    assert sum(epochs * batches[phase] for phase, epochs in phases) == STEPS.get(name, {True: 24, False: 30}[len(phases) == 2])


@pytest.mark.parametrize("soft", [False, True])
def test_multilabel_rows_co_train(soft: bool, multilabel_world: Path, tmp_path: Path) -> None:
    data = {"task": "multilabel", "labels": None}
    module = fit_pair(multilabel_world, tmp_path, data=data, soft_labels=soft, weights_epochs=1, cotrain_epochs=2)
    pool = module.rows.labels[module.rows.pool]
    assert bool(((pool == 0) | (pool == 1)).all()) != soft
    assert (module.row_weights >= 0).all()
    trainer_of(tmp_path).test(module, rows_of(multilabel_world, **data), verbose=False)
    outputs = module.evaluated["test"]
    mean = torch.stack([outputs.members[f"net {k}"].sigmoid() for k in (1, 2)]).mean(0)
    torch.testing.assert_close(outputs.logits.sigmoid(), mean, atol=1e-6, rtol=1e-5)


def test_rows_that_the_llm_refused_have_no_label_and_are_left_out(world: Path, tmp_path: Path) -> None:
    rows = rows_of(world)
    texts = rows.texts("train")
    gold = rows.scores_and_labels("train")[2] >= 0
    p = np.tile(np.array([[0.2, 0.5, 0.3]], dtype=np.float32), (len(texts), 1))
    p[1::7] = 0.4, 0.4, 0.2  # nobody's label
    status = np.full(len(texts), Status.SCORED, dtype=np.uint8)
    status[::5], status[2::5] = Status.REFUSED, Status.UNPARSED
    store = ScoreStore(tmp_path / "store", create=True)
    card = ScorerCard("llm", tuple(rows.labels), "multiclass", {"model": "llm"})
    store.append(card, texts[:-1], p[:-1], status[:-1])  # the last is absent
    own = {"scores": str(tmp_path / "store"), "scorers": ["llm"], "test": None, "validation": None, "validation_share": 0}
    shape = {"weights_epochs": 1, "cotrain_epochs": 1, "finetune_epochs": 0}
    module = fit_pair(world, tmp_path, data=own, trainer={"limit_val_batches": 0}, **shape)
    expected = [row for row in range(len(texts) - 1) if not gold[row] and status[row] == Status.SCORED and row % 7 != 1]
    assert module.rows.pool.tolist() == expected
    assert module.rows.left_out == int((~gold).sum()) - len(expected)
    assert (module.rows.labels[module.rows.pool] == 1).all()
    left_out = torch.ones(len(texts), dtype=torch.bool)
    left_out[torch.cat([module.rows.pool, module.rows.gold])] = False
    assert (module.rows.labels[left_out] == -1).all()
    assert (module.rows.stated[left_out & (torch.from_numpy(status) != Status.SCORED)] == 0).all()


def test_several_scorers_are_averaged(world: Path, tmp_path: Path) -> None:
    module = fit_pair(
        world, tmp_path, data={"scorers": ["good", "weak"]}, finetune_epochs=0, weights_epochs=0, cotrain_epochs=1
    )
    scores, _, _ = rows_of(world, scorers=["good", "weak"]).scores_and_labels("train")
    expected = scores.mean(1).argmax(-1)
    assert torch.equal(module.rows.labels[module.rows.pool], expected[module.rows.pool])


def test_fine_tuning_stops_when_the_validation_rows_say_so(world: Path, tmp_path: Path) -> None:
    shape = {"weights_epochs": 1, "cotrain_epochs": 1, "finetune_epochs": 30, "frozen_layers": -1}
    module = fit_pair(world, tmp_path, patience=2, finetune_factor=0.0, **shape)
    # Without a learning rate nothing rises after the first epoch: two more, and it is over.
    assert module.trainer.current_epoch == 2 + 3
    assert module.waited == 2


def test_what_cannot_work_is_refused_with_a_way_out(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"keep_unlabelled: true"):
        fit_pair(world, tmp_path, data={"keep_unlabelled": False})
    with pytest.raises(ConfigurationError, match=r"nets=3"):
        pair_of(world, nets=3)
    with pytest.raises(ConfigurationError, match=r"nothing is to be fitted"):
        pair_of(world, cotrain_epochs=0, finetune_epochs=0)
    with pytest.raises(ConfigurationError, match=r"names must differ"):
        pair_of(world, scorers=["net 1"])
    with pytest.raises(ConfigurationError, match=r"weights_epochs=0, but CleanlabPruning"):
        fit_pair(world, tmp_path, weighting=CleanlabPruning, weights_epochs=0)
    module = fit_pair(world, tmp_path, weights_epochs=1, cotrain_epochs=1, finetune_epochs=1)
    with pytest.raises(ConfigurationError, match="fitted before"):
        trainer_of(tmp_path).fit(module, rows_of(world))
    with pytest.raises(NotFittedError, match="last phase"):
        trainer_of(tmp_path).test(pair_of(world), rows_of(world), verbose=False)


def test_a_weighting_of_ones_own_is_ten_lines(world: Path, tmp_path: Path) -> None:
    class Even(Weighting):
        """Every second row."""

        needs_history = False

        def weigh(self, seen: Dynamics) -> Tensor:
            return (torch.arange(len(seen.stated)) % 2 == 0).float().unsqueeze(-1).expand_as(seen.confidence)

    watch = Watch()
    module = fit_pair(world, tmp_path, [watch], weighting=Even, weights_epochs=0, cotrain_epochs=1, finetune_epochs=0)
    assert watch.weights[0][module.rows.pool].sum() == 2 * int((module.rows.pool % 2 == 0).sum())
