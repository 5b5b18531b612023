"""What the fusions of `benchmarks.fusion_llm_labels` say, kept as arrays, which the light benchmarks start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.fits import fit, seeded, work_folder
from benchmarks.fusion_llm_labels import SETS, data_of, model_of, store_of
from lf_lightning.deferral import Deferral, ExpectedGain, LearnedGain, RandomDeferral, Uncertainty
from lf_lightning.deferral.base import known_before
from lf_lightning.heads.functional import normalise
from lf_lightning.systems import FusionLightningModule

DEFERRALS: dict[str, tuple[type[Deferral], dict[str, Any]]] = {
    "expected gain (log)": (ExpectedGain, {}),
    "expected gain (accuracy)": (ExpectedGain, {"measure": "accuracy"}),
    "learned gain": (LearnedGain, {}),
    "margin": (Uncertainty, {}),
    "entropy": (Uncertainty, {"by": "entropy"}),
    "random": (RandomDeferral, {}),
}


@dataclass
class Said:
    """One set and seed; n test rows, v validation rows, one scorer.

    Attributes:
        labels: (n,) of the test rows.
        decisions: (2, n): of the fusion without and with the scorer; then `encoder` (n,), the encoder alone.
        values: By deferral, (n,).
        evidence: What a fusion is fitted on and judged by, as tensors, for refits on other splits.
    """

    labels: np.ndarray[Any, Any]
    decisions: np.ndarray[Any, Any]
    encoder: np.ndarray[Any, Any]
    values: dict[str, np.ndarray[Any, Any]]
    evidence: dict[str, Tensor]


def said_by(name: str, seed: int, data: Path, precision: str = "bf16-mixed") -> Said:
    """Returns what the fusion of a set and seed says; fits it where no earlier run left its answers.

    Args:
        name: One of `SETS`.
        seed: Of data and model.
        data: Folder of the sets.
        precision: The trainer's.
    """
    file = work_folder("opinions") / f"{name}_{seed}.pt"
    if not file.exists():
        torch.save(_made(name, seed, data, precision), file)
    kept = torch.load(file, weights_only=True)
    values = {key: value.numpy() for key, value in kept["values"].items()}
    return Said(kept["labels"].numpy(), kept["decisions"].numpy(), kept["encoder"].numpy(), values, kept["evidence"])


def _made(name: str, seed: int, folder: Path, precision: str) -> dict[str, Any]:
    where, validation, column, confidence, epochs = SETS[name]
    encoders = work_folder("fusion_llm_labels")
    store = encoders / f"{name}_scores"
    if not store.exists():
        store_of(folder / where, validation, column, confidence, store)
    seeded(seed)
    data = data_of(folder / where, validation, store, seed)
    model = model_of(data, seed, epochs)
    own = work_folder("opinions") / f"{name}_{seed}.ckpt"
    _take_encoders(encoders / f"{name}_{seed}.ckpt", model, own)
    made = fit(data, model, precision, own)
    own.unlink(missing_ok=True)
    model.cpu().eval()
    return _answers(model, data, made.decisions["encoder"])


def _take_encoders(there: Path, model: FusionLightningModule, own: Path) -> None:
    """Copies the encoders' part of a state, if there is one; what a fit adds after it may have changed since it was written."""
    if not there.exists():
        return
    state = torch.load(there, map_location="cpu", weights_only=True)
    old, fresh = state["state_dict"], model.state_dict()
    fitted = ("encoder", "classifier", "score_calibrators")
    state["state_dict"] = {key: old[key] if key.split(".")[0] in fitted else value for key, value in fresh.items()}
    state["optimizer_states"] = [model.configure_optimizers().state_dict()]
    state["evidence"]["held_out"] = None
    torch.save(state, own)


@torch.no_grad()
def _answers(model: FusionLightningModule, data: Any, encoder: np.ndarray[Any, Any]) -> dict[str, Any]:
    out, held = model.evaluated["test"], model.evidence.held_out
    assert held is not None
    raw = torch.stack([out.members[m] for m in ("encoder", *model.scorers)], 1)
    members, present = normalise(raw.nan_to_num(0.0), "multiclass"), raw.isfinite().all(-1)
    decide = model.decision.decide if model.decision is not None else lambda p: p.argmax(-1)
    stages = [model.probabilities_of(members, known_before(present, m)) for m in (0, 1)]
    values = {}
    for name, (kind, arguments) in DEFERRALS.items():
        deferral = kind(len(model.labels), 1, "multiclass", **arguments)
        deferral.fit(held.members, held.present, held.labels, model.probabilities_of)
        values[name] = deferral.values(0, members, present, model.probabilities_of)
    assert model.evidence.logits is not None
    evidence = {"train_logits": model.evidence.logits, "folds": data.folds(3, model.seed)}
    for split in ("train", "validation", "test"):
        scores, scored, labels = data.scores_and_labels(split)
        evidence |= {f"{split}_scores": scores, f"{split}_scored": scored, f"{split}_labels": labels}
    evidence["validation_logits"] = model.evaluated["validation"].members["encoder"]
    evidence["test_logits"] = out.members["encoder"]
    return {
        "labels": out.labels,
        "decisions": torch.stack([decide(p) for p in stages]),
        "encoder": torch.from_numpy(encoder),
        "values": values,
        "evidence": {key: value.clone() for key, value in evidence.items()},
    }
