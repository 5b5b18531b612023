"""A fitted system without a Trainer: texts to calibrated probabilities and decisions, and as a scorer for other systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lf_lightning.lazy import lazy

if TYPE_CHECKING:
    from lf_lightning.predictor.fitted_run import FittedRun as FittedRun
    from lf_lightning.predictor.predictor import Predictor as Predictor
    from lf_lightning.predictor.scorer import FittedScorer as FittedScorer

_HOMES = {
    "FittedRun": "lf_lightning.predictor.fitted_run",
    "FittedScorer": "lf_lightning.predictor.scorer",
    "Predictor": "lf_lightning.predictor.predictor",
}

__all__ = ["FittedRun", "FittedScorer", "Predictor"]

__getattr__, __dir__ = lazy(__name__, _HOMES)
