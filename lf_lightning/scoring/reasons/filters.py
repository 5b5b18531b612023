"""Which reasons are kept. Each filter is a small class; another is one file with one subclass, named by `class_path`."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from lf_lightning.errors import ConfigurationError
from lf_lightning.generation import REASON_CUE
from lf_lightning.scoring.base import Scorer
from lf_lightning.store import Status


class Reasoned(NamedTuple):
    """A text with a reason.

    Attributes:
        text: The text.
        label: Its gold label; None: not known.
        reason: The reason.
    """

    text: str
    label: str | None
    reason: str


class ReasonFilter(ABC):
    """Says which reasons are good enough."""

    @property
    def name(self) -> str:
        """What counts of dropped reasons are headed with."""
        return type(self).__name__

    @property
    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """All that changes its verdicts, as plain values."""

    @abstractmethod
    def keep(self, rows: Sequence[Reasoned]) -> list[bool]:
        """Returns which of n reasons are kept."""

    def remember(self, reasons: Sequence[str]) -> None:  # noqa: B027  (most filters have no memory)
        """Told of the reasons that were kept, in this run and in those before."""


class Short(ReasonFilter):
    """Drops a reason of more than so many words, or of fewer.

    Args:
        most: Words.
        least: Words.
    """

    def __init__(self, most: int = 60, least: int = 3) -> None:
        if not 1 <= least <= most:
            raise ConfigurationError(f"least={least}, most={most}: at least 1, and least is not above most.")
        self.most, self.least = most, least

    @property
    def spec(self) -> dict[str, Any]:
        """The bounds."""
        return {"filter": "short", "most": self.most, "least": self.least}

    def keep(self, rows: Sequence[Reasoned]) -> list[bool]:
        """By the number of words."""
        return [self.least <= len(row.reason.split()) <= self.most for row in rows]


class Distinct(ReasonFilter):
    """Drops a reason that was given before, for whichever text: case, white space and punctuation aside."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    @property
    def spec(self) -> dict[str, Any]:
        """Nothing but its name."""
        return {"filter": "distinct"}

    def keep(self, rows: Sequence[Reasoned]) -> list[bool]:
        """The first of equal ones."""
        now: set[str] = set()
        kept = []
        for row in rows:
            key = _evened(row.reason)
            kept.append(key not in self._seen and key not in now)
            now.add(key)
        return kept

    def remember(self, reasons: Sequence[str]) -> None:
        """Never again."""
        self._seen.update(map(_evened, reasons))


class LeadsToLabel(ReasonFilter):
    """Keeps a reason behind which a scorer finds the gold label the most probable (STaR, arXiv 2203.14465).

    Args:
        scorer: Reads `text, cue, reason` and gives each label a probability, such as lf_lightning.scoring.CausalLMScorer.
        cue: What stands between text and reason.
    """

    def __init__(self, scorer: Scorer, cue: str = REASON_CUE) -> None:
        self.scorer, self.cue = scorer, cue

    @property
    def spec(self) -> dict[str, Any]:
        """The scorer by its card."""
        return {"filter": "leads_to_label", "scorer": self.scorer.card.fingerprint, "cue": self.cue}

    def keep(self, rows: Sequence[Reasoned]) -> list[bool]:
        """By the most probable label; a text without a known label is kept."""
        return _finds(self.scorer, rows, [f"{row.text}{self.cue} {row.reason}" for row in rows])


class RecoversLabel(ReasonFilter):
    """Keeps a reason from which alone, its label words masked, a scorer finds the gold label.

    So a reason that merely names the label is dropped, as is one that would do for any label.

    Args:
        scorer: Reads the masked reason and gives each label a probability.
        mask: Stands for each word of a label.
        words: Further words to mask, by label, such as its inflected forms.
    """

    def __init__(self, scorer: Scorer, mask: str = "___", words: dict[str, list[str]] | None = None) -> None:
        self.scorer, self.mask, self.words = scorer, mask, dict(words or {})

    @property
    def spec(self) -> dict[str, Any]:
        """The scorer by its card, and what is masked."""
        return {
            "filter": "recovers_label",
            "scorer": self.scorer.card.fingerprint,
            "mask": self.mask,
            "words": {label: list(words) for label, words in self.words.items()},
        }

    def keep(self, rows: Sequence[Reasoned]) -> list[bool]:
        """By the most probable label; a text without a known label is kept."""
        names = [*self.scorer.card.labels, *(word for words in self.words.values() for word in words)]
        return _finds(self.scorer, rows, [masked(row.reason, names, self.mask) for row in rows])


def masked(reason: str, names: Sequence[str], mask: str = "___") -> str:
    """Returns a reason with every name masked, whatever its case, as whole words that may go on with a usual ending.

    >>> masked("Joyful, so it is joy, not enjoyment.", ["joy"])
    '___, so it is ___, not enjoyment.'

    Args:
        reason: The reason.
        names: Label names; of one with several words each is masked where all stand together.
        mask: What stands for a name.
    """
    wanted = "|".join(re.escape(name) for name in sorted({name for name in names if name}, key=len, reverse=True))
    return re.sub(rf"(?<!\w)(?:{wanted})(?:s|es|ed|ing|ly|ful|fully)?(?!\w)", lambda _: mask, reason, flags=re.IGNORECASE)


def _finds(scorer: Scorer, rows: Sequence[Reasoned], texts: Sequence[str]) -> list[bool]:
    asked = [place for place, row in enumerate(rows) if row.label is not None]
    kept = [row.label is None for row in rows]
    if not asked:
        return kept
    labels = scorer.card.labels
    unknown = {rows[place].label for place in asked} - set(labels)
    if unknown:
        raise ConfigurationError(f"labels {sorted(map(str, unknown))} are none of scorer {scorer.card.name!r}: {labels}.")
    scores = scorer.score([texts[place] for place in asked])
    if scores.halt is not None:
        raise scores.halt
    for place, status, p in zip(asked, scores.status.tolist(), scores.probabilities, strict=True):
        kept[place] = status == Status.SCORED and labels[int(p.argmax())] == rows[place].label
    return kept


def _evened(reason: str) -> str:
    return " ".join(re.findall(r"\w+", reason.casefold()))
