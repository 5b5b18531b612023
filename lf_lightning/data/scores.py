"""Scores of a split, joined from the store by text; a row that was not scored is never a row of zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lf_lightning.errors import ConfigurationError, ScoreMismatchError
from lf_lightning.packaged import locate
from lf_lightning.store import ScoreStore, Status

OnMissing = Literal["error", "mask", "drop"]


@dataclass
class SplitScores:
    """Scores of n rows by M scorers over K labels.

    Attributes:
        scores: (n, M, K) float32 in [0, 1], 0 where not scored.
        scored: (n, M) bool.
        status: (n, M) uint8, values of `Status`.
    """

    scores: NDArray[np.float32]
    scored: NDArray[np.bool_]
    status: NDArray[np.uint8]

    def where(self, mask: NDArray[np.bool_]) -> SplitScores:
        """Returns the rows in which `mask` (n,) is True."""
        return SplitScores(self.scores[mask], self.scored[mask], self.status[mask])

    def counts(self, scorers: Sequence[str]) -> dict[str, dict[str, int]]:
        """Returns for each scorer the rows by status, names in lower case."""
        return {
            name: {status.name.lower(): int((self.status[:, m] == status).sum()) for status in Status}
            for m, name in enumerate(scorers)
        }


class ScoreSource:
    """The store and the scorers whose scores are joined; opened on first use.

    Args:
        path: Folder of a score store, `package:` allowed, or None for no scores (M = 0).
        scorers: Names or fingerprints of the M scorers; None: all in the store.
        on_missing: What becomes of rows that a scorer did not score.

    Raises:
        ConfigurationError: Scorers are named without a store.
    """

    def __init__(self, path: str | None, scorers: Sequence[str] | None, on_missing: OnMissing) -> None:
        if path is None and scorers:
            raise ConfigurationError(f"scorers={list(scorers)!r} without a store. Way out: scores: the store's folder.")
        self.path = path
        self.on_missing = on_missing
        self._names = [] if path is None else None if scorers is None else list(scorers)
        self._opened: ScoreStore | None = None

    @property
    def fingerprints(self) -> dict[str, str]:
        """The scorers' fingerprints by their names."""
        return {name: self._store.resolve(name) for name in self.names}

    @property
    def names(self) -> list[str]:
        """The M scorers as given; else the store's names in alphabetical order, or fingerprints where two share a name."""
        if self._names is None:
            cards = self._store.cards
            names = sorted(card.name for card in cards.values())
            self._names = names if len(set(names)) == len(names) else sorted(cards)
        return list(self._names)

    def join(self, texts: Sequence[str], labels: Sequence[str], may_be_strangers: bool) -> SplitScores:
        """Returns the scores of n texts.

        Args:
            texts: n exact texts.
            labels: K label names in order.
            may_be_strangers: Whether a scorer may know none of the texts (all `absent` then): so for new texts to predict,
                where it would be a mistake in train.

        Raises:
            ScoreMismatchError: A scorer has other labels, or knows none of the texts.
            StoreError: Unknown scorer, or a damaged shard.
        """
        shape = (len(texts), len(self.names))
        joined = SplitScores(
            np.zeros((*shape, len(labels)), dtype=np.float32), np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.uint8)
        )
        known = list(range(len(self.names)))
        if may_be_strangers:
            known = [m for m in known if len(self._store.missing(self.names[m], texts)) < len(texts)]
        if known:
            found = self._store.join(texts, [self.names[m] for m in known], labels)
            joined.scores[:, known], joined.scored[:, known], joined.status[:, known] = found.scores, found.scored, found.status
        return joined

    def rationales(self, texts: Sequence[str], part: bool = False) -> dict[str, list[str | None]]:
        """Returns the reasons that each scorer gave for n texts, None where it gave none; scorers without any are left out.

        Args:
            texts: n texts.
            part: The texts are a part of a table: only scorers without any in the whole store are left out, so that all parts
                have the same columns.
        """
        found = {name: self._store.rationales(name, texts) for name in self.names if self._store.has_rationales(name)}
        return {name: reasons for name, reasons in found.items() if part or any(reasons)}

    def costs(self, texts: Sequence[str]) -> dict[str, dict[str, float | None]]:
        """Returns what each scorer's answers about these texts took, equal texts counted once.

        Returns:
            `texts` that it was asked about; `input_tokens`, `output_tokens` and `cost_usd`, each None unless the store notes it
            of every one of them.
        """
        found: dict[str, dict[str, float | None]] = {}
        for name in self.names:
            absent = {texts[place] for place in self._store.missing(name, texts)}
            asked = [text for text in dict.fromkeys(texts) if text not in absent]
            notes = self._store.usage(name, asked)
            found[name] = {"texts": len(asked)}
            for key in ("input_tokens", "output_tokens", "cost_usd"):
                known = [note[key] for note in notes if note is not None and key in note]
                found[name][key] = sum(known) if known and len(known) == len(notes) else None
        return found

    @property
    def _store(self) -> ScoreStore:
        if self._opened is None:
            self._opened = ScoreStore(locate(self.path or ""))
        return self._opened


def rows_to_keep(scores: SplitScores, scorers: Sequence[str], on_missing: OnMissing, where: str) -> NDArray[np.bool_]:
    """Returns (n,) bool: which rows stay under the policy; with `drop` those that every scorer scored, else all.

    Raises:
        ScoreMismatchError: The policy is `error` and a row is not scored; the message counts the rows by status.
    """
    if on_missing == "error" and not scores.scored.all():
        lacking = [
            f"{name!r}: "
            + ", ".join(f"{number} {status}" for status, number in counts.items() if number and status != "scored")
            for name, counts in scores.counts(scorers).items()
            if counts["scored"] < len(scores.scored)
        ]
        way_out = (
            "--data.on_missing mask, and the encoder decides where no scorer has an opinion; or have these texts scored first "
            "(lf score)"
            if where == "predict"
            else "score them (lf score), or on_missing: mask or drop"
        )
        raise ScoreMismatchError(
            f"on_missing='error': of the {len(scores.scored)} rows of {where}, not scored by {'; '.join(lacking)}. "
            f"Way out: {way_out}."
        )
    return np.logical_or(on_missing != "drop", scores.scored.all(axis=1))
