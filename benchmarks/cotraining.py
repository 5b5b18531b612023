"""Co-training with GPT-4o's labels on HumAID against its baselines, at equal optimiser steps.

    python -m benchmarks.cotraining --data FOLDER --minutes 60

FOLDER holds humaid/<event>/{train,dev,test}.csv (see the README of the benchmarks). A cell is one event, number of gold labels
per class, published subset and method; finished cells are kept, and a second run goes on with the others. The record is written
from whatever cells are finished. FixMatch and FreeMatch need ModSSC (`pip install modssc==1.2.2`): they run where `--methods`
names them, and are in the table where their cells are. `--encoder`, `--steps`, learning rates give other plans, whose cells are
kept apart.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import record
from benchmarks.cotraining_cell import ENCODER, LLM, data_of, fit_cell
from benchmarks.cotraining_consistency import CONSISTENCY, consistency
from benchmarks.cotraining_figures import EVENTS, NEEDED, claim_of, figures_of, table
from benchmarks.cotraining_vectors import self_training
from benchmarks.fits import work_folder
from benchmarks.fusion_llm_labels import SETS, store_of

MAIN = (
    "co-training",
    "weights = 1",
    "gold only",
    "LLM labels only",
    "gold + LLM",
    "LLM then gold",
    "two-net ensemble",
    "self-training",
)
FURTHER = (
    "co-training, even labels",
    "confidence only",
    "co-teaching",
    "LLM's confidence",
    "area under the margin",
    "cleanlab pruning",
)


def main() -> None:
    """Runs the cells that are not there, until the minutes are over, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--events", nargs="+", default=list(EVENTS), choices=[*EVENTS, "maria"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[50, 10], choices=[5, 10, 25, 50])
    parser.add_argument("--subsets", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", default=[*MAIN, *FURTHER], choices=[*MAIN, *FURTHER, *CONSISTENCY])
    parser.add_argument("--steps", nargs=3, type=int, default=[28, 70, 14], help="of the phases weights, co-train, fine-tune")
    parser.add_argument("--encoder", default=ENCODER)
    parser.add_argument("--frozen_layers", type=int, default=0)
    parser.add_argument("--encoder_lr", type=float, default=3e-4)
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
    rows = (event, size, subset, options.data, store, options.encoder)
    data = data_of(*rows)
    if method == "self-training":
        return self_training(data, options.encoder)
    if method in CONSISTENCY:
        vectors = kept / f"{event}_{options.encoder.replace('/', '_').replace(':', '_')}_vectors.npz"
        return consistency(data, method, options.encoder, subset, vectors)
    names = {name: number for number, name in enumerate(data.labels)}
    labels = pd.read_csv(options.data / where / "train.csv", usecols=["label"])["label"]
    truth = np.array([names[label] for label in labels], dtype=np.int64)
    labelled = data_of(*rows, pool=False) if method == "co-training" else None
    return fit_cell(data, method, options, subset, truth, labelled)


def shown(cell: dict[str, Any]) -> str:
    """Returns a cell's figures in a line."""
    parts = []
    for name in ("system", "with_llm", "fused", "llm"):
        if name in cell:
            found = figures_of(cell[name], cell["labels"])
            parts.append(f"{name} {100 * found['accuracy']:.1f} / {100 * found['macro_f1']:.1f}")
    if "validation" in cell:
        found = figures_of(cell["validation"]["system"], cell["validation"]["labels"])
        parts.append(f"validation {100 * found['accuracy']:.1f} / {100 * found['macro_f1']:.1f}")
    areas = {name: round(area, 3) for name, area in cell["weights"].items()}
    return (
        f"{', '.join(parts)}, AUC {areas}, {cell['steps']} steps in {cell['seconds']:.0f} s ({cell.get('cpu_seconds', 0):.0f})"
    )


def write_record(cells: Path, options: argparse.Namespace) -> None:
    """Writes the tables of all finished cells."""
    found: dict[tuple[str, int, int], dict[str, dict[str, Any]]] = {}
    for path in sorted(cells.glob("*.json")):
        event, count, number, method = path.stem.split("_", 3)  # names of events have no underscore
        found.setdefault((event, int(count), int(number)), {})[method.replace("_", " ")] = json.loads(path.read_text())
    sizes = sorted({size for _, size, _ in found}, reverse=True)
    tables = {}
    for size in sizes:
        here = {key: cell for key, cell in found.items() if key[1] == size}
        if any(set(NEEDED) <= set(cell) for cell in here.values()):
            tables[f"{size} per class"] = table(here, [*MAIN, *FURTHER, *CONSISTENCY], LLM)
    if not tables:
        return
    figures = {
        "steps": dict(zip(("weights", "co-train", "fine-tune"), options.steps, strict=True)),
        "encoder": options.encoder,
        "frozen_layers": options.frozen_layers,
        "encoder_lr": options.encoder_lr,
        "classifier_lr": options.classifier_lr,
        "tables": tables,
    }
    command = "python -m benchmarks.cotraining --data FOLDER"
    if options.steps != [28, 70, 14]:
        command += f" --steps {' '.join(map(str, options.steps))}"
    if further := sorted({f"--events {event} --sizes {count}" for event, count, _ in found if event not in EVENTS}):
        command += f" (then with {'; '.join(further)})"
    record.write(options.out, claim_of(tables), figures, command, sorted({subset for _, _, subset in found}))


if __name__ == "__main__":
    main()
