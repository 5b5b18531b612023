"""Reasoning: a causal language model that writes a reason and is asked for a label, as probabilities (arXiv 2507.00214)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the name that PyTorch's own documentation uses)

from lf_lightning.calibration import Calibrator, VectorScaling, probabilities
from lf_lightning.contract import Batch, Outputs, Phase, Split, Task
from lf_lightning.errors import ConfigurationError
from lf_lightning.generation import ANSWER_CUE, MOST_TOKENS, REASON_CUE, sample
from lf_lightning.likelihood import Candidates, label_log_likelihood
from lf_lightning.systems.base import ClassifierModule, Schedule
from lf_lightning.systems.causal_model import (
    activation_checkpoints,
    add_adapters,
    last_logits,
    load_causal_model,
    load_causal_tokenizer,
    plain_config,
)
from lf_lightning.systems.hyperparameters import keep_factories
from lf_lightning.systems.rationales import Layout, Pieces, collate, reason_ids, sequences


@runtime_checkable
class ReasonsData(Protocol):
    """A data module that has reasons for its rows."""

    def reasons(self, split: Split) -> dict[str, list[str | None]]:
        """Returns each writer's reasons for the rows of a split, by row number within it."""
        ...


class ReasoningLightningModule(ClassifierModule):
    """A causal language model that learns labels, and reasons that others wrote (`lf reason`), and answers by likelihood.

    The logit of label y is `log P(y | prefix)`, divided by its number of tokens if `normalise`: nothing is parsed, and every
    label has its probability. The prefix is the text and, in `reason_label`, a reason that the model writes first; `samples`
    of them are drawn and their probabilities averaged. `label_reason` and `multitask` learn from reasons and decide without:
    their reason is written afterwards, for people. All layouts of a comparison take equally many optimiser steps, since each
    is served the same batches.

    Reasons come from the data (`data.reasons`); a row with several, by several writers, learns from another in each epoch. A
    row without any learns its label only.

    Args:
        labels: The K label names, in the order of the logits (linked to the data).
        task: Only multiclass (linked to the data).
        class_weight: K weights of the rows in the loss, by label (linked to the data), or None.
        encoder: Hub name, folder, .gguf file or `package:NAME/PATH` of a causal language model (its tokenizer is the data's).
        layout: What is learnt: label, reason_label, label_reason, or multitask (label and reason behind two prefixes).
        label_share: Weight of the label's loss, the rest is the reason's (Hsieh et al., 2023); None: every token counts the
            same, as in the paper, where the label is one token of many.
        label_cue: What stands before a label.
        reason_cue: What stands before a reason.
        max_reason_tokens: A reason is cut, and written, to so many tokens.
        normalise: Divide a label's log-likelihood by its number of tokens.
        samples: Reasons that reason_label draws for a text.
        temperature: Of the draws; 0: the most likely token each time, which allows for one sample only.
        explain: Write a reason beside the label in test and predict, also where the layout decides without.
        lora_rank: Rank of LoRA adapters, which alone are trained then; 0: all weights are.
        lora_alpha: Scale of the adapters, over the rank.
        lora_dropout: Dropout before the adapters.
        lora_targets: Ends of the names of the layers with adapters; None: all linear layers.
        gradient_checkpointing: Recompute activations: less memory, about a third more time.
        epochs: Epochs.
        lr: Learning rate (of LoRA adapters about ten times that of all weights).
        weight_decay: AdamW's, on matrices only.
        warmup: Share of the steps over which the learning rate rises.
        schedule: How it falls afterwards.
        calibrator: Builds the calibrator of the logits from (K, task); vector scaling takes the model's liking for words out.
        tune_decisions: Tune on validation rows how far decisions lean to rare labels.
        seed: Fixes adapters, dropout and drawn reasons.
        encoder_config: The model's configuration as plain values; then its weights are not loaded (checkpoints use it).
        token_ids: Tokens of labels and cues as plain values; then no tokenizer is loaded (checkpoints use it).

    Raises:
        ConfigurationError: Arguments that do not fit one another, or a model that cannot be loaded.
        MissingDependencyError: peft, for adapters, is not installed.
    """

    class_weight: Tensor | None

    def __init__(
        self,
        labels: list[str],
        task: Task = "multiclass",
        class_weight: list[float] | None = None,
        encoder: str = "HuggingFaceTB/SmolLM2-135M",
        layout: Layout = "label",
        label_share: float | None = 0.5,
        label_cue: str = ANSWER_CUE,
        reason_cue: str = REASON_CUE,
        max_reason_tokens: int = MOST_TOKENS,
        normalise: bool = True,
        samples: int = 1,
        temperature: float = 0.0,
        explain: bool = True,
        lora_rank: int = 0,
        lora_alpha: int = 16,
        lora_dropout: float = 0.0,
        lora_targets: list[str] | None = None,
        gradient_checkpointing: bool = False,
        epochs: int = 3,
        lr: float = 2e-5,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        schedule: Schedule = "cosine",
        calibrator: Callable[[int, Task], Calibrator] = VectorScaling,
        tune_decisions: bool = True,
        seed: int = 0,
        encoder_config: dict[str, Any] | None = None,
        token_ids: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(labels, task, calibrator, weight_decay, warmup, schedule, seed, (), tune_decisions)
        _check(task, label_share, max_reason_tokens, samples, temperature, epochs)
        self.save_hyperparameters()
        self.layout: Layout = layout
        self.model = load_causal_model(encoder, encoder_config)
        self.hparams["encoder_config"] = plain_config(self.model)
        if token_ids is None:
            self.pieces = Pieces.of(load_causal_tokenizer(encoder), labels, label_cue, reason_cue)
        else:
            self.pieces = Pieces.from_plain(token_ids)
        self.hparams["token_ids"] = self.pieces.plain()
        self._tokenizer: Any = None
        if gradient_checkpointing:
            activation_checkpoints(self.model)
        if lora_rank:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                add_adapters(self.model, lora_rank, lora_alpha, lora_dropout, lora_targets)
        self.model.train()  # from_pretrained leaves dropout off, and Lightning keeps the mode it finds
        self.group = "adapters" if lora_rank else "model"
        self.lr, self.epochs = lr, epochs
        self.label_share = label_share
        self.max_reason_tokens, self.normalise = max_reason_tokens, normalise
        self.samples, self.temperature, self.explain = samples, temperature, explain
        self.register_buffer("class_weight", None if class_weight is None else torch.tensor(class_weight), persistent=False)
        self._reasons: list[list[list[int]]] = []
        """By train row, the tokens of its reasons; there during a fit."""
        self._fingerprint = ""
        """Of these, over a fit and its resumption."""
        keep_factories(self.hparams, {"calibrator": calibrator})

    # ---- the plan of a fit

    def phases(self) -> list[Phase]:
        """Returns the one phase."""
        return [Phase("fit", self.epochs)]

    def parameter_groups(self) -> dict[str, tuple[nn.Module, float]]:
        """Returns the model, as `model` or, with frozen weights, as `adapters`."""
        return {self.group: (self.model, self.lr)}

    def on_fit_start(self) -> None:
        """Takes in the reasons of the train rows.

        Raises:
            ConfigurationError: The layout learns from reasons, and no train row has one; or an interrupted fit had others.
        """
        if self.layout == "label":
            return
        found = self.data.reasons("train") if isinstance(self.data, ReasonsData) else {}
        columns = [reason_ids(self.tokenizer, reasons, self.max_reason_tokens) for reasons in found.values()]
        self._reasons = [[ids for ids in row if ids] for row in zip(*columns, strict=True)]
        before, self._fingerprint = self._fingerprint, sha256(repr(self._reasons).encode()).hexdigest()
        if before not in ("", self._fingerprint):
            raise ConfigurationError("The run to be resumed had other reasons. Way out: the same data.reasons, or a new run.")
        known = sum(map(bool, self._reasons))
        if not known:
            raise ConfigurationError(
                f"layout={self.layout!r} learns from reasons, and no train row has one. Way out: data.reasons: a store that lf "
                "reason, or lf score with reasons, has written; or layout: label."
            )
        rank_zero_info(
            f"Reasons: {sum(map(len, self._reasons))} by {', '.join(found)} for {known} of {len(self._reasons)} train rows; "
            "the others learn their label only."
        )

    def on_fit_end(self) -> None:
        """Forgets the reasons, which are those of this fit's data."""
        self._reasons = []
        self._fingerprint = ""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps which reasons it learns from."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["reasons"] = self._fingerprint

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores it."""
        super().on_load_checkpoint(checkpoint)
        self._fingerprint = str(checkpoint["reasons"])

    # ---- learning

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the loss, a mean over rows of the weighted sums over tokens, and its parts."""
        labels = batch["labels"].tolist()
        number = [row for row, label in enumerate(labels) if label >= 0]
        texts, index = self._texts(batch), batch["index"].tolist()
        rows, scale = [], []
        for row in number:
            made = sequences(self.layout, self.pieces, texts[row], labels[row], self._reason_of(index[row]), self.label_share)
            rows += made
            weight = 1.0 if self.class_weight is None else float(self.class_weight[labels[row]])
            scale += [weight / len(number)] * len(made)
        if not rows:  # DDP waits for every weight's gradient
            idle = [parameter.sum() * 0 for parameter in self.model.parameters() if parameter.requires_grad]
            return {"loss": torch.stack(idle).sum()}
        self._check_length(max(len(row.ids) for row in rows))
        learnt = collate(rows)
        ids, mask = learnt.ids.to(self.device), learnt.mask.to(self.device)
        columns = learnt.label_weights.shape[1]
        logits = last_logits(self.model, ids, mask, columns + 1)[:, :-1]
        factor = torch.tensor(scale)[:, None]
        weights = [(each * factor).to(self.device) for each in (learnt.label_weights, learnt.reason_weights)]
        counts = (learnt.label_weights + learnt.reason_weights > 0).to(self.device)
        nll = F.cross_entropy(logits[counts].float(), ids[:, -columns:][counts], reduction="none")
        parts = [(nll * each[counts]).sum() for each in weights]
        found = {"loss": parts[0] + parts[1]}
        if self.layout != "label":
            found.update(label_loss=parts[0], reason_loss=parts[1])
        return found

    def _reason_of(self, row: int) -> Sequence[int]:
        known = self._reasons[row] if self._reasons else []
        return known[(self.current_epoch + row) % len(known)] if known else []

    # ---- answering

    def outputs(self, batch: Batch) -> Outputs:
        """Returns the labels' log-likelihoods, and the reasons where the layout decides with one."""
        texts = self._texts(batch)
        if self.layout != "reason_label":
            logits = self._likelihoods([[*text, *self.pieces.label_cue] for text in texts])
            return Outputs(batch["index"], logits, batch["labels"])
        prefixes = [[*text, *self.pieces.reason_cue] for text in texts]
        reasons = self._write(prefixes, self.samples)
        whole = [
            [*prefix, *reason, self.pieces.end, *self.pieces.label_cue]
            for prefix, drawn in zip(prefixes, reasons, strict=True)
            for reason in drawn
        ]
        each = self._likelihoods(whole).view(len(texts), self.samples, -1).log_softmax(-1)
        logits = each.logsumexp(1) - math.log(self.samples)
        # Of several reasons, the one that speaks most for what they decide together.
        best = each.gather(2, logits.argmax(1)[:, None, None].expand(-1, self.samples, 1))[:, :, 0].argmax(1).tolist()
        return Outputs(
            batch["index"],
            logits,
            batch["labels"],
            rationales=self._padded([drawn[chosen] for drawn, chosen in zip(reasons, best, strict=True)]),
        )

    def test_step(self, batch: Batch, batch_idx: int) -> Outputs:  # type: ignore[override]
        """Returns the outputs, with reasons if `explain`."""
        return self.explained(batch) if self.explain and self.explains else self.outputs(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """As `test_step`."""
        return self.explained(batch) if self.explain and self.explains else self.outputs(batch)

    @property
    def explains(self) -> bool:
        """Whether the layout has learnt to write reasons."""
        return self.layout != "label"

    def explained(self, batch: Batch) -> Outputs:
        """Returns the outputs with a reason for each row: the one that decided, or one written after the decision.

        Args:
            batch: B rows; the layout is not `label`.
        """
        found = self.outputs(batch)
        if self.layout == "reason_label":
            return found
        prefixes = self._texts(batch)
        if self.layout == "label_reason":
            p = probabilities(self.calibrator(found.logits), self.task)
            chosen = p.argmax(1) if self.decision is None else self.decision.decide(p)
            prefixes = [
                [*text, *self.pieces.label_cue, *self.pieces.labels[k]]
                for text, k in zip(prefixes, chosen.tolist(), strict=True)
            ]
        written = self._write([[*prefix, *self.pieces.reason_cue] for prefix in prefixes], 1)
        found.rationales = self._padded([drawn[0] for drawn in written])
        return found

    def rationale_texts(self, rationales: Tensor) -> list[str]:
        """Returns reasons (n, T) in words."""
        rows = [[token for token in row if token >= 0] for row in rationales.tolist()]
        return [" ".join(text.split()) for text in self.tokenizer.batch_decode(rows, skip_special_tokens=True)]

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, loaded when it is first needed."""
        if self._tokenizer is None:
            self._tokenizer = load_causal_tokenizer(self.hparams["encoder"])
        return self._tokenizer

    def _write(self, prefixes: list[list[int]], samples: int) -> list[list[list[int]]]:
        self._check_length(max(map(len, prefixes)) + self.max_reason_tokens)
        return sample(
            self.model, prefixes, [self.pieces.end], self.max_reason_tokens, self.temperature, samples, seed=self.seed
        )

    def _likelihoods(self, prefixes: list[list[int]]) -> Tensor:
        self._check_length(max(map(len, prefixes)) + max(map(len, self.pieces.labels)))
        return label_log_likelihood(self.model, [Candidates(p, self.pieces.labels) for p in prefixes], self.normalise)

    def _padded(self, reasons: list[list[int]]) -> Tensor:
        rows = [[*reason, *[-1] * (self.max_reason_tokens - len(reason))] for reason in reasons]
        return torch.tensor(rows, dtype=torch.long, device=self.device)

    def _texts(self, batch: Batch) -> list[list[int]]:
        lengths = batch["attention_mask"].sum(1).tolist()
        return [self.pieces.text(ids[:n]) for ids, n in zip(batch["input_ids"].tolist(), lengths, strict=True)]

    def _check_length(self, tokens: int) -> None:
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if limit is not None and tokens > limit:
            raise ConfigurationError(
                f"A text with its reason and label has {tokens} tokens, the model takes {limit}. Way out: a smaller "
                "data.max_length or max_reason_tokens."
            )


def _check(
    task: Task, label_share: float | None, max_reason_tokens: int, samples: int, temperature: float, epochs: int
) -> None:
    if task != "multiclass":
        raise ConfigurationError(
            f"task={task!r}: labels compete behind one text here, so exactly one applies. Way out: CausalLMScorer or fusion."
        )
    if label_share is not None and not 0 < label_share <= 1:
        raise ConfigurationError(f"label_share={label_share}: above 0 and at most 1, or null.")
    for name, number in {"max_reason_tokens": max_reason_tokens, "samples": samples, "epochs": epochs}.items():
        if number < 1:
            raise ConfigurationError(f"{name}={number}: give at least 1.")
    if temperature < 0 or (temperature == 0 and samples > 1):
        raise ConfigurationError(
            f"temperature={temperature}, samples={samples}: at temperature 0 all samples are one. Way out: temperature: 0.7."
        )
