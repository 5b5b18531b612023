"""Asking a scorer only where it pays: what an opinion is worth before it is known, plans for a budget, cost-accuracy curves.

Sources: the value of information before it is bought, Howard 1966, "Information Value Theory"; a cascade of models in order of
price, Chen, Zaharia and Zou 2023, "FrugalGPT"; the area and the calls needed, Ong et al. 2024, "RouteLLM: Learning to Route
LLMs with Preference Data".
"""

from lf_lightning.deferral.base import Deferral, Fuse
from lf_lightning.deferral.curve import Curve, average_gain_recovered, calls_needed, cost_curve
from lf_lightning.deferral.expected_gain import ExpectedGain
from lf_lightning.deferral.learned_gain import LearnedGain
from lf_lightning.deferral.plan import Plan, order_of_asking, plan_for
from lf_lightning.deferral.uncertainty import RandomDeferral, Uncertainty
from lf_lightning.deferral.validation_rows import ValidationRows

__all__ = [
    "Curve",
    "Deferral",
    "ExpectedGain",
    "Fuse",
    "LearnedGain",
    "Plan",
    "RandomDeferral",
    "Uncertainty",
    "ValidationRows",
    "average_gain_recovered",
    "calls_needed",
    "cost_curve",
    "order_of_asking",
    "plan_for",
]
