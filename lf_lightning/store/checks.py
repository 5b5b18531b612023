"""What may be appended: well-formed rows that do not contradict one another or what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lf_lightning.errors import ConfigurationError, DataError, StoreError
from lf_lightning.store.cards import ScorerCard, Status, canonical_json, check_plain
from lf_lightning.store.keys import Keys, group_starts
from lf_lightning.store.rows import Probabilities, ScorerRows, Statuses

SUM_TOLERANCE = 1e-3
"""How far from 1 the probabilities of a multi-class row may sum: room for half precision, none for what is no distribution."""


def checked_rows(
    card: ScorerCard, rows: int, probabilities: ArrayLike, status: ArrayLike | None
) -> tuple[Probabilities, Statuses]:
    """Returns probabilities (n, K) float32, 0 where not `SCORED`, and status (n,) uint8.

    Raises:
        ConfigurationError: A shape or a status that cannot be.
        DataError: A `SCORED` row has values outside [0, 1], or is multi-class and does not sum to 1.
    """
    values = np.array(probabilities, dtype=np.float32)
    if values.shape != (rows, len(card.labels)) and not (rows == 0 and values.size == 0):
        raise ConfigurationError(
            f"probabilities has the shape {values.shape}; {rows} texts and {len(card.labels)} labels of scorer {card.title()} "
            f"need ({rows}, {len(card.labels)})."
        )
    given: NDArray[Any] = np.full(rows, Status.SCORED) if status is None else np.asarray(status)
    if given.shape != (rows,) or not np.isin(given, (Status.SCORED, Status.REFUSED, Status.UNPARSED)).all():
        raise ConfigurationError(
            f"status must be {rows} values of Status.SCORED, REFUSED or UNPARSED; it has the shape {given.shape} and the "
            f"values {np.unique(given).tolist()[:10]}. Leave out rows that are absent."
        )
    values = values.reshape(rows, len(card.labels))
    scored = given == Status.SCORED
    values[~scored] = 0.0
    wrong = ~((values >= 0) & (values <= 1)).all(axis=1)
    if wrong.any():
        raise DataError(
            f"{int(wrong.sum())} of {rows} rows of scorer {card.title()} hold values that are not in [0, 1], the first at "
            f"position {int(wrong.argmax())}: {values[wrong.argmax()].tolist()}. Pass probabilities, not logits; mark a reply "
            "that gave none as Status.UNPARSED."
        )
    if card.task == "multiclass":
        sums = values.sum(axis=1, dtype=np.float64)
        wrong = scored & (np.abs(sums - 1.0) > SUM_TOLERANCE)
        if wrong.any():
            raise DataError(
                f"{int(wrong.sum())} of {rows} rows of the multi-class scorer {card.title()} do not sum to 1 (within "
                f"{SUM_TOLERANCE}), the first at position {int(wrong.argmax())}: sum {sums[wrong.argmax()]:.6g}. Normalise "
                "them, or use task='multilabel'."
            )
    return values, given.astype(np.uint8)


def encoded_rationales(rationales: Sequence[str | None] | None, rows: int) -> list[bytes | None] | None:
    """Returns the rationales of n rows as UTF-8, lone surrogates encoded as they are.

    Raises:
        ConfigurationError: There are not n of them, or one is neither a string nor None.
    """
    if rationales is None:
        return None
    _check_length("rationales", len(rationales), rows)
    for position, text in enumerate(rationales):
        if not (text is None or isinstance(text, str)):
            raise ConfigurationError(f"rationales[{position}] is {text!r}. Give a string, or None where there is none.")
    return [None if text is None else text.encode("utf-8", "surrogatepass") for text in rationales]


def encoded_usage(usage: Sequence[Mapping[str, Any] | None] | None, rows: int) -> list[str | None] | None:
    """Returns the usage of n rows as JSON.

    Raises:
        ConfigurationError: There are not n of them, or one holds something that is not plain.
    """
    if usage is None:
        return None
    _check_length("usage", len(usage), rows)
    for position, note in enumerate(usage):
        if note is not None:
            check_plain(note, f"usage[{position}]")
    return [None if note is None else canonical_json(note) for note in usage]


def _check_length(name: str, given: int, rows: int) -> None:
    if given != rows:
        raise ConfigurationError(f"{name} has {given} items for {rows} texts. Give one, or None, for each text.")


def new_rows(
    stored: ScorerRows, keys: Keys, probabilities: Probabilities, status: Statuses, replace: bool = False
) -> NDArray[np.int64]:
    """Returns the positions, ascending, of the rows that have to be written: one for each key whose state changes.

    Each key goes through the stored row and then its given rows in their order. From one to the next a row may stay the same,
    bit for bit, and one that is not `SCORED` may become `SCORED`; nothing else, unless it is to `replace`.

    Raises:
        StoreError: Some rows contradict what is stored or one another.
    """
    order = np.argsort(keys, kind="stable")
    starts = group_starts(keys[order])
    first, last = order[starts], order[np.append(starts[1:], True)]
    rows = stored.index.find(keys[first])
    known = rows >= 0
    before, before_status = stored.read(rows[known])
    if not replace:
        later = order[~starts]
        earlier = order[:-1][~starts[1:]]
        _refuse_conflicts(
            stored,
            len(keys),
            np.concatenate([first[known], later]),
            (np.concatenate([before, probabilities[earlier]]), np.concatenate([before_status, status[earlier]])),
            (probabilities, status),
        )
    changed = ~known
    end = last[known]
    changed[known] = ~_same(before, before_status, probabilities[end], status[end])
    return np.sort(last[changed])


def _refuse_conflicts(
    stored: ScorerRows,
    given: int,
    positions: NDArray[np.int64],
    before: tuple[Probabilities, Statuses],
    everything: tuple[Probabilities, Statuses],
) -> None:
    values, status = everything[0][positions], everything[1][positions]
    same = _same(*before, values, status)
    upgraded = (before[1] != Status.SCORED) & (status == Status.SCORED)
    conflict = ~(same | upgraded)
    if not conflict.any():
        return
    other_status = int((conflict & (before[1] != status)).sum())
    at = np.flatnonzero(conflict)[positions[conflict].argmin()]
    raise StoreError(
        f"{int(conflict.sum())} of {given} rows contradict what scorer {stored.card.title()} gave for the same text: "
        f"{int(conflict.sum()) - other_status} with other values, {other_status} with another status. The first is position "
        f"{positions[at]}: {_shown(before[0][at], before[1][at])} before, {_shown(values[at], status[at])} now. Nothing was "
        "written. If the scorer changed (model, prompt, decoding), say so in the card's spec: another spec is another scorer. "
        "If it is not deterministic, score ScoreStore.missing(...) only."
    )


def _same(values: Probabilities, status: Statuses, others: Probabilities, other_status: Statuses) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = (values.view(np.uint32) == others.view(np.uint32)).all(axis=1) & (status == other_status)
    return same


def _shown(values: Probabilities, status: np.uint8) -> str:
    if status != Status.SCORED:
        return Status(int(status)).name
    return "[" + ", ".join(f"{value:.9g}" for value in values[:5]) + (", ...]" if len(values) > 5 else "]")
