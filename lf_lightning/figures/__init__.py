"""Figures of an evaluation, as matplotlib figures without a window: nothing here is shown or saved."""

from lf_lightning.figures.canvas import printable
from lf_lightning.figures.curves import learning_curves
from lf_lightning.figures.evaluation import confusion_matrix, label_counts, per_label_f1, reliability

__all__ = ["confusion_matrix", "label_counts", "learning_curves", "per_label_f1", "printable", "reliability"]
