"""Leaves a co-trained encoder as a folder that another system's `encoder` argument can name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from transformers import AutoTokenizer

from lf_lightning.contract import Batch
from lf_lightning.encoders import keep_classifier
from lf_lightning.pretrained import load_pretrained


class ExportEncoder(Callback):
    """Saves a net's encoder, classifier and tokenizer into the run folder as co-training leaves them, before fine-tuning.

    They have then learned from the LLM's labels, and from no gold label but through their weights: a fusion that begins with
    them can be cross-fitted on the gold rows. Does nothing in the fit of another system, and where co-training itself learns
    gold rows (`cotrain_rows` other than pool): what such an encoder says of them would be no evidence.

    Args:
        net: Which one, 1 or 2.
        folder: Name of the folder within the run folder.
    """

    def __init__(self, net: int = 1, folder: str = "encoder") -> None:
        self.net, self.folder = net, folder

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Saves before the first step after co-training."""
        system: Any = pl_module
        if batch_idx == 0 and hasattr(system, "is_cotrained") and system.is_cotrained(trainer.current_epoch):
            self._save(trainer, system)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves if co-training came last."""
        system: Any = pl_module
        progress: Any = trainer.fit_loop.epoch_progress.current
        if hasattr(system, "is_cotrained") and system.is_cotrained(progress.processed):
            self._save(trainer, system)

    def _save(self, trainer: Trainer, system: Any) -> None:
        if not trainer.is_global_zero:
            return
        if system.cotrain_rows != "pool":
            rank_zero_info(f"No encoder is exported: with cotrain_rows={system.cotrain_rows!r} it has learned gold labels.")
            return
        target = Path(trainer.default_root_dir) / self.folder
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        net = system.net(self.net - 1)
        net.encoder.model.save_pretrained(part)
        keep_classifier(part, net.classifier, system.labels, net.encoder.pooling)
        load_pretrained(AutoTokenizer, str(system.hparams["encoder"]), argument="encoder").save_pretrained(part)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
        rank_zero_info(f"The co-trained encoder: {target}")
