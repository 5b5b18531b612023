"""Fitting a fusion and reading every row of its table: what the quality benchmarks share."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from numpy.typing import NDArray

from lf_lightning.callbacks import BestCheckpoint, CollectOutputs, FitCalibrators, LogMetrics
from lf_lightning.callbacks.judging import judge
from lf_lightning.contract import Phase
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.metrics import ece, ece_floor, evaluate, paired_bootstrap
from lf_lightning.systems import FusionLightningModule

METRICS = ("accuracy", "macro_f1", "nll", "ece", "ece_floor", "ece_equal_width")
Rows = dict[str, NDArray[np.float64]]
"""Calibrated probabilities (n, K) by row of the table: each member, the reference combinations, and `fusion`."""


@dataclass
class Fit:
    """One seed's outcome.

    Attributes:
        test: Probabilities of the test rows.
        decisions: Decisions of the test rows, by the rules tuned on validation rows.
        labels: (n,) their labels.
        best_member: The member with the best validation accuracy.
    """

    test: Rows
    decisions: dict[str, NDArray[np.int64]]
    labels: NDArray[np.int64]
    best_member: str


class KeepEncoders(Callback):
    """Saves the state at the end of the encoders' phases, from which a later run fits the head alone.

    Args:
        path: The checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves if the next epoch is the head's first."""
        assert isinstance(pl_module, FusionLightningModule)
        if pl_module.phase_of(trainer.current_epoch + 1)[1:] == (Phase("head", pl_module.evidence.head_epochs), 0):
            trainer.save_checkpoint(self.path, weights_only=False)


def fit(
    data: ScoredTextDataModule, model: FusionLightningModule, precision: str = "32-true", encoders: Path | None = None
) -> Fit:
    """Fits, restores the best epoch, and returns the calibrated probabilities of the test rows.

    Args:
        data: With validation and test rows.
        model: Not fitted yet.
        precision: The trainer's.
        encoders: Where the fitted encoders are kept, and taken from if they are there.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        best = BestCheckpoint()
        trainer = Trainer(
            max_epochs=-1,
            default_root_dir=folder,
            accelerator="auto",
            devices=1,
            precision=precision,  # type: ignore[arg-type]
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[CollectOutputs(), FitCalibrators(), LogMetrics(), best, *([KeepEncoders(encoders)] if encoders else [])],
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        trainer.fit(model, data, ckpt_path=encoders if encoders and encoders.exists() else None, weights_only=True)
        trainer.test(model, data, ckpt_path=best.best_model_path, verbose=False, weights_only=True)
        trainer.validate(model, data, verbose=False)
    test, held = judge(model, "test"), judge(model, "validation")
    assert test is not None
    assert held is not None
    right = {name: (held.opinions[name].decisions == held.truth).mean() for name in ("encoder", *model.scorers)}
    named = {**test.members, "fusion": test.system}
    return Fit(
        {name: opinion.probabilities for name, opinion in named.items()},
        {name: opinion.decisions for name, opinion in named.items()},
        test.truth,
        max(right, key=lambda name: right[name]),
    )


def seeded(seed: int) -> None:
    """Seeds what the modules do not seed themselves."""
    seed_everything(seed, verbose=False)


def table(fits: Sequence[Fit], rivals: Sequence[Rows] = ()) -> dict[str, Any]:
    """Returns each row's metrics over the seeds, and fusion against the best member and against rivals.

    Every seed has the same test rows. The interval of a difference is a paired bootstrap over test rows of the mean over seeds.

    Args:
        fits: One for each seed.
        rivals: For each seed, what others made of the same rows; they decide for the most probable class.
    """
    members = [name for name in fits[0].test if name not in ("fusion", "average", "stack")]
    if rivals:
        fits = [
            replace(f, test={**f.test, **more}, decisions={**f.decisions, **{name: p.argmax(1) for name, p in more.items()}})
            for f, more in zip(fits, rivals, strict=True)
        ]
    labels = fits[0].labels
    assert all(np.array_equal(f.labels, labels) for f in fits)
    rows: dict[str, Any] = {}
    for name in fits[0].test:
        rows[name] = over_seeds(labels, [f.test[name] for f in fits], [f.decisions[name] for f in fits])
    against = {
        name: {metric: mean_difference(fits, name, metric) for metric in ("accuracy", "macro_f1")}
        for name in (*sorted(members), *(rivals[0] if rivals else ()))
    }
    best = {metric: max(members, key=lambda n: rows[n][metric]["mean"]) for metric in ("accuracy", "macro_f1")}
    return {
        "test_rows": len(labels),
        "rows": rows,
        "best_member_on_validation": [f.best_member for f in fits],
        "best_member_on_test": best,
        "fusion_minus": against,
        "fusion_significantly_below_best_member": {
            metric: bool(against[best[metric]][metric]["high"] < 0) for metric in ("accuracy", "macro_f1")
        },
    }


def over_seeds(
    labels: NDArray[np.int64],
    probabilities: Sequence[NDArray[np.float64]],
    decisions: Sequence[NDArray[np.int64]] | None = None,
) -> dict[str, dict[str, float]]:
    """Returns mean and standard deviation over seeds of each of `METRICS`.

    Args:
        labels: (n,) of the test rows.
        probabilities: (n, K) of each seed.
        decisions: (n,) of each seed; None: the most probable class.
    """
    rules = decisions or [None] * len(probabilities)
    values = [
        {
            **evaluate(p, labels, "multiclass", rule),
            "ece_floor": ece_floor(p, "multiclass"),
            "ece_equal_width": ece(p, labels, "multiclass", mode="equal_width"),
        }
        for p, rule in zip(probabilities, rules, strict=True)
    ]
    return {
        metric: {
            "mean": float(np.mean([v[metric] for v in values])),
            "sd": float(np.std([v[metric] for v in values], ddof=1)) if len(values) > 1 else 0.0,
        }
        for metric in METRICS
    }


def claim_of(sets: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns in a sentence how fusion stands to its best member, from the figures alone, so that it cannot contradict them.

    Args:
        sets: What `table` returned, by set.
    """
    gaps = {
        metric: [cell["fusion_minus"][cell["best_member_on_test"][metric]][metric] for cell in sets.values()]
        for metric in ("accuracy", "macro_f1")
    }
    every = [gap for found in gaps.values() for gap in found]
    accuracy, macro_f1 = (100 * float(np.mean([gap["difference"] for gap in found])) for found in gaps.values())
    return (
        f"Fusion minus its best member, in accuracy and macro-F1 on each of {len(sets)} sets: significantly above in "
        f"{sum(gap['low'] > 0 for gap in every)} of {len(every)} comparisons, significantly below in "
        f"{sum(gap['high'] < 0 for gap in every)}; "
        f"on average {accuracy:+.1f} points accuracy and {macro_f1:+.1f} points macro-F1."
    )


def mean_difference(fits: Sequence[Fit], name: str, metric: str, resamples: int = 1000) -> dict[str, float]:
    """Returns fusion minus another row, the mean over seeds, with its 95 % interval over test rows.

    Args:
        fits: One for each seed, on the same test rows.
        name: The other row.
        metric: `accuracy` or `macro_f1`.
        resamples: Of the bootstrap.
    """
    count = fits[0].test["fusion"].shape[1]
    # One long table, whose resamples draw a test row together with all its seeds.
    stacked = np.stack([np.stack([f.decisions["fusion"], f.decisions[name]]) for f in fits], 1)
    labels = fits[0].labels
    if len(fits) == 1:
        out = paired_bootstrap(stacked[0, 0], stacked[1, 0], labels, metric, num_labels=count, n=resamples)  # type: ignore[arg-type]
        return {key: float(out[key]) for key in ("difference", "low", "high")}
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=resamples).astype(float)
    weights = np.vstack([np.ones(len(labels)), weights])
    ours, other = (np.mean([_weighted(metric, made, labels, count, weights) for made in rows], 0) for rows in stacked)
    gap = ours - other
    low, high = np.percentile(gap[1:], [2.5, 97.5])
    return {"difference": float(gap[0]), "low": float(low), "high": float(high)}


def _weighted(
    metric: str, made: NDArray[np.int64], labels: NDArray[np.int64], count: int, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    right = (made == labels).astype(float)
    if metric == "accuracy":
        return np.asarray(weights @ right / weights.sum(1))
    true, said = np.eye(count)[labels], np.eye(count)[made]
    hits, support, claimed = weights @ (true * right[:, None]), weights @ true, weights @ said
    return np.asarray((2 * hits / np.maximum(support + claimed, 1e-12)).mean(1))


def work_folder(name: str) -> Path:
    """Returns a folder for what a benchmark keeps between its runs; it is not committed."""
    folder = Path(tempfile.gettempdir()) / "lf_lightning_benchmarks" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
