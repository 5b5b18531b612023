"""Scorers: what turns texts into per-label probabilities for the score store. Training reads the store and never imports this.

Names are resolved on first use, so that a scorer without a model imports no transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lf_lightning.lazy import lazy

if TYPE_CHECKING:
    from lf_lightning.scoring.base import Scorer as Scorer
    from lf_lightning.scoring.base import Scores as Scores
    from lf_lightning.scoring.causal_lm import CausalLMScorer as CausalLMScorer
    from lf_lightning.scoring.elicitation.label import Label as Label
    from lf_lightning.scoring.elicitation.logprob import Logprob as Logprob
    from lf_lightning.scoring.elicitation.verbalized import Verbalized as Verbalized
    from lf_lightning.scoring.elicitation.vote import Vote as Vote
    from lf_lightning.scoring.examples import FixedExamples as FixedExamples
    from lf_lightning.scoring.examples import RandomExamples as RandomExamples
    from lf_lightning.scoring.llm import LLMScorer as LLMScorer
    from lf_lightning.scoring.nearest import NearestExamples as NearestExamples
    from lf_lightning.scoring.nli import ZeroShotNLIScorer as ZeroShotNLIScorer
    from lf_lightning.scoring.sample import balanced_sample as balanced_sample
    from lf_lightning.scoring.stated import StatedLabelScorer as StatedLabelScorer
    from lf_lightning.scoring.stated import stated_scores as stated_scores

_HOMES = {
    "CausalLMScorer": "lf_lightning.scoring.causal_lm",
    "FixedExamples": "lf_lightning.scoring.examples",
    "LLMScorer": "lf_lightning.scoring.llm",
    "Label": "lf_lightning.scoring.elicitation.label",
    "Logprob": "lf_lightning.scoring.elicitation.logprob",
    "NearestExamples": "lf_lightning.scoring.nearest",
    "RandomExamples": "lf_lightning.scoring.examples",
    "Scorer": "lf_lightning.scoring.base",
    "Scores": "lf_lightning.scoring.base",
    "StatedLabelScorer": "lf_lightning.scoring.stated",
    "Verbalized": "lf_lightning.scoring.elicitation.verbalized",
    "Vote": "lf_lightning.scoring.elicitation.vote",
    "ZeroShotNLIScorer": "lf_lightning.scoring.nli",
    "balanced_sample": "lf_lightning.scoring.sample",
    "stated_scores": "lf_lightning.scoring.stated",
}

__all__ = [
    "CausalLMScorer",
    "FixedExamples",
    "LLMScorer",
    "Label",
    "Logprob",
    "NearestExamples",
    "RandomExamples",
    "Scorer",
    "Scores",
    "StatedLabelScorer",
    "Verbalized",
    "Vote",
    "ZeroShotNLIScorer",
    "balanced_sample",
    "stated_scores",
]

__getattr__, __dir__ = lazy(__name__, _HOMES)
