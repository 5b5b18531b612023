"""From texts and labels to reasons worth keeping: written, filtered and, where that fails, rationalised; all of it counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lf_lightning.errors import LFError
from lf_lightning.scoring.base import NOT_ASKED, Advance
from lf_lightning.scoring.reasons.filters import Reasoned, ReasonFilter
from lf_lightning.scoring.reasons.writer import UNANSWERED, Asked, ReasonWriter

SeesLabel = Literal["never", "always", "if_wrong"]
"""Whether the writer is shown the gold label: if_wrong, once its own reason was dropped (rationalisation)."""


@dataclass
class Made:
    """What became of n wanted reasons.

    Attributes:
        reasons: n, None where none was kept.
        notes: n; `saw_label` of those kept, `reason` of the others: `dropped: FILTER`, or why nothing was written.
        asked: n, whether an answer came; one without is asked for again.
        written: Reasons written, the second try's included.
        dropped: By filter, how many of them were dropped.
        rationalised: How many of those kept saw the label after a first reason was dropped.
        halt: Why the writer stopped.
    """

    reasons: list[str | None]
    notes: list[dict[str, Any]]
    asked: list[bool]
    written: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    rationalised: int = 0
    halt: LFError | None = None


def make_reasons(
    writer: ReasonWriter,
    filters: Sequence[ReasonFilter],
    wanted: Sequence[Asked],
    sees_label: SeesLabel,
    advance: Advance | None = None,
) -> Made:
    """Returns reasons for n texts and samples.

    Args:
        writer: Writes.
        filters: In the order in which they judge; a reason that one drops is shown to none after it.
        wanted: With the gold labels, which the writer is shown or not.
        sees_label: When it is.
        advance: Told how many more are done.
    """
    made = Made([None] * len(wanted), [{} for _ in wanted], [False] * len(wanted))
    places = list(range(len(wanted)))
    failed = _pass(made, writer, filters, wanted, places, sees_label == "always", advance)
    if sees_label == "if_wrong" and made.halt is not None:
        for place in failed:  # the second try is still to come
            if wanted[place].label is not None:
                made.asked[place], made.notes[place] = False, {"reason": NOT_ASKED}
    if sees_label == "if_wrong" and made.halt is None:
        again = [place for place in failed if wanted[place].label is not None]
        before = {place: made.notes[place] for place in again}
        left = set(_pass(made, writer, filters, wanted, again, True, None))
        for place in again:
            if made.reasons[place] is not None:
                made.rationalised += 1
                made.notes[place]["first"] = before[place].get("reason", "")
            elif place in left and not made.asked[place]:
                made.notes[place] = {"reason": NOT_ASKED}
    return made


def _pass(
    made: Made,
    writer: ReasonWriter,
    filters: Sequence[ReasonFilter],
    wanted: Sequence[Asked],
    places: list[int],
    shown: bool,
    advance: Advance | None,
) -> list[int]:
    """Fills `made`, and returns the places whose reason was dropped or not written."""
    if not places:
        return []
    written = writer.write([wanted[p] if shown else wanted[p]._replace(label=None) for p in places], advance)
    made.halt = made.halt or written.halt
    here: list[int] = []
    for place, reason, note in zip(places, written.reasons, written.notes, strict=True):
        made.asked[place] = not note.get(UNANSWERED, False)
        made.notes[place] = {name: value for name, value in note.items() if name != UNANSWERED}
        if reason is not None:
            made.reasons[place] = reason
            made.notes[place]["saw_label"] = shown and wanted[place].label is not None
            here.append(place)
    made.written += len(here)
    failed = [place for place in places if made.reasons[place] is None]
    for judge in filters:
        rows = [Reasoned(wanted[p].text, wanted[p].label, made.reasons[p] or "") for p in here]
        verdicts = judge.keep(rows) if rows else []
        for place, kept in zip(here, verdicts, strict=True):
            if not kept:
                made.dropped[judge.name] += 1
                made.reasons[place] = None
                made.notes[place] = {**made.notes[place], "reason": f"dropped: {judge.name}"}
                failed.append(place)
        here = [place for place, kept in zip(here, verdicts, strict=True) if kept]
    for judge in filters:
        judge.remember([made.reasons[place] or "" for place in here])
    return sorted(failed)
