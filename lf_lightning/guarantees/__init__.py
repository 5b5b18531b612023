"""Promises that hold on new rows if these are exchangeable with the rows that they were fitted on, whatever the model is.

Sources: conformal prediction, Vovk, Gammerman and Shafer 2005, "Algorithmic Learning in a Random World"; LAC, Sadinle, Lei and
Wasserman 2019, "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels"; APS, Romano, Sesia and Candès 2020,
"Classification with Valid and Adaptive Coverage"; RAPS, Angelopoulos et al. 2021, "Uncertainty Sets for Image Classifiers using
Conformal Prediction"; conformal risk control, Angelopoulos et al. 2024; selective classification, Geifman and El-Yaniv 2017,
"Selective Classification for Deep Neural Networks"; Angelopoulos et al. 2021, "Learn then Test".
"""

from lf_lightning.guarantees.conformal import AdaptiveSets, LeastAmbiguousSets, PredictionSets, conformal_quantile
from lf_lightning.guarantees.risk_control import RecallSets
from lf_lightning.guarantees.selective import Abstention, confidence_of, error_upper_bound, least_confidence

__all__ = [
    "Abstention",
    "AdaptiveSets",
    "LeastAmbiguousSets",
    "PredictionSets",
    "RecallSets",
    "confidence_of",
    "conformal_quantile",
    "error_upper_bound",
    "least_confidence",
]
