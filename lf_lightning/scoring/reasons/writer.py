"""What writes reasons, and what it is asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lf_lightning.errors import LFError
from lf_lightning.scoring.base import Advance
from lf_lightning.scoring.gateway.answers import Estimate

UNANSWERED = "unanswered"
"""In a note: no answer came, so that the next run asks again."""


class Asked(NamedTuple):
    """A reason that is wanted.

    Attributes:
        text: The text.
        label: The label that the writer is shown; None: it is shown none.
        sample: Number of the reason, where a text gets several.
    """

    text: str
    label: str | None = None
    sample: int = 0


@dataclass
class Written:
    """What was written for n `Asked`.

    Attributes:
        reasons: n reasons, None where there is none.
        notes: n notes (tokens, `reason` why there is none, `UNANSWERED`), plain values.
        halt: Why the writer stopped before all were done.
    """

    reasons: list[str | None]
    notes: list[dict[str, Any]]
    halt: LFError | None = None


class ReasonWriter(ABC):
    """Writes reasons. Cheap to construct; a new one is one file with one subclass, named by `class_path`.

    Attributes:
        max_cost: USD that its replies may cost altogether; None: no limit.
        watch: Told in a few words how far it is and what it costs.
    """

    max_cost: float | None = None
    watch: Callable[[str], object] | None = None

    @property
    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """All that changes a reason and nothing that does not, as plain values."""

    @abstractmethod
    def write(self, asked: Sequence[Asked], advance: Advance | None = None) -> Written:
        """Returns reasons, on one line each.

        Args:
            asked: What is wanted.
            advance: Told how many more are done.
        """

    def estimate(self, asked: Sequence[Asked]) -> Estimate | None:
        """Returns what `write` would cost, without asking anyone; None: nothing."""
        return None
