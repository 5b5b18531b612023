"""Figures of an evaluation, as matplotlib figures without a window: nothing here is shown or saved."""

from lf_lightning.figures.canvas import printable
from lf_lightning.figures.costs import cost_accuracy
from lf_lightning.figures.curves import learning_curves
from lf_lightning.figures.dynamics import net_agreement, weights_by_truth
from lf_lightning.figures.evaluation import confusion_matrix, label_counts, per_label_f1, reliability

__all__ = [
    "confusion_matrix",
    "cost_accuracy",
    "label_counts",
    "learning_curves",
    "net_agreement",
    "per_label_f1",
    "printable",
    "reliability",
    "weights_by_truth",
]
