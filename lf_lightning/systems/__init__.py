"""The systems: Lightning modules that all return `contract.Outputs`."""

from lf_lightning.systems.base import ClassifierModule
from lf_lightning.systems.fusion import FusionLightningModule

__all__ = ["ClassifierModule", "FusionLightningModule"]
