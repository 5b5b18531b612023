"""Calibration of logits and decision thresholds: pure fits, and modules whose fitted state travels in the checkpoint.

Sources: temperature and vector scaling, Guo et al. 2017, "On Calibration of Modern Neural Networks"; sigmoid scaling, Platt
1999, "Probabilistic Outputs for Support Vector Machines"; isotonic regression, Zadrozny and Elkan 2002, "Transforming
Classifier Scores into Accurate Multiclass Probability Estimates"; beta calibration, Kull, Silva Filho and Flach 2017, "Beta
calibration: a well-founded and easily implemented improvement on logistic calibration for binary classifiers".
"""

from lf_lightning.calibration.beta import BetaCalibration, fit_beta
from lf_lightning.calibration.calibrators import Calibrator, IdentityCalibration, TemperatureScaling, VectorScaling
from lf_lightning.calibration.class_shares import share_shift, thinned_to
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
from lf_lightning.calibration.plug_in import PlugInDecision
from lf_lightning.calibration.thresholds import Thresholds, best_threshold

__all__ = [
    "BetaCalibration",
    "Calibrator",
    "IdentityCalibration",
    "IsotonicCalibration",
    "PlattScaling",
    "PlugInDecision",
    "TemperatureScaling",
    "Thresholds",
    "VectorScaling",
    "best_threshold",
    "fit_beta",
    "fit_isotonic",
    "fit_platt",
    "fit_temperature",
    "fit_vector",
    "log_probabilities",
    "one_vs_rest_log_odds",
    "probabilities",
    "share_shift",
    "thinned_to",
]
