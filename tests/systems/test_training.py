"""What a step changes, at which learning rate, and what stops it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lf_lightning.errors import ConfigurationError, NotFiniteError
from lf_lightning.heads import AverageFusion, FusionMLP, GatedFusion, LinearStack, PooledFusion
from lf_lightning.systems.base import Schedule, lr_factor
from lf_lightning.systems.fusion import FusionLightningModule
from tests.systems.parts import data_of, final_state, fit, model_of, test_logits, trainer_of


class Watch(Callback):
    """Keeps, for each phase, the weights at its first step and at its end, and what the optimizer was told at each step."""

    def __init__(self) -> None:
        self.first: dict[str, dict[str, Tensor]] = {}
        self.last: dict[str, dict[str, Tensor]] = {}
        self.rates: list[tuple[str, float, dict[str, float]]] = []
        self.norms: list[float] = []

    @staticmethod
    def weights(module: LightningModule) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in module.named_parameters()}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: torch.optim.Optimizer) -> None:
        _, phase, epoch = pl_module.phase_of(trainer.current_epoch)
        self.first.setdefault(phase.name, self.weights(pl_module))
        batch = trainer.fit_loop.epoch_loop.batch_idx
        progress = (epoch + (batch + 0.5) / trainer.num_training_batches) / phase.epochs
        self.rates.append((phase.name, progress, {group["name"]: group["lr"] for group in optimizer.param_groups}))

    def on_before_zero_grad(self, trainer: Trainer, pl_module: Any, optimizer: torch.optim.Optimizer) -> None:
        grads = [p.grad.norm() for p in pl_module.parameters() if p.grad is not None]
        if grads:
            self.norms.append(float(torch.stack(grads).norm()))  # as the last step left them, clipped

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.last[pl_module.phase_of(trainer.current_epoch)[1].name] = self.weights(pl_module)

    def moved(self, phase: str) -> set[str]:
        """Names of the parameters that the phase changed."""
        return {name for name, value in self.last[phase].items() if not torch.equal(value, self.first[phase][name])}


def group_of(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ("crossfit", {"fold 1/2": "ec", "fold 2/2": "ec", "encoder": "ec", "head": "h"}),
        ("holdout", {"encoder": "ec", "head": "h"}),
        ("joint", {"joint": "ech"}),
    ],
)
def test_each_phase_moves_its_groups_and_no_other(evidence: str, expected: dict[str, str], world: Path, tmp_path: Path) -> None:
    watch = Watch()
    module = fit(world, tmp_path, [watch], evidence=evidence)
    names = {"e": "encoder", "c": "classifier", "h": "head"}
    # The references, the average and the stack, are fitted after a validation, and trained by no step.
    assert {phase: group_of(watch.moved(phase)) - {"references"} for phase in watch.last} == {
        phase: {names[letter] for letter in letters} for phase, letters in expected.items()
    }
    for phase, letters in expected.items():
        for letter in letters:  # every weight of a group, not only some
            own = {name for name, _ in module.named_parameters() if name.startswith(names[letter])}
            assert own <= watch.moved(phase)


HEADS = {
    "average": AverageFusion,
    "stack": LinearStack,
    "pool": PooledFusion,
    "gated": GatedFusion,
    "paper": partial(FusionMLP, residual=False),
}


@pytest.mark.parametrize("evidence", ["crossfit", "holdout", "joint"])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_trains(head: str, evidence: str, world: Path, tmp_path: Path) -> None:
    module = fit(world, tmp_path, evidence=evidence, head=HEADS[head], head_epochs=1)
    logits = test_logits(world, tmp_path, module)
    assert torch.isfinite(logits).all()
    if head == "average":
        assert torch.equal(module.evaluated["test"].logits, module.evaluated["test"].members["average"])
        assert not list(module.head.parameters())


def test_frozen_layers_stay_and_the_others_move(world: Path, tmp_path: Path) -> None:
    watch = Watch()
    pretrained = dict(model_of(world).named_parameters())
    module = fit(world, tmp_path, [watch], evidence="joint", frozen_layers=1)
    frozen = tuple(f"encoder.model.{part}." for part in ("embeddings", "encoder.layer.0"))
    for name, value in module.named_parameters():
        if name.startswith("encoder"):
            assert torch.equal(value, pretrained[name]) == name.startswith(frozen), name


def test_a_frozen_encoder_stays_bit_for_bit(world: Path, tmp_path: Path) -> None:
    pretrained = dict(model_of(world).named_parameters())
    module = fit(world, tmp_path, frozen_layers=-1)
    assert all(torch.equal(v, pretrained[name]) for name, v in module.named_parameters() if name.startswith("encoder"))
    assert [group["name"] for group in module.trainer.optimizers[0].param_groups if "encoder" in group["name"]] == []


def test_without_scorers_it_is_an_encoder_with_a_classifier(world: Path, tmp_path: Path) -> None:
    watch = Watch()
    module = fit(world, tmp_path, [watch], data={"scores": None}, encoder_epochs=2)
    assert [phase.name for phase in module.phases()] == ["encoder"]
    assert group_of(watch.moved("encoder")) == {"encoder", "classifier"}
    assert module.head is None
    assert torch.isfinite(test_logits(world, tmp_path, module, scores=None)).all()


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_learning_rates_of_the_config_reach_their_groups(schedule: Schedule, world: Path, tmp_path: Path) -> None:
    watch = Watch()
    asked = {"encoder": 1e-3, "classifier": 3e-3, "head": 7e-3}
    lrs = {f"{name}_lr": lr for name, lr in asked.items()}
    fit(world, tmp_path, [watch], evidence="holdout", encoder_epochs=2, schedule=schedule, warmup=0.25, **lrs)
    assert {phase for phase, _, _ in watch.rates} == {"encoder", "head"}
    for _, progress, rates in watch.rates:
        rest = (progress - 0.25) / 0.75
        falling = {"linear": 1 - rest, "cosine": (1 + math.cos(math.pi * rest)) / 2, "constant": 1.0}[schedule]
        factor = progress / 0.25 if progress < 0.25 else falling
        for name, lr in asked.items():
            assert rates[name] == pytest.approx(lr * factor)
            assert rates[f"{name}_no_decay"] == rates[name]
    beginnings = [progress for _, progress, _ in watch.rates if progress < 0.2]
    assert len(beginnings) >= 2  # the warm-up comes again with the head's phase


def test_the_factor_is_continuous_and_within_zero_and_one() -> None:
    for schedule in ("linear", "cosine", "constant"):
        values = [lr_factor(step / 1000, 0.1, schedule) for step in range(1001)]
        assert all(0 <= value <= 1 for value in values)
        assert max(abs(a - b) for a, b in pairwise(values)) < 0.011
    assert lr_factor(0.0, 0.0, "linear") == 1.0
    assert lr_factor(1.0, 1.0, "linear") == 1.0


def test_matrices_decay_and_biases_and_norms_do_not(world: Path) -> None:
    module = model_of(world, weight_decay=0.3)
    groups = module.configure_optimizers().param_groups
    by_id = {id(p): name for name, p in module.named_parameters()}
    seen = []
    for group in groups:
        for parameter in group["params"]:
            name = by_id[id(parameter)]
            seen.append(name)
            plain = name.endswith("bias") or "LayerNorm" in name or parameter.ndim < 2
            assert group["weight_decay"] == (0.0 if plain else 0.3), name
            assert group["name"].endswith("_no_decay") == plain
    trained = [name for name, p in module.named_parameters() if p.requires_grad]
    assert sorted(seen) == sorted(trained)  # each once
    assert not any(name.startswith("references") for name in trained)


@pytest.mark.filterwarnings("ignore:12 test rows have a text that is also in train")
@pytest.mark.parametrize("evidence", ["joint", "crossfit"])
def test_one_batch_can_be_overfitted(
    evidence: str, make_world: Callable[..., Path], topic_table: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    table = topic_table(30, seed=8)
    folder = make_world({"train": table[:12], "validation": table[12:], "test": table[:12]})
    losses: dict[str, float] = {}

    class Losses(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
            losses[pl_module.phase_of(trainer.current_epoch)[1].name] = float(outputs["loss"])

    module = fit(
        folder,
        tmp_path,
        [Losses()],
        data={"batch_size": 12},
        trainer={"limit_val_batches": 1, "check_val_every_n_epoch": 10},
        evidence=evidence,
        encoder_epochs=40,
        head_epochs=60,
        encoder_lr=3e-3,
        head_lr=3e-2,
        dropout=0.0,
        score_dropout=0.0,
        weight_decay=0.0,
        head=partial(FusionMLP, dropout=0.0),
    )
    assert losses["joint" if evidence == "joint" else "encoder"] < 0.1
    if evidence == "crossfit":
        assert losses["head"] < 0.1
    test_logits(folder, tmp_path, module)  # the test rows are the train rows
    outputs = module.evaluated["test"]
    assert torch.equal(outputs.members["encoder"].argmax(-1), outputs.labels)


def test_accumulation_and_clipping(world: Path, tmp_path: Path) -> None:
    watch = Watch()
    module = fit(
        world,
        tmp_path,
        [watch],
        evidence="holdout",
        trainer={"accumulate_grad_batches": 3, "gradient_clip_val": 0.05, "gradient_clip_algorithm": "norm"},
    )
    held = int((data_of(world).folds(5, 0) == 0).sum())
    batches = [math.ceil((61 - held) / 8), math.ceil(held / 8), math.ceil(held / 8)]
    assert module.trainer.global_step == sum(math.ceil(n / 3) for n in batches)
    assert max(watch.norms) == pytest.approx(0.05, rel=1e-3)
    loud = Watch()
    fit(world, tmp_path, [loud], evidence="holdout")
    assert max(loud.norms) > 0.5


def test_gradient_checkpointing_changes_memory_only(world: Path, tmp_path: Path) -> None:
    plain, saving = (fit(world, tmp_path, evidence="joint", gradient_checkpointing=on) for on in (False, True))
    for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-4), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_a_compiled_encoder_says_the_same(world: Path, tmp_path: Path) -> None:
    plain, compiled = (fit(world, tmp_path, evidence="holdout", dropout=0.0, compile=on) for on in (False, True))
    logits = [test_logits(world, tmp_path, module) for module in (plain, compiled)]
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    assert torch.isfinite(logits[1]).all()


def test_bf16_evaluation_stays_near_single_precision(world: Path, tmp_path: Path) -> None:
    module = fit(world, tmp_path)
    exact = test_logits(world, tmp_path, module).softmax(-1)
    trainer_of(tmp_path, precision="bf16-mixed").test(module, data_of(world), verbose=False)
    with torch.no_grad():
        rounded = module.calibrator(module.evaluated["test"].logits).softmax(-1)
    assert module.evaluated["test"].logits.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert float((rounded - exact).abs().max()) < 0.03


def test_bf16_training_ends_near_single_precision(world: Path, tmp_path: Path) -> None:
    exact, rounded = (fit(world, tmp_path, trainer={"precision": p}) for p in ("32-true", "bf16-mixed"))
    logits = [test_logits(world, tmp_path, module).softmax(-1) for module in (exact, rounded)]
    assert rounded.evidence.logits is not None
    assert rounded.evidence.logits.dtype == torch.float32
    assert torch.isfinite(rounded.evidence.logits).all()
    assert float((logits[0] - logits[1]).abs().mean()) < 0.05


class Poison(Callback):
    """Makes one weight NaN before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            torch.nn.init.constant_(pl_module.classifier.bias, torch.nan)


def test_a_loss_that_is_not_finite_stops_the_fit_and_leaves_the_last_good_state(world: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"The loss is nan in epoch 1, batch 1. Way out: a smaller learning rate"):
        fit(world, tmp_path, [Poison(5)], last=0)  # 31 or 30 rows in a fold: 4 batches
    kept = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert kept["epoch"] == 0
    assert all(
        torch.isfinite(v).all() for k, v in kept["state_dict"].items() if k.startswith(("encoder", "classifier", "head"))
    )


@pytest.mark.parametrize(
    "options", [{"folds": 1}, {"holdout": 1.0}, {"encoder_epochs": 0}, {"head_epochs": 0}, {"labels": ["one"]}]
)
def test_arguments_that_cannot_work(options: dict[str, Any], world: Path) -> None:
    with pytest.raises(ConfigurationError, match=rf"{next(iter(options))}=.*Way out"):
        model_of(world, **options)


@pytest.mark.parametrize("scorers", [["a", "a"], ["encoder"], ["average"], ["stack"], ["fusion"]])
def test_names_of_scorers_that_mean_something_else(scorers: list[str], world: Path) -> None:
    with pytest.raises(ConfigurationError, match="names must differ"):
        model_of(world, scorers=scorers)


def test_too_few_epochs_for_the_plan(world: Path, tmp_path: Path) -> None:
    message = r"trainer.max_epochs=3 is less than the 5 epochs of the plan \(fold 1/2: 1, fold 2/2: 1, encoder: 1, head: 2\)"
    with pytest.raises(ConfigurationError, match=message):
        fit(world, tmp_path, trainer={"max_epochs": 3})


def test_vectors_of_different_encoders_are_not_shown_to_one_head(world: Path, tmp_path: Path) -> None:
    shown = partial(FusionMLP, use_representation=True)
    with pytest.raises(ConfigurationError, match="use_representation=True with evidence='crossfit'"):
        model_of(world, head=shown)
    fit(world, tmp_path, evidence="joint", head=shown)
    fit(world, tmp_path, evidence="crossfit", frozen_layers=-1, head=shown)
    fit(world, tmp_path, evidence="holdout", head=shown)


def test_a_module_is_fitted_once(world: Path, tmp_path: Path) -> None:
    module = fit(world, tmp_path)
    with pytest.raises(ConfigurationError, match=r"was fitted before.*Way out: a new module"):
        trainer_of(tmp_path).fit(module, data_of(world))
    joint = fit(world, tmp_path, evidence="joint")
    trainer_of(tmp_path).fit(joint, data_of(world))  # no opinion counts as out of sample there


def test_seeds(world: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    one = final_state(world, tmp_path, fit(world, tmp_path))
    torch.manual_seed(2)  # the global state plays no part
    two = final_state(world, tmp_path, fit(world, tmp_path))
    other = final_state(world, tmp_path, fit(world, tmp_path, seed=1))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    moved = [name for name in one if name.startswith(("encoder", "classifier", "head")) and one[name].is_floating_point()]
    assert not any(torch.equal(one[name], other[name]) for name in moved)
    assert not torch.equal(one["test_logits"], other["test_logits"])
    shuffled = final_state(world, tmp_path, fit(world, tmp_path, data={"seed": 1}))
    assert not torch.equal(one["test_logits"], shuffled["test_logits"])


def test_a_large_seed(world: Path, tmp_path: Path) -> None:
    fit(world, tmp_path, seed=2**32 - 1, evidence="joint")


def test_user_code_after_a_fit_reads_the_texts_it_gives(world: Path, tmp_path: Path) -> None:
    module: FusionLightningModule = fit(world, tmp_path)
    data = data_of(world)
    data.setup("test")
    module.eval()
    batch = next(iter(data.test_dataloader()))
    with torch.no_grad():
        by_hand = module.outputs(batch)  # the trainer of the fit is still attached
    test_logits(world, tmp_path, module)
    assert torch.allclose(by_hand.logits, module.evaluated["test"].logits[batch["index"]], atol=1e-5)
