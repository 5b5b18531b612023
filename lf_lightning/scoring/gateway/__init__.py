"""The gateway to providers: what is asked through it is asked once, paid once, never above the budget, and kept.

Names are resolved on first use, so that a scorer without a provider loads none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lf_lightning.lazy import lazy

if TYPE_CHECKING:
    from lf_lightning.scoring.gateway.answers import Answers as Answers
    from lf_lightning.scoring.gateway.answers import Estimate as Estimate
    from lf_lightning.scoring.gateway.answers import Failure as Failure
    from lf_lightning.scoring.gateway.answers import Progress as Progress
    from lf_lightning.scoring.gateway.gateway import Gateway as Gateway

_HOMES = dict.fromkeys(("Answers", "Estimate", "Failure", "Progress"), "lf_lightning.scoring.gateway.answers")
_HOMES["Gateway"] = "lf_lightning.scoring.gateway.gateway"

__all__ = ["Answers", "Estimate", "Failure", "Gateway", "Progress"]

__getattr__, __dir__ = lazy(__name__, _HOMES)
