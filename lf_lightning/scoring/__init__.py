"""Scorers: what turns texts into per-label probabilities for the score store. Training reads the store and never imports this.

Names are resolved on first use, so that a scorer without a model imports no transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lf_lightning.scoring.base import Scorer as Scorer
    from lf_lightning.scoring.base import Scores as Scores
    from lf_lightning.scoring.causal_lm import CausalLMScorer as CausalLMScorer
    from lf_lightning.scoring.sample import balanced_sample as balanced_sample
    from lf_lightning.scoring.stated import StatedLabelScorer as StatedLabelScorer
    from lf_lightning.scoring.stated import stated_scores as stated_scores

_HOMES = {
    "CausalLMScorer": "lf_lightning.scoring.causal_lm",
    "Scorer": "lf_lightning.scoring.base",
    "Scores": "lf_lightning.scoring.base",
    "StatedLabelScorer": "lf_lightning.scoring.stated",
    "balanced_sample": "lf_lightning.scoring.sample",
    "stated_scores": "lf_lightning.scoring.stated",
}

__all__ = ["CausalLMScorer", "Scorer", "Scores", "StatedLabelScorer", "balanced_sample", "stated_scores"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
