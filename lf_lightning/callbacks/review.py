"""What co-training found out about the LLM's labels: a list to review by hand, and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lf_lightning.callbacks.judging import label_cells, original_rows, texts_of
from lf_lightning.callbacks.plots import FOLDER, phase_name, save
from lf_lightning.results.predictions import write_table

LIST = "likely_mislabelled.csv"
TOGETHER = "co-train"
"""The phase in which both nets see the same rows."""


class ReviewLabels(Callback):
    """Writes `likely_mislabelled.csv`, `plots/weights.png` and `plots/agreement.png` after a fit of co-training.

    The list holds the unlabelled rows whose LLM label the nets trusted least while they learned, the most doubtful first, with
    what the fitted pair says instead. The plot of weights is of validation rows, whose truth is known and on which no net was
    trained: what the nets said of the LLM's labels there, epoch by epoch, is weighed as that of train rows is. Needs
    `CollectOutputs` before it; does nothing in the fit of another system.

    Args:
        rows: Number of rows in the list; 0: all.
        texts: Whether the list shows the texts.
    """

    def __init__(self, rows: int = 200, texts: bool = True) -> None:
        self.rows, self.texts = rows, texts
        self.agreement: list[dict[str, Any]] = []
        """One entry an epoch, plain values."""
        self.said: list[Tensor] = []
        """Of each epoch before fine-tuning, what the nets said (N, nets) of the LLM's labels of the N validation rows."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes what the nets say of the validation rows."""
        system: Any = pl_module
        outputs = system.evaluated.get("validation") if hasattr(system, "evaluated") else None
        if trainer.state.fn != "fit" or trainer.sanity_checking or outputs is None or not hasattr(system, "label_review"):
            return
        names = [name for name in system.net_names if name in outputs.members]
        if len(names) == 2:
            logits = torch.stack([outputs.members[name] for name in names], 1)
            same = logits.argmax(-1) if system.task == "multiclass" else logits > 0
            epoch, phase = trainer.current_epoch, phase_name(pl_module, trainer.current_epoch)
            self.agreement = [
                *(kept for kept in self.agreement if kept["epoch"] < epoch),
                {"epoch": epoch, "phase": phase, "validation": float((same[:, 0] == same[:, 1]).float().mean()), "train": None},
            ]
            if system.weighs_epoch(epoch):
                self.said.append(system.said_of("validation", outputs.index, logits))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes how far the nets agreed on the rows that they were trained on."""
        value = trainer.callback_metrics.get("train/agreement_epoch")
        entry = self.agreement[-1] if self.agreement else {"epoch": -1, "phase": ""}
        if value is not None and entry["epoch"] == trainer.current_epoch and entry["phase"] == TOGETHER:
            entry["train"] = float(value)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the list and draws the figures."""
        system: Any = pl_module
        review = system.label_review() if hasattr(system, "label_review") else None  # a pass that all ranks make
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        if review is not None:
            write_table(folder / LIST, self._columns(trainer, system, review))
        if self.agreement:
            from lf_lightning.figures import net_agreement

            save(net_agreement(self.agreement), folder / FOLDER / "agreement.png")
        if self.said:
            self._draw_weights(system, folder)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors for the checkpoint."""
        return {"agreement": self.agreement, "said": self.said}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them back."""
        self.agreement, self.said = state_dict["agreement"], state_dict["said"]

    def _columns(self, trainer: Trainer, system: Any, review: Any) -> dict[str, list[Any]]:
        order = review.confidence.mean(-1).argsort(stable=True)[: self.rows or None]
        index = review.rows[order].numpy()
        texts = texts_of(trainer, "train", index) if self.texts else None
        p, said = review.probabilities[order].double(), review.labels[order]
        multiclass = system.task == "multiclass"
        given = (said.argmax(-1) if said.ndim == 2 else said) if multiclass else (said >= 0.5).long()
        found = p.argmax(-1) if multiclass else (p >= 0.5).long()
        columns: dict[str, list[Any]] = {"row": original_rows(trainer, "train", index)}
        if texts is not None:
            columns["text"] = list(texts)
        columns["llm_label"] = label_cells(given.numpy(), system.labels)
        columns["llm_confidence"] = _rounded(review.stated[order])
        columns["nets_label"] = label_cells(found.numpy(), system.labels)
        columns["nets_probability"] = _rounded(p.amax(-1) if multiclass else torch.maximum(p, 1 - p).mean(-1))
        for k in range(review.confidence.shape[1]):
            columns[f"confidence_{k + 1}"] = _rounded(review.confidence[order, k])
            columns[f"variability_{k + 1}"] = _rounded(review.variability[order, k])
        return columns

    def _draw_weights(self, system: Any, folder: Path) -> None:
        from lf_lightning.figures import weights_by_truth

        right, stated, weights = system.weights_against_truth("validation", torch.stack(self.said))
        known = right >= 0
        if not known.any():
            return
        scores = {f"weight for net {k + 1}": column.double().numpy() for k, column in enumerate(weights[known].unbind(1))}
        scores["what the LLM stated"] = stated[known].double().numpy()
        save(weights_by_truth(scores, np.asarray(right[known].numpy() == 1)), folder / FOLDER / "weights.png")


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.double().tolist()]
