"""Fusion: an encoder's opinion and the scores of one or more LLMs, combined by a head (LabelFusion, arXiv 2512.10793)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from lf_lightning.calibration import BetaCalibration, Calibrator, TemperatureScaling, probabilities
from lf_lightning.contract import Batch, Outputs, Phase, RowsData, Split, Task
from lf_lightning.deferral import Deferral, ExpectedGain, ValidationRows
from lf_lightning.deferral.base import known_before
from lf_lightning.encoders import Pooling, TextEncoder, kept_classifier
from lf_lightning.errors import ConfigurationError, NotFittedError
from lf_lightning.heads import AverageFusion, Evidence, FusionHead, FusionMLP, LinearStack
from lf_lightning.heads.functional import normalise, opinions
from lf_lightning.losses import BinaryCrossEntropy, CrossEntropy, RowLoss, labelled, mean_over_labelled
from lf_lightning.systems.base import ClassifierModule, Schedule
from lf_lightning.systems.ddp import let_ddp_rest
from lf_lightning.systems.evidence import EncoderEvidence, EvidenceMode
from lf_lightning.systems.fusion_deferral import fit_deferral
from lf_lightning.systems.head_start import logits_on, shifted, start_head, start_references
from lf_lightning.systems.hyperparameters import keep_factories
from lf_lightning.systems.row_pass import over_rows


class FusionLightningModule(ClassifierModule):
    """An encoder with a linear classifier, M scorers' cached scores, and a head that combines their opinions.

    Args:
        labels: The K label names, in the order of the logits (linked to the data).
        task: Multi-class or multi-label (linked to the data).
        scorers: Names of the M scorers whose scores the batches carry (linked to the data); none: the encoder alone.
        class_weight: K weights of the labels in the loss (linked to the data), or None.
        encoder: Hub name, local folder or `package:NAME/PATH` of a Hugging Face encoder. The classifier that a co-trained one
            has in its folder (`callbacks.ExportEncoder`) is where each classifier of this fit begins.
        pooling: How token vectors become one: mean over real tokens, first token (cls), or max.
        frozen_layers: So many lower layers and the embeddings keep their weights; -1 freezes all (and encodes once).
        gradient_checkpointing: Recompute activations: less memory, about a third more time.
        compile: Compile the encoder with torch.compile.
        dropout: Share of the pooled vector's units dropped before the encoder's classifier, in training.
        head: Builds the fusion head from (K, M + 1, width of the vectors, task).
        evidence: Encoder outputs that the head learns from: out of sample (crossfit, holdout), or joint (the paper).
        folds: Number of folds of crossfit.
        holdout: Share of the train rows that holdout keeps for the head, 0.01 to 0.99.
        encoder_epochs: Epochs of each encoder (of the whole fit when joint).
        head_epochs: Epochs of the head after the encoder (not when joint).
        encoder_lr: Learning rate of the encoder.
        classifier_lr: Learning rate of the encoder's linear classifier.
        head_lr: Learning rate of the head.
        weight_decay: AdamW's, on matrices only.
        warmup: Share of a phase's steps over which the learning rates rise.
        schedule: How they fall afterwards.
        loss: Builds the loss per row; None: cross-entropy (multi-class) or binary cross-entropy (multi-label).
        auxiliary_weight: Weight of the encoder's own loss when joint, so that the encoder alone stays a classifier.
        score_dropout: Share of scores hidden from the head in training: one model serves with all, some or no scorers.
        calibrator: Builds the calibrator of the fused logits from (K, task).
        score_calibrator: Builds the calibrator of each scorer's scores, before fusion, from (K, task).
        tune_decisions: Tune on validation rows how far decisions lean to rare labels (multi-class), or each label's threshold.
        deferral: Builds what says of which texts it pays to ask a scorer, from (K, M, task).
        seed: Fixes folds, initial heads and dropout.
        encoder_config: The encoder's configuration as plain values; then its weights are not loaded (checkpoints use it).
    """

    def __init__(
        self,
        labels: list[str],
        task: Task = "multiclass",
        scorers: Sequence[str] = (),
        class_weight: list[float] | None = None,
        encoder: str = "roberta-base",
        pooling: Pooling = "mean",
        frozen_layers: int = 0,
        gradient_checkpointing: bool = False,
        compile: bool = False,
        dropout: float = 0.1,
        head: Callable[[int, int, int, Task], FusionHead] = FusionMLP,
        evidence: EvidenceMode = "crossfit",
        folds: int = 5,
        holdout: float = 0.2,
        encoder_epochs: int = 3,
        head_epochs: int = 10,
        encoder_lr: float = 2e-5,
        classifier_lr: float = 1e-3,
        head_lr: float = 1e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        schedule: Schedule = "linear",
        loss: Callable[[], RowLoss] | None = None,
        auxiliary_weight: float = 0.5,
        score_dropout: float = 0.1,
        calibrator: Callable[[int, Task], Calibrator] = BetaCalibration,
        score_calibrator: Callable[[int, Task], Calibrator] = TemperatureScaling,
        tune_decisions: bool = True,
        deferral: Callable[[int, int, Task], Deferral] = ExpectedGain,
        seed: int = 0,
        encoder_config: dict[str, Any] | None = None,
    ) -> None:
        members = ["encoder", *scorers, *(("average", "stack") if scorers else ())]
        if len(set(members)) < len(members) or "fusion" in members:
            raise ConfigurationError(
                f"scorers={list(scorers)!r}: names must differ, also from encoder, average, stack and fusion. "
                "Way out: rename the scorer."
            )
        super().__init__(labels, task, calibrator, weight_decay, warmup, schedule, seed, members, tune_decisions)
        self.save_hyperparameters()
        self.scorers = list(scorers)
        self.encoder = TextEncoder(encoder, pooling, frozen_layers, gradient_checkpointing, encoder_config)
        self.hparams["encoder_config"] = self.encoder.plain_config
        self.classifier = nn.Linear(self.encoder.dim, len(labels))
        self.dropout = nn.Dropout(dropout)
        shape = (len(labels), len(self.scorers) + 1, self.encoder.dim, task)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head: FusionHead | None = head(*shape) if self.scorers else None
        self.references = nn.ModuleDict(
            {"average": AverageFusion(*shape), "stack": LinearStack(*shape)} if self.scorers else {}
        )
        self.references.requires_grad_(False)
        self.score_calibrators = nn.ModuleList(score_calibrator(len(labels), task) for _ in self.scorers)
        self.deferral = deferral(len(labels), len(self.scorers), task) if self.scorers else None
        self.validation_rows = ValidationRows(len(labels), len(self.scorers), task)
        default: Callable[[], RowLoss] = CrossEntropy if task == "multiclass" else BinaryCrossEntropy
        self.loss = (default if loss is None else loss)()
        self.register_buffer("class_weight", None if class_weight is None else torch.tensor(class_weight), persistent=False)
        self.evidence = EncoderEvidence(evidence, folds, holdout, encoder_epochs, head_epochs, seed)
        self.lrs = {"encoder": encoder_lr, "classifier": classifier_lr, "head": head_lr}
        self.auxiliary_weight, self.score_dropout, self.compile_encoder = auxiliary_weight, score_dropout, compile
        if evidence == "crossfit" and not self.encoder.frozen and getattr(self.head, "use_representation", False):
            raise ConfigurationError(
                "use_representation=True with evidence='crossfit': the folds' encoders do not share one space. "
                "Way out: evidence: holdout or joint, or frozen_layers: -1."
            )
        self._initial_encoder: dict[str, Tensor] = {}
        self._initial_classifier: dict[str, Tensor] | None = None
        self._vectors: dict[Split | None, Tensor] = {}
        keep_factories(
            self.hparams,
            {"head": head, "calibrator": calibrator, "score_calibrator": score_calibrator, "deferral": deferral, "loss": loss},
        )

    # ---- what it predicts

    def outputs(self, batch: Batch) -> Outputs:
        """Returns fused logits and each member's; while the encoder is still being fitted, the encoder's own."""
        vectors = self._vectors_of(batch, "validation" if self.is_fitting else None)
        own = self.classifier(vectors).float()
        has_head = self.is_selecting if self.is_fitting else self.phase_begun == len(self.phases()) - 1
        if not has_head and not self.is_fitting:
            raise NotFittedError("The fit had not reached its last phase. Way out: lf fit --ckpt_path last, then again.")
        if self.head is None or not has_head:
            return Outputs(batch["index"], own, batch["labels"], {"encoder": own})
        members, present = self.opinions_of(own, batch["scores"], batch["scored"])
        named = {"encoder": own}
        for m, name in enumerate(self.scorers, start=1):
            named[name] = members[:, m].masked_fill(~present[:, [m]], torch.nan)
        for name, reference in self.references.items():
            named[name] = reference(members, present, vectors)
        return Outputs(batch["index"], self.head(members, present, vectors.float()).float(), batch["labels"], named)

    def opinions_of(self, logits: Tensor, scores: Tensor, scored: Tensor) -> tuple[Tensor, Tensor]:
        """Returns opinions (B, M + 1, K) and who has one (B, M + 1): the encoder first, then the calibrated scores."""
        said = opinions(scores, self.task)
        each = [normalise(logits, self.task)]
        each += [normalise(calibrate(said[:, m]), self.task) for m, calibrate in enumerate(self.score_calibrators)]
        present = torch.cat([torch.ones_like(logits[:, :1], dtype=torch.bool), scored], 1)
        return torch.stack(each, 1), present

    def probabilities_of(self, members: Tensor, present: Tensor) -> Tensor:
        """Returns the calibrated probabilities (n, K) of opinions (n, M + 1, K), of which those `present` (n, M + 1) count.

        Raises:
            ConfigurationError: The head also reads the encoder's vectors, which no one has for a text that is imagined.
        """
        if getattr(self.head, "use_representation", False):
            raise ConfigurationError(
                "use_representation=True: this head needs more than opinions, so what an opinion is worth before it is known "
                "cannot be told. Way out: a head without it."
            )
        fused = members[:, 0] if self.head is None else self.head(members, present, members.new_empty(len(members), 0))
        return probabilities(self.calibrator(fused.float()), self.task)

    def _encode(self, batch: Batch) -> Tensor:
        vectors: Tensor = self.encoder(batch["input_ids"], batch["attention_mask"])
        return vectors

    def _vectors_of(self, batch: Batch, split: Split | None) -> Tensor:
        if split in self._vectors:
            return self._vectors[split][batch["index"].cpu()].to(self.device)
        return self._encode(batch)

    def _evidence_vectors(self, rows: Tensor) -> Tensor | None:
        return self._vectors["train"][rows.cpu()].to(self.device) if "train" in self._vectors else None

    # ---- the plan of a fit

    def phases(self) -> list[Phase]:
        """Returns `EncoderEvidence.plan`, or the encoder's epochs alone where no scorer gives a head anything to combine."""
        return [Phase("encoder", self.evidence.encoder_epochs)] if self.head is None else self.evidence.plan()

    def rows_of_epoch(self, epoch: int) -> Tensor | None:
        """See `contract.PhasedSystem`."""
        return None if self.head is None else self.evidence.rows_of(self.phase_of(epoch)[0], self.rows_data)

    def parameter_groups(self) -> dict[str, tuple[nn.Module, float]]:
        """Returns encoder, classifier and head with their learning rates."""
        modules: dict[str, nn.Module] = {"encoder": self.encoder, "classifier": self.classifier}
        if self.head is not None:
            modules["head"] = self.head
        return {name: (module, self.lrs[name]) for name, module in modules.items()}

    def setup(self, stage: str) -> None:
        """Keeps the weights from which each phase's encoder and classifier start, and compiles the encoder if asked.

        Raises:
            ConfigurationError: To be fitted again, though the encoder has seen all rows; DDP would wait for unused weights; or
                a precision in which the head cannot reckon.
        """
        self._require_precision(stage)
        if self.encoder.frozen:  # its evaluation mode is no oversight, of which Lightning would warn
            warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode", category=UserWarning)
        if stage == "fit" and len(self.phases()) > 1:
            if self.phase_begun >= 0:
                raise ConfigurationError(
                    "This module was fitted before, so its encoder would give opinions of rows that it has learned from. "
                    "Way out: a new module; to go on with an interrupted fit, a new module and ckpt_path."
                )
            let_ddp_rest(self.trainer.strategy, "each phase of this fit trains some groups only", ", or evidence: joint")
        if stage == "fit" and not self.encoder.frozen and len(self.phases()) > 2:
            self._initial_encoder = {name: value.clone() for name, value in self.encoder.state_dict().items()}
        if stage == "fit":
            name = str(self.hparams["encoder"])
            self._initial_classifier = kept_classifier(name, self.labels, self.encoder.pooling, self.encoder.dim)
        if self.compile_encoder:
            self.encoder.model.compile()
        super().setup(stage)

    def _require_precision(self, stage: str) -> None:
        precision = str(self.trainer.precision)
        if precision.endswith("-true") and precision != "32-true":
            raise ConfigurationError(
                f"trainer.precision={precision!r}: a head reckons with opinions in float32. Way out: bf16-mixed, or 32-true."
            )
        idle = self.head is not None and not any(weight.requires_grad for weight in self.head.parameters())
        if precision == "16-mixed" and stage == "fit" and idle and self.evidence.mode != "joint":
            raise ConfigurationError(
                f"trainer.precision='16-mixed' scales gradients, and {type(self.head).__name__} has nothing to train. "
                "Way out: bf16-mixed, or 32-true."
            )

    def begin_phase(self, position: int, phase: Phase) -> None:
        """Collects what the encoder of the phase before says out of sample, then starts the next encoder, or the head."""
        self._collect(position - 1)
        if phase.name == "head":
            self.encoder.requires_grad_(False)
            self.classifier.requires_grad_(False)
            self._encode_once(*self._splits_of_head())
            self._start_head()
        else:
            if self._initial_encoder:
                self.encoder.load_state_dict(self._initial_encoder)
            if self._initial_classifier:
                self.classifier.load_state_dict(self._initial_classifier)
            else:
                torch.manual_seed(self.seed)
                self.classifier.reset_parameters()
        self.trainer.optimizers[0].state.clear()

    def on_fit_start(self) -> None:
        """Encodes once what no later step changes: all texts of a frozen encoder, and validation texts in the head's phase."""
        self._vectors.clear()
        if self.encoder.frozen and isinstance(self.data, RowsData):
            self._encode_once("train", "validation")
        elif self.phase_begun >= 0 and self.phases()[self.phase_begun].name == "head":
            self._encode_once(*self._splits_of_head())

    def _splits_of_head(self) -> tuple[Split, ...]:
        return ("train", "validation") if getattr(self.head, "use_representation", False) else ("validation",)

    def _encode_once(self, *splits: Split) -> None:
        for split in splits:
            if split not in self._vectors and self.rows_data.number_of_rows(split):
                self._vectors[split] = over_rows(self, split, None, self._encode)

    def on_fit_end(self) -> None:
        """Forgets the vectors, which are those of this fit's data."""
        self._vectors.clear()

    def _collect(self, position: int) -> None:
        rows = self.evidence.rows_after(position, self.rows_data) if self.head is not None else None
        if rows is not None:
            logits = over_rows(self, "train", rows, lambda batch: self.classifier(self._vectors_of(batch, "train")))
            self.evidence.add(rows, logits[rows], self.rows_data.number_of_rows("train"))

    def _start_head(self) -> None:
        assert self.head is not None
        assert self.evidence.logits is not None
        sides = [self._evidence_on("train", self.evidence.logits)]
        if "validation" in self._vectors:  # what the last encoder says of rows that it was not fitted on
            with torch.no_grad():
                own = self.classifier(self._vectors["validation"].to(self.device)).float().cpu()
            sides.append(self._evidence_on("validation", own))
            sides[0] = shifted(sides[0], sides[1].labels)
            self.evidence.shift = None if sides[0].shift is None else sides[0].shift[0]
        self.evidence.held_out = start_head(self.head, self.references, sides, self.seed, self.device)

    def _evidence_on(self, split: Split, logits: Tensor) -> Evidence:
        scores, scored, labels = self.rows_data.scores_and_labels(split)
        known = logits.isfinite().all(-1) & labelled(labels)
        here = [tensor[known].to(self.device) for tensor in (logits, scores, scored)]
        members, present = self.opinions_of(*here)
        vectors = self._vectors[split][known] if split in self._vectors else None
        return Evidence(members.cpu(), present.cpu(), labels[known], vectors)

    # ---- learning

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the loss of the current phase and its parts."""
        phase = self.phase_of(self.current_epoch)[1]
        if phase.name == "head":
            assert self.evidence.logits is not None
            rows = batch["index"].cpu()
            logits = self.evidence.logits[rows].to(self.device)
            fused = self._fuse(batch, logits, self._evidence_vectors(rows))
            shift = 0.0 if self.evidence.shift is None else self.evidence.shift.to(self.device)
            loss = self._mean_loss(fused + shift, batch)
            return {"loss": loss if loss.requires_grad else loss.requires_grad_()}  # a head may have nothing to train
        vectors = self._vectors_of(batch, "train")
        own = self.classifier(self.dropout(vectors))
        loss = self._mean_loss(own, batch)
        if phase.name != "joint":
            return {"loss": loss}
        fused = self._mean_loss(self._fuse(batch, own, vectors), batch)
        return {"loss": fused + self.auxiliary_weight * loss, "fusion_loss": fused, "encoder_loss": loss}

    def _fuse(self, batch: Batch, logits: Tensor, vectors: Tensor | None) -> Tensor:
        assert self.head is not None
        scored = batch["scored"]
        if self.score_dropout > 0:
            scored = scored & (torch.rand(scored.shape, device=scored.device) >= self.score_dropout)
        members, present = self.opinions_of(logits, batch["scores"], scored)
        fused: Tensor = self.head(members, present, vectors)
        return fused

    def _mean_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return mean_over_labelled(self.loss(logits.float(), batch["labels"], self.class_weight), batch["labels"])

    # ---- what callbacks fit

    def held_out(self) -> Outputs | None:
        """Returns the head's evidence, each row as if head and stack had not been fitted on it; None where nobody knows."""
        rows = self.evidence.held_out
        if rows is None or self.head is None:
            return None
        named = dict(zip(self.references, rows.references, strict=True))
        for m, name in enumerate(("encoder", *self.scorers)):
            named[name] = rows.members[:, m].masked_fill(~rows.present[:, [m]], torch.nan)
        return Outputs(torch.arange(len(rows.labels)), logits_on(self.head, rows, self.device), rows.labels, named)

    def fit_score_calibrators(self, scores: Tensor, scored: Tensor, labels: Tensor) -> None:
        """Fits each scorer's calibrator.

        Args:
            scores: (n, M, K) probabilities of validation rows.
            scored: (n, M).
            labels: (n,) or (n, K), unlabelled rows are skipped.
        """
        known = labelled(labels)
        for m, calibrator in enumerate(self.score_calibrators):
            said = known & scored[:, m]
            cast("Calibrator", calibrator).fit(opinions(scores[said, m], self.task), labels[said])

    def fit_references(self, outputs: Outputs) -> None:
        """Fits the stack on validation outputs when joint training left no other out-of-sample opinions; nothing otherwise.

        Args:
            outputs: Of the whole validation split.
        """
        if self.evidence.mode == "joint" and self.head is not None:
            known = labelled(outputs.labels)
            members = torch.stack([outputs.members[name][known] for name in ("encoder", *self.scorers)], 1)
            present = members.isfinite().all(-1)
            members = normalise(members.nan_to_num(0.0), self.task)
            start_references(self.references, Evidence(members, present, outputs.labels[known]), self.device)
            vectors = torch.empty(len(members), 0)
            for name, reference in self.references.items():
                outputs.members[name][known] = reference.cpu()(members, present, vectors)
                reference.to(self.device)

    def fit_deferral(self, outputs: Outputs) -> None:
        """Fits the deferral on what nothing was fitted on, and keeps what is said of the validation rows at each stage.

        Args:
            outputs: Of the whole validation split; calibrators are fitted.
        """
        fit_deferral(self, outputs)

    def stated(self, outputs: Outputs, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns opinions (n, M + 1, K) of the encoder and the scorers on some rows (a mask), and who has one (n, M + 1)."""
        raw = torch.stack([outputs.members[name][rows] for name in ("encoder", *self.scorers)], 1).to(self.device)
        return normalise(raw.nan_to_num(0.0), self.task), raw.isfinite().all(-1)

    def stages(self, members: Tensor, present: Tensor) -> Tensor:
        """Returns the calibrated probabilities (M + 1, n, K) with none, one, ..., all scorers asked."""
        asked = range(len(self.scorers) + 1)
        return torch.stack([self.probabilities_of(members, known_before(present, m)) for m in asked])

    def worth(self, deferral: Deferral, members: Tensor, present: Tensor) -> Tensor:
        """Returns what asking each scorer is worth by a fitted deferral (n, M), those before it having been asked."""
        each = [deferral.values(m, members, present, self.probabilities_of) for m in range(len(self.scorers))]
        return torch.stack(each, 1)

    # ---- state

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the phase and the evidence."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["evidence"] = self.evidence.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores them; a checkpoint from before there was deferral loads without it."""
        super().on_load_checkpoint(checkpoint)
        weights = checkpoint["state_dict"]
        later = [name for name in self.state_dict() if name.startswith(("deferral.", "validation_rows."))]
        if not any(name in weights for name in later):
            weights.update({name: value for name, value in self.state_dict().items() if name in later})
        self.evidence.restore(checkpoint["evidence"])
