"""Run folders as a test writes them, through the real writers, with opinions drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lf_lightning.callbacks.comparing import best_members, intervals, paired_tests
from lf_lightning.callbacks.judging import Judged, Opinion, figures_of
from lf_lightning.callbacks.predictions import prediction_columns
from lf_lightning.callbacks.record import _reliability
from lf_lightning.contract import Task
from lf_lightning.results import ResultsManager, RunRecord
from lf_lightning.results.predictions import write_table

STRENGTH = {"system": 2.6, "encoder": 1.6, "llm": 1.4, "average": 1.9}


def write_run(
    folder: Path,
    seed: int = 0,
    rows: int = 80,
    labels: Sequence[str] = ("a", "b", "c"),
    task: Task = "multiclass",
    members: Sequence[str] = ("encoder", "llm"),
    texts: Sequence[str] | None = None,
    rationales: Mapping[str, Sequence[str | None]] | None = None,
    strength: float = 1.0,
    config: Mapping[str, Any] | None = None,
    silent: Mapping[str, int] | None = None,
    **record: Any,
) -> RunRecord:
    """Writes `results.json` and `predictions_test.csv`; rows and truth depend on `rows`, `labels` and `task` only.

    Args:
        folder: The run folder.
        seed: Of the opinions.
        rows: n.
        labels: K names.
        task: Multi-class or multi-label.
        members: Names of the members.
        texts: n texts.
        rationales: By scorer.
        strength: How good the system is; at 100 it makes no mistake.
        config: The run's.
        silent: By member, the first rows on which it has no opinion.
        record: Fields of the record that replace those made here.
    """
    judged = judge(seed, rows, labels, task, members, strength, silent or {})
    figures = figures_of(judged)
    tests = paired_tests(judged)
    folder.mkdir(parents=True, exist_ok=True)
    columns = prediction_columns(judged, range(rows), texts or [f"text {row}" for row in range(rows)], rationales)
    write_table(folder / "predictions_test.csv", columns)
    made = RunRecord(
        experiment=folder.parent.name,
        time=f"2030-01-01T00:00:{seed % 60:02d}+00:00",
        system="FusionLightningModule",
        task=task,
        labels=list(labels),
        rows={"test": {"rows": rows, "labelled": rows}},
        dataset_fingerprint={"train": "ab" * 32, "test": sha256(f"{rows} {labels} {task}".encode()).hexdigest()},
        scores={name: "cd" * 32 for name in members if name not in ("encoder", "average")},
        seeds={"model": seed},
        config=dict(config) if config is not None else {"model": {"init_args": {"seed": seed, "lr": 0.1}}},
        metrics={"test": figures},
        intervals=intervals(judged),
        best_member=best_members({name: figures[name] for name in figures}),
        chosen_by="test",
        tests=tests,
        calibrator={"class": "TemperatureScaling"},
        decision={"class": "Thresholds", "thresholds": [0.5] * len(labels)} if task == "multilabel" else {},
        reliability=_reliability(judged),
    )
    made = replace(made, **record)
    ResultsManager(folder).write(made)
    return made


def judge(
    seed: int, rows: int, labels: Sequence[str], task: Task, members: Sequence[str], strength: float, silent: Mapping[str, int]
) -> Judged:
    """Opinions that are right more often than not."""
    k = len(labels)
    fixed = np.random.default_rng(99)
    numbers = fixed.integers(k, size=rows)
    many = (fixed.random((rows, k)) < 0.25).astype(np.int64)
    truth: NDArray[np.int64] = numbers if task == "multiclass" else many
    table = np.eye(k)[numbers] if task == "multiclass" else many
    rng = np.random.default_rng(seed)
    opinions = {}
    for name in ("system", *members):
        force = STRENGTH.get(name, 1.2) * (strength if name == "system" else 1.0)
        logits = 0.6 * force * (2 * table - 1) + rng.normal(size=(rows, k))
        p = 1 / (1 + np.exp(-logits)) if task == "multilabel" else np.exp(logits - logits.max(1, keepdims=True))
        p = p if task == "multilabel" else p / p.sum(1, keepdims=True)
        made = (p >= 0.5).astype(np.int64) if task == "multilabel" else p.argmax(1).astype(np.int64)
        known = np.arange(rows) >= silent.get(name, 0)
        p[~known], made[~known] = np.nan, -1
        opinions[name] = Opinion(p, made, known)
    index = np.arange(rows)
    return Judged(task, list(labels), index, truth, np.ones(rows, dtype=bool), opinions["system"].probabilities, opinions)
