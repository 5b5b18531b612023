"""Providers of models behind an interface: what is asked is sent once, what comes back is read; no retries, no cache, no money.

Names are resolved on first use; an SDK is imported by the first request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lf_lightning.lazy import lazy

if TYPE_CHECKING:
    from lf_lightning.scoring.providers.anthropic import Anthropic as Anthropic
    from lf_lightning.scoring.providers.base import Provider as Provider
    from lf_lightning.scoring.providers.base import ProviderError as ProviderError
    from lf_lightning.scoring.providers.batches import BatchInterface as BatchInterface
    from lf_lightning.scoring.providers.compatible import OpenAICompatible as OpenAICompatible
    from lf_lightning.scoring.providers.deepseek import DeepSeek as DeepSeek
    from lf_lightning.scoring.providers.gemini import Gemini as Gemini
    from lf_lightning.scoring.providers.openai import OpenAI as OpenAI

_HOMES = {
    "Anthropic": "lf_lightning.scoring.providers.anthropic",
    "BatchInterface": "lf_lightning.scoring.providers.batches",
    "DeepSeek": "lf_lightning.scoring.providers.deepseek",
    "Gemini": "lf_lightning.scoring.providers.gemini",
    "OpenAI": "lf_lightning.scoring.providers.openai",
    "OpenAICompatible": "lf_lightning.scoring.providers.compatible",
    "Provider": "lf_lightning.scoring.providers.base",
    "ProviderError": "lf_lightning.scoring.providers.base",
}

__all__ = ["Anthropic", "BatchInterface", "DeepSeek", "Gemini", "OpenAI", "OpenAICompatible", "Provider", "ProviderError"]

__getattr__, __dir__ = lazy(__name__, _HOMES)
