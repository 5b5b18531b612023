"""Text classifiers that learn from LLMs, trained with Lightning.

Names are resolved on first use, so that `import lf_lightning` is instant and imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lf_lightning.data import ScoredTextDataModule as ScoredTextDataModule
    from lf_lightning.heads import FusionMLP as FusionMLP
    from lf_lightning.store import ScorerCard as ScorerCard
    from lf_lightning.store import ScoreStore as ScoreStore
    from lf_lightning.systems.fusion import FusionLightningModule as FusionLightningModule

__version__ = "0.1.0"

_HOMES = {
    "FusionLightningModule": "lf_lightning.systems.fusion",
    "FusionMLP": "lf_lightning.heads",
    "ScoreStore": "lf_lightning.store",
    "ScoredTextDataModule": "lf_lightning.data",
    "ScorerCard": "lf_lightning.store",
}

__all__ = ["FusionLightningModule", "FusionMLP", "ScoreStore", "ScoredTextDataModule", "ScorerCard", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
