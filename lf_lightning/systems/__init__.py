"""The systems: Lightning modules that all return `contract.Outputs`."""

from lf_lightning.systems.base import ClassifierModule
from lf_lightning.systems.cotraining import CoTrainingLightningModule
from lf_lightning.systems.fusion import FusionLightningModule
from lf_lightning.systems.rationale_writer import RationaleWriterModule
from lf_lightning.systems.reasoning import ReasoningLightningModule

__all__ = [
    "ClassifierModule",
    "CoTrainingLightningModule",
    "FusionLightningModule",
    "RationaleWriterModule",
    "ReasoningLightningModule",
]
