"""Co-training: two nets learn from labels that an LLM gave, and weigh them for each other (LG-CoTrain, arXiv 2509.16516)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import AdamW

from lf_lightning.calibration import BetaCalibration, Calibrator
from lf_lightning.contract import Batch, Outputs, Phase, Split, Task
from lf_lightning.dynamics import Halves, History, SwappedDynamics, Uniform, Weighting
from lf_lightning.encoders import Pooling, TextEncoder
from lf_lightning.errors import ConfigurationError, NotFittedError
from lf_lightning.heads.functional import normalise, opinions
from lf_lightning.losses import labelled
from lf_lightning.systems.base import ClassifierModule, Schedule
from lf_lightning.systems.ddp import let_ddp_rest
from lf_lightning.systems.hyperparameters import keep_factories
from lf_lightning.systems.label_review import LabelReview, weighed_beside_truth
from lf_lightning.systems.nets import (
    Net,
    Nets,
    check_vocabularies,
    logits_of_mean,
    probabilities_of,
    share_alike,
    signal_of,
)
from lf_lightning.systems.pseudo_labels import CoTrainRows, TrainRows, llm_labels, row_losses, train_rows
from lf_lightning.systems.row_pass import over_rows

WEIGHTS, COTRAIN, FINETUNE = "weights", "co-train", "fine-tune"
STOP_ON = "validation/macro_f1"


class CoTrainingLightningModule(ClassifierModule):
    """Two nets that learn from gold rows and from an LLM's labels of other rows; the mean of their probabilities decides.

    A phase is a set of rows and a weight of each row for each net. `weights`: each net learns from one half of the gold rows,
    and what it then says of the LLM's labels is recorded. `co-train`: begun anew, both learn from the LLM's labels, each row
    weighted by what the other net's record says of it. `fine-tune`: each goes on with its half of the gold rows, until the
    validation rows' macro-F1 has not risen for `patience` epochs. Phases of 0 epochs are left out.

    Args:
        labels: The K label names, in the order of the logits (linked to the data).
        task: Multi-class or multi-label (linked to the data).
        scorers: Names of the M scorers whose scores the batches carry (linked to the data); their mean is the LLM's label.
        class_weight: K weights of the labels in the loss (linked to the data), or None.
        encoder: Hub name, local folder or `package:NAME/PATH` of a Hugging Face encoder.
        second_encoder: The second net's, with the same tokenizer; None: the same encoder.
        nets: 2, or 1 for baselines.
        pooling: How token vectors become one: mean over real tokens, first token (cls), or max.
        frozen_layers: So many lower layers and the embeddings keep their weights; -1 freezes all (and encodes once).
        gradient_checkpointing: Recompute activations: less memory, about a third more time.
        dropout: Share of the pooled vector's units dropped before the classifier, in training.
        weighting: Builds what weighs the rows of co-training; names are in `lf_lightning.dynamics`.
        weights_epochs: Epochs of the phase of weights, T in the paper; 0: rows count 1 until co-training has told something.
        cotrain_epochs: Epochs of co-training; 0: none, and no phase of weights.
        finetune_epochs: Epochs of fine-tuning at most; 0: none.
        cotrain_rows: Rows of co-training: those that the LLM labelled (pool), the gold rows, or both.
        halves: Whether the nets share out the gold rows by halves (of even classes); else each learns from all of them.
        first_weights: The first weights follow from all epochs of the phase of weights (the paper), or from the last.
        record: In co-training, what a net says of a row counts as it says it in its training step (free), or after the epoch in
            a pass without dropout.
        soft_labels: Learn the LLM's probabilities instead of its most probable label.
        patience: Fine-tuning ends after so many epochs without a better validation macro-F1; 0: never early.
        encoder_lr: Learning rate of the encoders.
        classifier_lr: Learning rate of the classifiers.
        finetune_factor: Learning rates of fine-tuning in shares of the others.
        weight_decay: AdamW's, on matrices only.
        warmup: Share of a phase's steps over which the learning rates rise.
        schedule: How they fall afterwards.
        calibrator: Builds the calibrator of the pair's logits from (K, task).
        tune_decisions: Tune on validation rows how far decisions lean to rare labels (multi-class), or each label's threshold.
        seed: Fixes halves, classifiers and dropout.
        encoder_config: The encoders' configurations as plain values; then no weights are loaded (checkpoints use it).
    """

    history: History
    """What the nets said of the train rows; there from a fit's `setup` on."""
    rows: TrainRows
    """The train rows; there from a fit's `setup` on."""

    def __init__(
        self,
        labels: list[str],
        task: Task = "multiclass",
        scorers: Sequence[str] = (),
        class_weight: list[float] | None = None,
        encoder: str = "roberta-base",
        second_encoder: str | None = None,
        nets: int = 2,
        pooling: Pooling = "mean",
        frozen_layers: int = 0,
        gradient_checkpointing: bool = False,
        dropout: float = 0.1,
        weighting: Callable[[], Weighting] = SwappedDynamics,
        weights_epochs: int = 7,
        cotrain_epochs: int = 10,
        finetune_epochs: int = 100,
        cotrain_rows: CoTrainRows = "pool",
        halves: bool = True,
        first_weights: Literal["all", "last"] = "all",
        record: Literal["training", "pass"] = "training",
        soft_labels: bool = False,
        patience: int = 5,
        encoder_lr: float = 2e-5,
        classifier_lr: float = 1e-3,
        finetune_factor: float = 0.1,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        schedule: Schedule = "linear",
        calibrator: Callable[[int, Task], Calibrator] = BetaCalibration,
        tune_decisions: bool = True,
        seed: int = 0,
        encoder_config: list[dict[str, Any]] | None = None,
    ) -> None:
        names = [f"net {k + 1}" for k in range(nets)] if nets > 1 else []
        members = [*names, *scorers]
        if len(set(members)) < len(members):
            raise ConfigurationError(f"scorers={list(scorers)!r}: names must differ, also from {names}. Way out: rename it.")
        super().__init__(labels, task, calibrator, weight_decay, warmup, schedule, seed, members, tune_decisions)
        self.save_hyperparameters()
        _check_numbers(nets, second_encoder, weights_epochs, cotrain_epochs, finetune_epochs)
        self.scorers = list(scorers)
        self.net_names = names
        encoders = [encoder, second_encoder or encoder][:nets]
        self.nets = Nets(
            Net(
                TextEncoder(
                    name, pooling, frozen_layers, gradient_checkpointing, encoder_config[k] if encoder_config else None
                ),
                len(labels),
                dropout,
            )
            for k, name in enumerate(encoders)
        )
        self.hparams["encoder_config"] = [net.encoder.plain_config for net in self.nets.each()]
        check_vocabularies(self.nets.each(), encoders)
        self.register_buffer("class_weight", None if class_weight is None else torch.tensor(class_weight), persistent=False)
        self.class_weight: Tensor | None
        self.weighting = weighting()
        self.epochs = {WEIGHTS: weights_epochs if cotrain_epochs else 0, COTRAIN: cotrain_epochs, FINETUNE: finetune_epochs}
        self.cotrain_rows, self.halves = cotrain_rows, halves and nets == 2
        self.first_weights, self.record = first_weights, record
        self.soft_labels, self.patience = soft_labels, patience
        self.lrs = {"encoder": encoder_lr, "classifier": classifier_lr}
        self.finetune_factor = finetune_factor
        self.row_weights = torch.empty(0)
        """(N, nets), what each train row counts for each net in the epoch that is under way."""
        self.weighed_epoch = -1
        self.best_score, self.waited = -math.inf, 0
        keep_factories(self.hparams, {"weighting": weighting, "calibrator": calibrator})

    def net(self, k: int) -> Net:
        """Returns net k, from 0."""
        return self.nets.each()[k]

    # ---- what it predicts

    def outputs(self, batch: Batch) -> Outputs:
        """Returns the logits of the nets' mean probability, and as members each net and each scorer."""
        if not self.is_fitting and self.phase_begun != len(self.phases()) - 1:
            raise NotFittedError("The fit had not reached its last phase. Way out: lf fit --ckpt_path last, then again.")
        logits = self.nets.logits(batch, "validation" if self.is_fitting else None)
        named = dict(zip(self.net_names, logits.unbind(1), strict=False))
        said = normalise(opinions(batch["scores"], self.task), self.task)
        for m, name in enumerate(self.scorers):
            named[name] = said[:, m].masked_fill(~batch["scored"][:, [m]], torch.nan)
        return Outputs(batch["index"], logits_of_mean(logits, self.task), batch["labels"], named)

    # ---- the plan of a fit

    def phases(self) -> list[Phase]:
        """Returns weights, co-train and fine-tune, those with epochs."""
        return [Phase(name, epochs) for name, epochs in self.epochs.items() if epochs]

    def rows_of_epoch(self, epoch: int) -> Tensor | None:
        """See `contract.PhasedSystem`."""
        return self.rows.chosen(self.cotrain_rows if self.phase_of(epoch)[1].name == COTRAIN else "gold")

    def parameter_groups(self) -> dict[str, tuple[nn.Module, float]]:
        """Returns `encoder_1`, `classifier_1`, `encoder_2`, ... with their learning rates."""
        return {
            f"{part}_{k + 1}": (getattr(self.net(k), part), lr) for k in range(len(self.nets)) for part, lr in self.lrs.items()
        }

    def setup(self, stage: str) -> None:
        """Finds the rows, and keeps the pretrained weights, from which the nets begin twice.

        Raises:
            ConfigurationError: To be fitted again; a phase has no rows; or DDP would wait for the net that rests in a batch.
        """
        if any(net.encoder.frozen for net in self.nets.each()):  # no oversight, of which Lightning would warn
            warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode", category=UserWarning)
        if stage == "fit":
            if self.phase_begun >= 0:
                raise ConfigurationError(
                    "This module was fitted before. Way out: a new module; to go on with an interrupted fit, a new module and "
                    "ckpt_path."
                )
            let_ddp_rest(self.trainer.strategy, "a net may have no row in a batch")
            self.rows = train_rows(self.rows_data, self.task, self.soft_labels, self.seed)
            kinds = {self.cotrain_rows} if self.epochs[COTRAIN] else set()
            self.rows.require(
                pool=bool(kinds & {"pool", "both"}) or bool(kinds and self.epochs[WEIGHTS] and self.weighting.needs_history),
                gold=bool(kinds & {"gold", "both"} or self.epochs[WEIGHTS] or self.epochs[FINETUNE]),
            )
            rank_zero_info(
                f"Co-training: {len(self.rows.gold)} gold rows, {len(self.rows.pool)} unlabelled rows with an LLM label, "
                f"{self.rows.left_out} without one are left out."
            )
            self.history = History(len(self.rows.labels), len(self.nets))
            self.nets.keep_initial(1 if self.hparams["second_encoder"] is None else 2)
        super().setup(stage)

    def on_fit_start(self) -> None:
        """Encodes once what a frozen encoder says; does not go on with a fit that had stopped early."""
        splits: tuple[Split, ...] = ("train", "validation")
        for k in self.nets.frozen():
            for split in splits:
                if self.rows_data.number_of_rows(split):
                    self.nets.kept[k, split] = over_rows(self, split, None, partial(self.nets.vectors, k, split=None))
        if self.patience and self.waited >= self.patience:
            self.trainer.should_stop = True

    def begin_phase(self, position: int, phase: Phase) -> None:
        """Begins the nets anew, but for fine-tuning after co-training."""
        if phase.name != FINETUNE or position == 0:
            self.nets.begin_anew(self.seed)
        self.trainer.optimizers[0].state.clear()

    def _begin_phase_if_due(self) -> None:
        # What an epoch told is taken in when the next begins, not at its end, where the last checkpoint is written before.
        if self.weighed_epoch != self.current_epoch:
            latest = self._end_epoch(self.current_epoch - 1)
            self.row_weights = self._weights_of(self.current_epoch, latest)
            self.weighed_epoch = self.current_epoch
        super()._begin_phase_if_due()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """As the base; in fine-tuning with its own learning rates."""
        super().on_train_batch_start(batch, batch_idx)
        if self.phase_of(self.current_epoch)[1].name == FINETUNE:
            for group in self.trainer.optimizers[0].param_groups:
                group["lr"] *= self.finetune_factor

    def on_train_end(self) -> None:
        """Takes in the last epoch of a plan that ends with co-training."""
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        if self.weighed_epoch == progress.processed - 1:
            self._end_epoch(self.weighed_epoch)

    def on_fit_end(self) -> None:
        """Forgets the vectors, which are those of this fit's data."""
        self.nets.kept.clear()

    # ---- weights

    def _end_epoch(self, epoch: int) -> Tensor | None:
        """Takes what the nets said in `epoch`, or say now that it is over, into the history, and returns it (N, nets)."""
        _, phase, within = self.phase_of(epoch)
        if epoch < 0 or phase.name == FINETUNE:
            return None
        if phase.name == COTRAIN and self.record == "training":
            return self.history.end_epoch()
        if phase.name == WEIGHTS and (
            not self.weighting.needs_history or (self.first_weights == "last" and within < phase.epochs - 1)
        ):
            return None

        def say(batch: Batch) -> Tensor:
            labels = self.rows.labels[batch["index"].cpu()]
            return signal_of(self.nets.logits(batch, "train"), labels, self.weighting.signal, self.task)

        said = over_rows(self, "train", self.rows.pool, say)
        self.history.take_in(said)
        return said

    def _weights_of(self, epoch: int, latest: Tensor | None) -> Tensor:
        _, phase, within = self.phase_of(epoch)
        probabilities = None
        weighting: Weighting = self.weighting
        if phase.name != COTRAIN:
            weighting = Halves() if self.halves else Uniform()
        elif weighting.needs_probabilities:
            if within:
                return self.row_weights
            if not self.epochs[WEIGHTS]:
                raise ConfigurationError(
                    f"weights_epochs=0, but {type(weighting).__name__} asks nets that have learned from gold rows. Way out: 7."
                )
            probabilities = over_rows(
                self, "train", self.rows.pool, lambda batch: probabilities_of(self.nets.logits(batch, "train"), self.task)
            )
        weights = weighting(self.rows.dynamics(self.history, latest, within / phase.epochs, probabilities))
        if phase.name == COTRAIN:
            weights[self.rows.gold] = 1.0
        return weights

    # ---- learning

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the sum over nets of the weighted mean loss, its parts, and in co-training how often the nets agree.

        A net that no row counts for rests: it gets no gradient, and the optimizer leaves it as it is.
        """
        rows = batch["index"].cpu()
        labels, weights = self.rows.labels[rows].to(self.device), self.row_weights[rows].to(self.device)
        together = self.phase_of(self.current_epoch)[1].name == COTRAIN
        # A net without rows has a loss, too: all ranks log the same names.
        parts = {f"net_{k + 1}_loss": torch.zeros((), device=self.device) for k in range(len(self.nets))}
        logits = []
        for k, counted in enumerate((self.row_weights[rows] != 0).unbind(1)):
            own = slice(None) if together else counted.nonzero().flatten().to(self.device)
            with torch.set_grad_enabled(bool(counted.any())):
                if together or counted.any():
                    z = self.net(k)(self.nets.vectors(k, batch, "train", own))
                    logits.append(z.detach())
                    each = row_losses(z, labels[own], self.class_weight, self.task)
                    parts[f"net_{k + 1}_loss"] = (weights[own, k] * each).sum() / len(rows)
        loss = torch.stack(list(parts.values())).sum()
        told = {name: value.detach() for name, value in parts.items()} if len(self.nets) > 1 else {}
        if together:
            both = torch.stack(logits, 1)
            if self.record == "training":
                self.history.update(batch["index"], signal_of(both, labels, self.weighting.signal, self.task))
            if len(self.nets) > 1:
                told["agreement"] = share_alike(both, self.task)
                told |= {f"net_{k + 1}_weight": column.mean() for k, column in enumerate(weights.unbind(1))}
        return {"loss": loss if loss.requires_grad else loss.requires_grad_(), **told}

    def configure_optimizers(self) -> AdamW:
        """As the base, fused also under autocast: what clips here is not Lightning's MixedPrecision, which refuses it."""
        optimizer = super().configure_optimizers()
        for group in optimizer.param_groups:  # as an option of groups, it leaves unscaling float16 gradients to Lightning
            group["fused"] = group["fused"] or self.device.type in ("cpu", "cuda")
        return optimizer

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips each net by itself, as two optimizers would."""
        if not gradient_clip_val:
            return
        for net in self.nets:
            if gradient_clip_algorithm == "value":
                nn.utils.clip_grad_value_(net.parameters(), gradient_clip_val)
            else:
                nn.utils.clip_grad_norm_(net.parameters(), gradient_clip_val)

    def on_validation_end(self) -> None:
        """Ends fine-tuning when the validation macro-F1 has not risen for `patience` epochs."""
        fitting = self.is_fitting and not self.trainer.sanity_checking
        if not (fitting and self.patience and self.phase_of(self.current_epoch)[1].name == FINETUNE):
            return
        score = self.trainer.callback_metrics.get(STOP_ON)
        if score is None:
            raise ConfigurationError(
                f"patience={self.patience}: nobody logs {STOP_ON}. Way out: the callbacks CollectOutputs, FitCalibrators and "
                "LogMetrics, or patience: 0."
            )
        self.best_score, self.waited = (float(score), 0) if score > self.best_score else (self.best_score, self.waited + 1)
        self.trainer.should_stop = self.trainer.should_stop or self.waited >= self.patience

    # ---- what callbacks show

    def is_cotrained(self, epoch: int) -> bool:
        """Whether co-training ended right before `epoch`."""
        return bool(self.epochs[COTRAIN]) and epoch == self.epochs[WEIGHTS] + self.epochs[COTRAIN]

    def weighs_epoch(self, epoch: int) -> bool:
        """Whether what the nets say in `epoch` enters the weights."""
        return self.phase_of(epoch)[1].name != FINETUNE

    def label_review(self) -> LabelReview | None:
        """Returns what this fit says of the LLM's labels of the pool, by a pass that all ranks make; None if it had none."""
        pool = self.rows.pool
        if not self.epochs[COTRAIN] or not len(pool):
            return None
        p = over_rows(
            self,
            "train",
            pool,
            lambda batch: probabilities_of(logits_of_mean(self.nets.logits(batch, "train"), self.task), self.task),
        )
        return LabelReview.of(self.rows, self.history, p)

    def said_of(self, split: Split, index: Tensor, logits: Tensor) -> Tensor:
        """Returns what nets' logits (n, nets, K) of rows `index` say of the LLM's labels of a split's N rows.

        (N, nets), NaN without a label and where there are no logits.
        """
        scores, scored, _ = self.rows_data.scores_and_labels(split)
        labels, _ = llm_labels(scores[index], scored[index], self.task, self.soft_labels)
        known = labelled(labels)
        said = torch.full((len(scores), logits.shape[1]), torch.nan)
        said[index[known]] = signal_of(logits[known], labels[known], self.weighting.signal, self.task)
        return said

    def weights_against_truth(self, split: Split, said: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns how a split's n rows would be weighed, beside the truth.

        Args:
            split: A split with gold labels and scores.
            said: (T, n, nets), `said_of` over epochs.

        Returns:
            Whether the LLM's label is right (n,), 1 or 0, -1 where one of the two, or what the nets say, is lacking; what the
            LLM stated (n,); and the weights (n, nets), of a weighting that needs probabilities the confidence.
        """
        return weighed_beside_truth(*self.rows_data.scores_and_labels(split), said, self.weighting, self.task)

    # ---- state

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps phase, history, weights, and what they were made from."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["cotraining"] = {
            "history": self.history.kept(),
            "row_weights": self.row_weights,
            "weighed_epoch": self.weighed_epoch,
            "best_score": self.best_score,
            "waited": self.waited,
            "fingerprint": self.rows.fingerprint(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores them to go on with a fit; otherwise the phase alone.

        Raises:
            ConfigurationError: The fit had other pseudo-labels or halves.
        """
        super().on_load_checkpoint(checkpoint)
        if self._trainer is None or self._trainer.state.fn != "fit":
            return
        kept = checkpoint["cotraining"]
        if kept["fingerprint"] != self.rows.fingerprint():
            raise ConfigurationError(
                "The run to be resumed had other LLM labels or other halves of the gold rows, on which its history and weights "
                "rest. Way out: the same scores, scorers and seed, or a new run."
            )
        self.history.restore(kept["history"])
        self.row_weights, self.weighed_epoch = kept["row_weights"], kept["weighed_epoch"]
        self.best_score, self.waited = kept["best_score"], kept["waited"]


def _check_numbers(nets: int, second: str | None, weights: int, cotrain: int, finetune: int) -> None:
    if nets not in (1, 2) or (nets == 1 and second is not None):
        raise ConfigurationError(f"nets={nets}, second_encoder={second!r}: 2 nets, or 1 without a second encoder.")
    for name, value in {"weights_epochs": weights, "cotrain_epochs": cotrain, "finetune_epochs": finetune}.items():
        if value < 0:
            raise ConfigurationError(f"{name}={value}. Way out: 0 or more.")
    if not cotrain + finetune:
        raise ConfigurationError("cotrain_epochs=0 and finetune_epochs=0: nothing is to be fitted. Way out: give one of them.")
