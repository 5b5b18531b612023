"""Reasons for labels, written offline: who writes them, which are kept, and how they come into a score store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lf_lightning.lazy import lazy

if TYPE_CHECKING:
    from lf_lightning.scoring.reasons.filters import Distinct as Distinct
    from lf_lightning.scoring.reasons.filters import LeadsToLabel as LeadsToLabel
    from lf_lightning.scoring.reasons.filters import ReasonFilter as ReasonFilter
    from lf_lightning.scoring.reasons.filters import RecoversLabel as RecoversLabel
    from lf_lightning.scoring.reasons.filters import Short as Short
    from lf_lightning.scoring.reasons.llm_writer import LLMWriter as LLMWriter
    from lf_lightning.scoring.reasons.local_writer import CausalLMWriter as CausalLMWriter
    from lf_lightning.scoring.reasons.writer import ReasonWriter as ReasonWriter

_FILTERS = "lf_lightning.scoring.reasons.filters"
_HOMES = {
    "CausalLMWriter": "lf_lightning.scoring.reasons.local_writer",
    "Distinct": _FILTERS,
    "LLMWriter": "lf_lightning.scoring.reasons.llm_writer",
    "LeadsToLabel": _FILTERS,
    "ReasonFilter": _FILTERS,
    "ReasonWriter": "lf_lightning.scoring.reasons.writer",
    "RecoversLabel": _FILTERS,
    "Short": _FILTERS,
}

__all__ = [
    "CausalLMWriter",
    "Distinct",
    "LLMWriter",
    "LeadsToLabel",
    "ReasonFilter",
    "ReasonWriter",
    "RecoversLabel",
    "Short",
]

__getattr__, __dir__ = lazy(__name__, _HOMES)
