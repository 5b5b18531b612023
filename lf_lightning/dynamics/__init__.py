"""Training dynamics: what nets say of labels epoch by epoch, and weights that follow from it (LG-CoTrain, arXiv 2509.16516)."""

from lf_lightning.dynamics.functional import agreement, even_by_label, margin, swapped_weights
from lf_lightning.dynamics.history import History
from lf_lightning.dynamics.pruning import CleanlabPruning
from lf_lightning.dynamics.weightings import (
    AreaUnderMargin,
    Confidence,
    Dynamics,
    Halves,
    SmallLoss,
    StatedConfidence,
    SwappedDynamics,
    Uniform,
    Weighting,
)

__all__ = [
    "AreaUnderMargin",
    "CleanlabPruning",
    "Confidence",
    "Dynamics",
    "Halves",
    "History",
    "SmallLoss",
    "StatedConfidence",
    "SwappedDynamics",
    "Uniform",
    "Weighting",
    "agreement",
    "even_by_label",
    "margin",
    "swapped_weights",
]
