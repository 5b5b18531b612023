"""Calibration of logits and decision thresholds: pure fits, and modules whose fitted state travels in the checkpoint.

Sources: temperature and vector scaling, Guo et al. 2017, "On Calibration of Modern Neural Networks"; sigmoid scaling, Platt
1999, "Probabilistic Outputs for Support Vector Machines"; isotonic regression, Zadrozny and Elkan 2002, "Transforming
Classifier Scores into Accurate Multiclass Probability Estimates".
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lf_lightning.calibration.adjustment import LogitAdjustment
    from lf_lightning.calibration.calibrators import Calibrator, IdentityCalibration, TemperatureScaling, VectorScaling
    from lf_lightning.calibration.functional import (
        fit_isotonic,
        fit_platt,
        fit_temperature,
        fit_vector,
        log_probabilities,
        one_vs_rest_log_odds,
        probabilities,
    )
    from lf_lightning.calibration.one_vs_rest import IsotonicCalibration, PlattScaling
    from lf_lightning.calibration.thresholds import Thresholds, best_threshold

_HOME = {
    "Calibrator": "calibrators",
    "IdentityCalibration": "calibrators",
    "IsotonicCalibration": "one_vs_rest",
    "PlattScaling": "one_vs_rest",
    "TemperatureScaling": "calibrators",
    "LogitAdjustment": "adjustment",
    "Thresholds": "thresholds",
    "VectorScaling": "calibrators",
    "best_threshold": "thresholds",
    "fit_isotonic": "functional",
    "fit_platt": "functional",
    "fit_temperature": "functional",
    "fit_vector": "functional",
    "log_probabilities": "functional",
    "one_vs_rest_log_odds": "functional",
    "probabilities": "functional",
}

__all__ = [
    "Calibrator",
    "IdentityCalibration",
    "IsotonicCalibration",
    "LogitAdjustment",
    "PlattScaling",
    "TemperatureScaling",
    "Thresholds",
    "VectorScaling",
    "best_threshold",
    "fit_isotonic",
    "fit_platt",
    "fit_temperature",
    "fit_vector",
    "log_probabilities",
    "one_vs_rest_log_odds",
    "probabilities",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
