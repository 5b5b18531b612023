"""The writer of reasons: a causal language model that learns to say why an answer answers a question (stage 1)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (the name that PyTorch's own documentation uses)
from torch.optim import AdamW

from lf_lightning.errors import ConfigurationError, NotFiniteError
from lf_lightning.likelihood import takes_a_mask
from lf_lightning.systems.base import Schedule, lr_factor
from lf_lightning.systems.causal_model import (
    activation_checkpoints,
    add_adapters,
    load_causal_model,
    load_causal_tokenizer,
    plain_config,
    save_plain,
)

FOLDER = "writer"


class RationaleWriterModule(LightningModule):
    """A causal language model fine-tuned on rows of question, answer and reason; only the reason is learnt.

    At the fit's end model and tokenizer lie in the run's folder `writer/`, adapters merged, as any library of language models
    reads them; `lf reason` does. Rows packed into one sequence do not see one another, and each counts its positions from 0.

    Args:
        encoder: Hub name, folder, .gguf file or `package:NAME/PATH` of a causal language model (its tokenizer is the data's).
        epochs: Epochs.
        lora_rank: Rank of LoRA adapters, which alone are trained then; 0: all weights are.
        lora_alpha: Scale of the adapters, over the rank.
        lora_dropout: Dropout before the adapters.
        lora_targets: Ends of the names of the layers with adapters; None: all linear layers.
        gradient_checkpointing: Recompute activations: less memory, about a third more time.
        lr: Learning rate (of LoRA adapters about ten times that of all weights).
        weight_decay: AdamW's, on matrices only.
        warmup: Share of the steps over which the learning rate rises.
        schedule: How it falls afterwards.
        seed: Fixes adapters and dropout.
        encoder_config: The model's configuration as plain values; then its weights are not loaded (checkpoints use it).
    """

    def __init__(
        self,
        encoder: str = "HuggingFaceTB/SmolLM2-135M",
        epochs: int = 1,
        lora_rank: int = 0,
        lora_alpha: int = 16,
        lora_dropout: float = 0.0,
        lora_targets: list[str] | None = None,
        gradient_checkpointing: bool = False,
        lr: float = 2e-5,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        schedule: Schedule = "cosine",
        seed: int = 0,
        encoder_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if epochs < 1:
            raise ConfigurationError(f"epochs={epochs}: give at least 1.")
        self.save_hyperparameters()
        self.model = load_causal_model(encoder, encoder_config)
        self.hparams["encoder_config"] = plain_config(self.model)
        if gradient_checkpointing:
            activation_checkpoints(self.model)
        if lora_rank:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                add_adapters(self.model, lora_rank, lora_alpha, lora_dropout, lora_targets)
        self.model.train()
        self.epochs, self.lr, self.weight_decay = epochs, lr, weight_decay
        self.warmup, self.schedule, self.seed = warmup, schedule, seed

    def setup(self, stage: str) -> None:
        """Sets the number of epochs, and has the rows of each epoch packed anew."""
        trainer: Any = self.trainer
        if stage == "fit" and not trainer.fast_dev_run:
            trainer.fit_loop.max_epochs = self.epochs
            warnings.filterwarnings("ignore", message=r"The number of training batches .* is smaller than the logging interval")
            trainer.reload_dataloaders_every_n_epochs = 1

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Sets learning rate and random state as functions of (seed, epoch, batch): a resumed run repeats them."""
        point = ((self.seed * 9973 + self.current_epoch) * 1_000_003 + batch_idx) * 4099 + self.global_rank
        torch.manual_seed(point % 2**63)
        progress = (self.current_epoch + (batch_idx + 0.5) / self.trainer.num_training_batches) / self.epochs
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.lr * lr_factor(progress, self.warmup, self.schedule)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the mean cross-entropy of the learnt tokens."""
        loss, tokens = self._loss(batch)
        if not torch.isfinite(loss.detach()):
            raise NotFiniteError(
                f"The loss is {float(loss)} in epoch {self.current_epoch}, batch {batch_idx}. Way out: a smaller lr, or "
                "trainer.gradient_clip_val: 1.0."
            )
        self.log("train/loss", loss.detach(), on_step=True, on_epoch=True, batch_size=tokens, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Logs `validation/nll`, nats for a token of the reasons."""
        loss, tokens = self._loss(batch)
        self.log("validation/nll", loss, batch_size=tokens, sync_dist=True, prog_bar=True)

    def _loss(self, batch: Any) -> tuple[Tensor, int]:
        ids, segments, targets = batch["input_ids"], batch["segments"], batch["targets"]
        mask = (segments > 0).long()
        if int(segments.max()) > 1:
            if not takes_a_mask(self.model, ids.shape[1]):
                raise ConfigurationError(
                    f"data.packing=True: the attention of {type(self.model).__name__} takes no mask of rows within a sequence. "
                    "Way out: data.packing: false."
                )
            mask = block_mask(segments, self.model.dtype)
        logits = self.model(input_ids=ids, attention_mask=mask, position_ids=batch["position_ids"], use_cache=False).logits
        learnt = targets[:, 1:] >= 0
        return F.cross_entropy(logits[:, :-1][learnt].float(), targets[:, 1:][learnt]), int(learnt.sum())

    def configure_optimizers(self) -> AdamW:
        """Returns AdamW; matrices decay, biases and norms do not."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        return AdamW([group for group in groups if group["params"]], lr=self.lr)

    def on_fit_end(self) -> None:
        """Writes `writer/` of the run's folder."""
        trainer: Any = self.trainer
        if trainer.is_global_zero and not trainer.fast_dev_run:
            save_plain(self.model, load_causal_tokenizer(self.hparams["encoder"]), Path(trainer.default_root_dir) / FOLDER)


def block_mask(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns what is added to attention, (B, 1, T, T): 0 where a token sees an earlier one of its own row, else the minimum.

    >>> block_mask(torch.tensor([[1, 1, 2]]), torch.float32)[0, 0] == 0
    tensor([[ True, False, False],
            [ True,  True, False],
            [False, False,  True]])

    Args:
        segments: (B, T), the number of each token's row.
        dtype: Of the model.
    """
    places = torch.arange(segments.shape[1], device=segments.device)
    seen = (segments[:, :, None] == segments[:, None, :]) & (places[:, None] >= places)
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
