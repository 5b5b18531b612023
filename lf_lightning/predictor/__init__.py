"""A fitted system without a Trainer: texts to calibrated probabilities and decisions, and as a scorer for other systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lf_lightning.lazy import lazy

if TYPE_CHECKING:
    from lf_lightning.predictor.deferring import Deferring as Deferring
    from lf_lightning.predictor.ensemble import Ensemble as Ensemble
    from lf_lightning.predictor.fitted_run import FittedRun as FittedRun
    from lf_lightning.predictor.predictor import Predictor as Predictor
    from lf_lightning.predictor.promises import Promises as Promises
    from lf_lightning.predictor.promises import answer_or_abstain as answer_or_abstain
    from lf_lightning.predictor.promises import prediction_sets as prediction_sets
    from lf_lightning.predictor.saved_ensemble import load_system as load_system
    from lf_lightning.predictor.scorer import FittedScorer as FittedScorer

_HOMES = {
    "Deferring": "lf_lightning.predictor.deferring",
    "Ensemble": "lf_lightning.predictor.ensemble",
    "FittedRun": "lf_lightning.predictor.fitted_run",
    "FittedScorer": "lf_lightning.predictor.scorer",
    "Predictor": "lf_lightning.predictor.predictor",
    "Promises": "lf_lightning.predictor.promises",
    "answer_or_abstain": "lf_lightning.predictor.promises",
    "load_system": "lf_lightning.predictor.saved_ensemble",
    "prediction_sets": "lf_lightning.predictor.promises",
}

__all__ = [
    "Deferring",
    "Ensemble",
    "FittedRun",
    "FittedScorer",
    "Predictor",
    "Promises",
    "answer_or_abstain",
    "load_system",
    "prediction_sets",
]

__getattr__, __dir__ = lazy(__name__, _HOMES)
