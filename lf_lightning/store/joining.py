"""The join: scores of texts by content, as arrays."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lf_lightning.errors import ConfigurationError, ScoreMismatchError
from lf_lightning.store.cards import ScorerCard, Status
from lf_lightning.store.keys import Keys
from lf_lightning.store.rows import ScorerRows


@dataclass(frozen=True, eq=False)
class Joined:
    """Scores of N texts by M scorers over K labels, in the order asked for.

    Attributes:
        scores: (N, M, K) float32 in [0, 1]; 0 where not scored.
        scored: (N, M) bool.
        status: (N, M) uint8, values of `Status`.
        names: The M scorers' names.
        fingerprints: The M scorers' fingerprints.
    """

    scores: NDArray[np.float32]
    scored: NDArray[np.bool_]
    status: NDArray[np.uint8]
    names: tuple[str, ...]
    fingerprints: tuple[str, ...]


def column_order(card: ScorerCard, labels: Sequence[str]) -> list[int] | None:
    """Returns for each of K labels its column among the scorer's, None if the orders are the same.

    Raises:
        ConfigurationError: A label is named twice.
        ScoreMismatchError: The two label sets differ.
    """
    if tuple(labels) == card.labels:
        return None
    wanted = set(labels)
    if len(wanted) < len(labels):
        raise ConfigurationError(f"labels={list(labels)!r} names a label twice. Name each once.")
    missing = [label for label in labels if label not in card.labels]
    extra = [label for label in card.labels if label not in wanted]
    if missing or extra:
        forms = {unicodedata.normalize("NFC", label) for label in missing} & {
            unicodedata.normalize("NFC", label) for label in extra
        }
        hint = f" Some differ only in their Unicode form: {', '.join(map(ascii, sorted(forms)))}." if forms else ""
        raise ScoreMismatchError(
            f"labels={list(labels)!r} are not those of scorer {card.title()}: it has no {missing!r}, and has {extra!r} besides."
            f"{hint} Use its label names, or score with yours."
        )
    return [card.labels.index(label) for label in labels]


def join_rows(keys: Keys, scorers: Sequence[ScorerRows], labels: Sequence[str]) -> Joined:
    """Returns what M scorers said of N texts with these `keys` (N,) S32.

    Beside the result it takes about 80 N bytes, and the largest shard's probabilities once more.

    Raises:
        ConfigurationError: A label is named twice.
        ScoreMismatchError: A scorer has other labels, or no row of it is about any of the texts.
    """
    columns = [column_order(rows.card, labels) for rows in scorers]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    scores = np.zeros((len(keys), len(scorers), len(labels)), dtype=np.float32)
    status = np.zeros((len(keys), len(scorers)), dtype=np.uint8)
    for m, stored in enumerate(scorers):
        rows = stored.index.find(keys)
        hits = np.flatnonzero(rows >= 0)
        if not len(hits) and len(keys):
            raise ScoreMismatchError(
                f"The scores of scorer {stored.card.title()} belong to other texts: none of the {len(keys)} texts is among its "
                f"{len(stored.index)} rows. Texts are matched exactly, spaces and case included: give the column that was "
                "scored, or score these texts."
            )
        for shard, positions, own in stored.by_shard(rows[hits]):
            places = order[hits[positions]]
            values = shard.probabilities[own]
            scores[places, m] = values if columns[m] is None else values[:, columns[m]]
            status[places, m] = shard.status[own]
    cards = [stored.card for stored in scorers]
    return Joined(
        scores, status == Status.SCORED, status, tuple(card.name for card in cards), tuple(card.fingerprint for card in cards)
    )
