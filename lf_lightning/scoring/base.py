"""What every scorer is: a card that says who answers and how, and texts in, probabilities out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lf_lightning.errors import LFError
from lf_lightning.scoring.gateway.answers import Estimate
from lf_lightning.store import ScorerCard, ScoreStore, Status

Advance = Callable[[int], object]
"""Told how many more texts are done, for a progress bar."""
NOT_ASKED = "not asked"
"""The `reason` of an `ABSENT` row that was not tried, because the run stopped before or asks for nothing."""


@dataclass(frozen=True)
class Scores:
    """A scorer's opinion of n texts over K labels.

    Attributes:
        probabilities: (n, K) float32 in [0, 1]; multi-class rows sum to 1; 0 in rows that are not `SCORED`.
        status: (n,) uint8 of `Status`; `ABSENT` where the scorer has nothing to say and may be asked again.
        rationales: n reasons in words, None where there is none; or None for all.
        usage: n notes of what an answer cost or lost (tokens, `dropped_tokens`, the `reason` why there is no score), plain
            values; or None for all.
        halt: Why the scorer stopped before all texts were done; what it has done is in the rows, the others are `ABSENT`.
    """

    probabilities: NDArray[np.float32]
    status: NDArray[np.uint8]
    rationales: list[str | None] | None = None
    usage: list[dict[str, Any] | None] | None = None
    halt: LFError | None = None

    def __post_init__(self) -> None:
        if self.probabilities.ndim != 2 or self.status.shape != self.probabilities.shape[:1]:
            raise ValueError(f"probabilities {self.probabilities.shape} and status {self.status.shape} do not match.")

    @classmethod
    def where_finite(cls, probabilities: NDArray[np.floating[Any]], usage: list[dict[str, Any] | None] | None = None) -> Scores:
        """Returns scores in which a row that is not finite is `UNPARSED` and 0.

        Args:
            probabilities: (n, K).
            usage: As above.
        """
        finite = np.isfinite(probabilities).all(1)
        status = np.where(finite, int(Status.SCORED), int(Status.UNPARSED)).astype(np.uint8)
        return cls(np.where(finite[:, None], probabilities, 0.0).astype(np.float32), status, usage=usage)

    def keep_in(self, store: ScoreStore, card: ScorerCard, texts: Sequence[str], *, replace: bool = False) -> int:
        """Appends to a store the rows that are not `ABSENT`, with their reasons and notes; returns how many it changed.

        Args:
            store: Where to.
            card: The scorer's.
            texts: The n texts.
            replace: Whether other values of a text take the place of those in the store, instead of being refused.

        Raises:
            StoreError: As `ScoreStore.append`.
        """
        kept = np.flatnonzero(self.status != Status.ABSENT).tolist()
        if not kept:
            return 0
        return store.append(
            card,
            [texts[place] for place in kept],
            self.probabilities[kept],
            self.status[kept],
            self.rationales and [self.rationales[place] for place in kept],
            self.usage and [self.usage[place] for place in kept],
            replace=replace,
        )


class Scorer(ABC):
    """Anything that turns texts into per-label probabilities: a local LM, a provider's model, a table, a fitted system.

    A new one is one file with one subclass, named by `class_path` in the YAML. It is cheap to construct: weights are
    loaded and connections opened by the first `score`, so that nothing of the kind happens where all is in the store.

    Attributes:
        shard_size: Texts between two writes to the store, where the caller has no wish.
        max_cost: USD that the replies at rest and the ones to come may have cost altogether; None: no limit.
        offline: Answer from replies that were paid for already, and ask for nothing; what has none is `ABSENT`.
        watch: Told in a few words how far it is and what it costs, some times a second, maybe from another thread.
    """

    shard_size: int = 500
    max_cost: float | None = None
    offline: bool = False
    watch: Callable[[str], object] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Copied without what was loaded, rendered or opened, and without who watches: a copy makes its own."""
        made = {name for kind in type(self).__mro__ for name, value in vars(kind).items() if isinstance(value, cached_property)}
        return {name: value for name, value in self.__dict__.items() if name not in made and name != "watch"}

    def for_workers(self, workers: int) -> Scorer:
        """Returns the scorer for each of so many processes, to be pickled; limits of this one hold for all of them together.

        Args:
            workers: How many processes there will be.

        Raises:
            ConfigurationError: It cannot be divided.
        """
        return copy(self)

    @property
    @abstractmethod
    def card(self) -> ScorerCard:
        """The identity under which scores are kept: its spec holds all that changes an answer and nothing that does not."""

    @abstractmethod
    def score(self, texts: Sequence[str], advance: Advance | None = None) -> Scores:
        """Returns the opinion of n texts, in their order. A text's score does not depend on the other texts.

        A text that fails is marked by its status and does not stop the rest.

        Args:
            texts: n texts, any strings.
            advance: Called with the number of texts done since its last call.
        """

    def estimate(self, texts: Sequence[str]) -> Estimate | None:
        """Returns what it would take to score n texts, without asking anyone; None: this scorer costs nothing.

        Args:
            texts: n texts, any strings.
        """
        return None
