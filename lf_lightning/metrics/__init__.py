"""Evaluation: numbers of decisions and probabilities, their intervals and paired tests. NumPy arrays or tensors in, floats out.

Conventions: (n,) integers are multi-class, (n, K) tables of 0 and 1 multi-label; F1 counts as scikit-learn does with
`zero_division=0`; NaN is refused, and so is a row without a label: leave those out first.
"""

from lf_lightning.metrics.decisions import accuracy, f1, per_label
from lf_lightning.metrics.probabilistic import brier, ece, ece_floor, nll, reliability_curve, roc_auc
from lf_lightning.metrics.resampling import bootstrap_interval, mcnemar, paired_bootstrap
from lf_lightning.metrics.summary import decide, evaluate

__all__ = [
    "accuracy",
    "bootstrap_interval",
    "brier",
    "decide",
    "ece",
    "ece_floor",
    "evaluate",
    "f1",
    "mcnemar",
    "nll",
    "paired_bootstrap",
    "per_label",
    "reliability_curve",
    "roc_auc",
]
