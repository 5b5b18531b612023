"""Saves a run's figures under `plots/`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lf_lightning.callbacks.comparing import REFERENCES, best_members, friendly
from lf_lightning.callbacks.deferral import cost_curves
from lf_lightning.callbacks.judging import SYSTEM, Figures, Judged, figures_of, judge
from lf_lightning.callbacks.metrics import last_validation
from lf_lightning.metrics import per_label
from lf_lightning.results import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "plots"
_CURVES = ("validation/nll", "validation/accuracy", "validation/macro_f1")


class SavePlots(Callback):
    """Saves `learning_curves.png` after a fit; `confusion_matrix.png`, `reliability.png` and `per_label_f1.png` after a test.

    Multi-label tasks get found, missed and wrongly given rows of each label in the place of the confusion matrix. A system that
    knows what asking its scorers is worth gets `cost_accuracy.png`, too.
    """

    def __init__(self) -> None:
        self.history: list[dict[str, Any]] = []
        """One entry an epoch, plain values; travels in checkpoints, so that a resumed fit draws all of its epochs."""
        self._validated = False

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes that this epoch has validation values of its own."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the epoch's values."""
        metrics, epoch = trainer.callback_metrics, trainer.current_epoch
        row: dict[str, Any] = {"epoch": epoch, "phase": phase_name(pl_module, epoch)}
        loss = metrics.get("train/loss_epoch", metrics.get("train/loss"))
        row["train_loss"] = None if loss is None else float(loss)
        row |= {key: float(metrics[key]) for key in _CURVES if self._validated and key in metrics}
        self.history = [*(kept for kept in self.history if kept["epoch"] < epoch), row]
        self._validated = False

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the learning curves."""
        if trainer.is_global_zero and self.history:
            from lf_lightning.figures import learning_curves

            save(learning_curves(self.history), _folder(trainer) / "learning_curves.png")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws what the test says."""
        judged = judge(pl_module, "test") if trainer.is_global_zero else None
        if judged is not None and judged.labelled.any():
            figures = figures_of_test(judged, last_validation(trainer), type(pl_module).__name__)
            if curves := cost_curves(pl_module, "test"):
                from lf_lightning.figures import cost_accuracy

                alone = figures_of(judged)["encoder"]["accuracy"]
                lines = {name: (curve["cost"], curve["accuracy"]) for name, curve in curves.items()}
                figures["cost_accuracy"] = cost_accuracy(lines, encoder=alone)
            for name, figure in figures.items():
                save(figure, _folder(trainer) / f"{name}.png")

    def state_dict(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them back."""
        self.history = state_dict["history"]


def figures_of_test(judged: Judged, validation: Figures, system: str) -> dict[str, Figure]:
    """Returns the figures of a test by file name.

    Args:
        judged: With a labelled row.
        validation: Figures that tell the best scorer; where empty, the test rows do.
        system: Class name of the system.
    """
    from lf_lightning.figures import confusion_matrix, label_counts, per_label_f1, reliability

    rows, k = judged.labelled, len(judged.labels)
    made, truth = judged.system.decisions[rows], judged.truth[rows]
    chosen = [SYSTEM, *(["encoder"] if "encoder" in judged.members else []), *_best_scorer(judged, validation)]
    f1 = {}
    for name in chosen:
        opinion = judged.opinions[name]
        own = rows & opinion.known
        if own.any():
            f1[friendly(name, system)] = per_label(opinion.decisions[own], judged.truth[own], k)["f1"].tolist()
    support = per_label(made, truth, k)["support"].tolist()
    return {
        "confusion_matrix": (confusion_matrix if judged.task == "multiclass" else label_counts)(made, truth, judged.labels),
        "reliability": reliability(judged.uncalibrated[rows], judged.system.probabilities[rows], truth, judged.task),
        "per_label_f1": per_label_f1(f1, support, judged.labels),
    }


def phase_name(module: Any, epoch: int) -> str:
    """Returns the name of the phase that holds an epoch, `fit` for a module without phases."""
    phase_of = getattr(module, "phase_of", None)
    return str(phase_of(epoch)[1].name) if callable(phase_of) else "fit"


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, in one step."""
    with atomic_file(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})


def _best_scorer(judged: Judged, validation: Figures) -> list[str]:
    scorers = {name for name in judged.members if name != "encoder" and name not in REFERENCES}
    for figures in (validation, figures_of(judged)):
        best = best_members({name: values for name, values in figures.items() if name in scorers})
        if best:
            return [best["macro_f1"]]
    return []


def _folder(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / FOLDER
