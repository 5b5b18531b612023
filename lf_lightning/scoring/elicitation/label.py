"""Mode `label`: the bare label, with a confidence that is assumed. The last resort, for models that can do nothing else."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.elicitation.base import Elicitation, Question, Reading, excerpt, refusal
from lf_lightning.scoring.elicitation.json_reply import UnreadableError, check_fields, strict_object
from lf_lightning.scoring.elicitation.keys import NONE, spoken_names
from lf_lightning.scoring.elicitation.verbalized import REASON, REASON_TOKENS
from lf_lightning.scoring.requests import Reply
from lf_lightning.scoring.stated import DEFAULT_CONFIDENCE, spread
from lf_lightning.store import Status

LABEL, LABELS = "label", "labels"
_FINAL = re.compile(r"(?im)^[\s*_`\"']*labels?[\s*_`\"']*:")
_AROUND = " \t\r\n\"'`*_.<>“”«»"


class Label(Elicitation):
    """Asks for the label alone and reads it whatever its case; the stated label gets `confidence`, as `stated_scores` has it.

    Multi-class: the label gets c, each other (1 - c) / (K - 1). Multi-label: each stated label gets c, each other 1 - c.
    The confidence is assumed and the same for every text: a calibrator can correct its height, nothing can order the texts.
    Any reply beyond the label, an unknown label, or two labels in a multi-class task is `UNPARSED`.

    Args:
        confidence: Probability of a stated label, in (0, 1).
        reason: Ask for a short reason before the label; it is kept as the rationale.
        texts_per_request: Texts in one request, answered in JSON; 1 asks for each alone.

    Raises:
        ConfigurationError: An argument is out of range.
    """

    name = "label"

    def __init__(self, confidence: float = DEFAULT_CONFIDENCE, reason: bool = False, texts_per_request: int = 1) -> None:
        if not 0 < confidence < 1 or texts_per_request < 1:
            raise ConfigurationError(
                f"confidence={confidence} must be within (0, 1), and texts_per_request={texts_per_request} at least 1."
            )
        self.confidence, self.reason, self.texts_per_request = confidence, reason, texts_per_request

    @property
    def spec(self) -> dict[str, Any]:
        """The three arguments."""
        return {"confidence": self.confidence, "reason": self.reason, "texts_per_request": self.texts_per_request}

    def template(self, task: Task) -> str:
        """Returns the file of the prompt."""
        return "label.jinja"

    def keys(self, labels: Sequence[str], task: Task) -> tuple[str, ...]:
        """Returns names that can be answered in plain words."""
        return spoken_names(labels)

    def decoding(self, keys: Sequence[str], task: Task) -> dict[str, Any]:
        """Returns temperature 0 and room for the label."""
        return {"max_output_tokens": label_room(keys, task) + REASON_TOKENS * self.reason, "temperature": 0.0}

    def example_answer(self, chosen: Sequence[int], keys: Sequence[str], question: Question, task: Task) -> str:
        """Returns the labels as they are to be answered."""
        return ", ".join(keys[label] for label in chosen) or NONE

    def read(self, keys: Sequence[str], task: Task, replies: Sequence[Reply], prior: Sequence[Reply] | None = None) -> Reading:
        """Returns the stated label as probabilities."""
        ended = refusal(replies)
        if ended is not None:
            return ended
        text, rationale = split_reason(replies[0].text) if self.reason else (replies[0].text, None)
        chosen = stated_keys(text, keys, task)
        if chosen is None:
            return Reading.unparsed(f"no label: {excerpt(replies[0].text)}")
        return self._scored(chosen, len(keys), task, rationale)

    def item_schema(self, keys: Sequence[str], task: Task) -> dict[str, Any]:
        """Returns the schema of the answer about one of several texts."""
        one = {"type": "string", "enum": sorted(keys)}
        fields: dict[str, Any] = {LABEL: one} if task == "multiclass" else {LABELS: {"type": "array", "items": one}}
        if self.reason:
            fields[REASON] = {"type": "string"}
        return strict_object(fields)

    def read_item(self, keys: Sequence[str], task: Task, item: Mapping[str, Any]) -> Reading:
        """Returns the stated label of one answer as probabilities."""
        name = LABEL if task == "multiclass" else LABELS
        try:
            check_fields(item, [name, REASON] if self.reason else [name], "the answer")
        except UnreadableError as error:
            return Reading.unparsed(str(error))
        stated = item[name] if isinstance(item[name], list) else [item[name]]
        chosen = [stated_keys(label, keys, "multiclass") if isinstance(label, str) else None for label in stated]
        if any(found is None for found in chosen) or (task == "multiclass" and len(chosen) != 1):
            return Reading.unparsed(f"no label: {excerpt(str(item[name]))}")
        return self._scored([label for found in chosen for label in found or []], len(keys), task, item.get(REASON))

    def _scored(self, chosen: Sequence[int], k: int, task: Task, rationale: Any) -> Reading:
        values = spread(list(chosen), self.confidence, k, task)
        reason = rationale if isinstance(rationale, str) and rationale.strip() else None
        return Reading(Status.SCORED, tuple(float(value) for value in values), rationale=reason)


def stated_keys(text: str, keys: Sequence[str], task: Task) -> list[int] | None:
    """Returns the positions of the keys that a reply names and nothing else, in any case; None if it does anything else.

    Multi-class: exactly one. Multi-label: any number, separated by commas, `|` or newlines; `none` for none.
    """
    places = {_plain(key): place for place, key in enumerate(keys)}
    body = _FINAL.sub("", text, count=1) if _FINAL.match(text) else text
    parts = re.split(r"[,|\n]", body) if task == "multilabel" else [body]
    names = [name for name in map(_plain, parts) if name]
    if task == "multilabel" and names == [NONE]:
        return []
    found = [places.get(name) for name in names]
    chosen = sorted({place for place in found if place is not None})
    if not names or None in found or (task == "multiclass" and len(chosen) != 1):
        return None
    return chosen


def split_reason(text: str) -> tuple[str, str | None]:
    """Returns what follows the last line that begins with `Label:`, and the reason before it, without `Reason:`."""
    finals = list(_FINAL.finditer(text))
    if not finals:
        return text, None
    last = finals[-1]
    reason = re.sub(r"(?i)^[\s*_]*reason[\s*_]*:", "", text[: last.start()]).strip(" \t\r\n*")
    return text[last.end() :], reason or None


def label_room(keys: Sequence[str], task: Task) -> int:
    """Returns the tokens that an answer in bare labels needs at most: a byte is at least a token, or less."""
    sizes = [len(key.encode("utf-8", "replace")) + 2 for key in keys]
    return 16 + (max(sizes) if task == "multiclass" else sum(sizes))


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", " ".join(name.split())).strip(_AROUND).casefold()
