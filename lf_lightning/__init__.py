"""Text classifiers that learn from LLMs, trained with Lightning.

Names are resolved on first use, so that `import lf_lightning` is instant and imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lf_lightning.lazy import lazy

if TYPE_CHECKING:
    from lf_lightning.auto import AutoFusionClassifier as AutoFusionClassifier
    from lf_lightning.data import ScoredTextDataModule as ScoredTextDataModule
    from lf_lightning.heads import FusionMLP as FusionMLP
    from lf_lightning.predictor import Predictor as Predictor
    from lf_lightning.store import ScorerCard as ScorerCard
    from lf_lightning.store import ScoreStore as ScoreStore
    from lf_lightning.systems.cotraining import CoTrainingLightningModule as CoTrainingLightningModule
    from lf_lightning.systems.fusion import FusionLightningModule as FusionLightningModule
    from lf_lightning.systems.reasoning import ReasoningLightningModule as ReasoningLightningModule

__version__ = "0.1.0"

_HOMES = {
    "AutoFusionClassifier": "lf_lightning.auto",
    "CoTrainingLightningModule": "lf_lightning.systems.cotraining",
    "FusionLightningModule": "lf_lightning.systems.fusion",
    "FusionMLP": "lf_lightning.heads",
    "Predictor": "lf_lightning.predictor",
    "ReasoningLightningModule": "lf_lightning.systems.reasoning",
    "ScoreStore": "lf_lightning.store",
    "ScoredTextDataModule": "lf_lightning.data",
    "ScorerCard": "lf_lightning.store",
}

__all__ = [
    "AutoFusionClassifier",
    "CoTrainingLightningModule",
    "FusionLightningModule",
    "FusionMLP",
    "Predictor",
    "ReasoningLightningModule",
    "ScoreStore",
    "ScoredTextDataModule",
    "ScorerCard",
    "__version__",
]

__getattr__, __dir__ = lazy(__name__, _HOMES)
