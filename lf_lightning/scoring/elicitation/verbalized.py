"""Mode `verbalized`: the model states a number from 0 to 100 for each label, in JSON of a strict schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.elicitation.base import Elicitation, Question, Reading, excerpt, refusal
from lf_lightning.scoring.elicitation.json_reply import UnreadableError, check_fields, json_object, strict_object
from lf_lightning.scoring.elicitation.keys import field_names
from lf_lightning.scoring.requests import Reply
from lf_lightning.store import Status

SCORES, REASON = "scores", "reason"
HIGHEST = 100
REASON_TOKENS = 200


class Verbalized(Elicitation):
    """Asks for a whole number from 0 to 100 for each label, which every provider can give.

    Multi-class: `p_y = n_y / sum_j n_j`. Multi-label: `p_y = n_y / 100`, each label for itself.
    A reply with a field missing or too many, or a value that is no number from 0 to 100, is `UNPARSED`, and so is a multi-class
    row of zeros; a multi-label row of zeros says that no label applies.

    Args:
        reason: Ask for a short reason before the numbers; it is kept as the rationale.
        texts_per_request: Texts in one request, whose numbers then depend a little on their neighbours; 1 asks for each alone.

    Raises:
        ConfigurationError: `texts_per_request` is below 1.
    """

    name = "verbalized"

    def __init__(self, reason: bool = False, texts_per_request: int = 1) -> None:
        if texts_per_request < 1:
            raise ConfigurationError(f"texts_per_request={texts_per_request} must be at least 1.")
        self.reason, self.texts_per_request = reason, texts_per_request

    @property
    def spec(self) -> dict[str, Any]:
        """The two arguments."""
        return {"reason": self.reason, "texts_per_request": self.texts_per_request}

    def template(self, task: Task) -> str:
        """Returns the file of the prompt."""
        return "verbalized.jinja"

    def keys(self, labels: Sequence[str], task: Task) -> tuple[str, ...]:
        """Returns names of JSON fields."""
        return field_names(labels)

    def decoding(self, keys: Sequence[str], task: Task) -> dict[str, Any]:
        """Returns temperature 0, the schema, and room for the numbers."""
        room = 32 + sum(8 + len(key) for key in keys) + REASON_TOKENS * self.reason
        return {"max_output_tokens": room, "temperature": 0.0, "schema": self.item_schema(keys, task)}

    def item_schema(self, keys: Sequence[str], task: Task) -> dict[str, Any]:
        """Returns the schema of the answer about one text."""
        fields: dict[str, Any] = {SCORES: strict_object({key: {"type": "integer"} for key in keys})}
        if self.reason:
            fields[REASON] = {"type": "string"}  # sorts before the scores, so it is written before them
        return strict_object(fields)

    def example_answer(self, chosen: Sequence[int], keys: Sequence[str], question: Question, task: Task) -> str:
        """Returns the right labels in words: numbers would teach the model a confidence that nobody measured."""
        return ", ".join(keys[label] for label in chosen) or "none of them"

    def read(self, keys: Sequence[str], task: Task, replies: Sequence[Reply], prior: Sequence[Reply] | None = None) -> Reading:
        """Returns the numbers as probabilities."""
        ended = refusal(replies)
        if ended is not None:
            return ended
        try:
            return self.read_item(keys, task, json_object(replies[0].text))
        except UnreadableError as error:
            return Reading.unparsed(str(error))

    def read_item(self, keys: Sequence[str], task: Task, item: Mapping[str, Any]) -> Reading:
        """Returns the numbers of one answer as probabilities."""
        try:
            check_fields(item, [SCORES, REASON] if self.reason else [SCORES], "the answer")
            scores = item[SCORES]
            if not isinstance(scores, dict):
                raise UnreadableError(f"scores are no object: {excerpt(str(scores))}")
            check_fields(scores, keys, "scores")
            values = [_number(key, scores[key]) for key in keys]
            reason = item.get(REASON)
            if reason is not None and not isinstance(reason, str):
                raise UnreadableError(f"the reason is no text: {excerpt(str(reason))}")
        except UnreadableError as error:
            return Reading.unparsed(str(error))
        total = HIGHEST if task == "multilabel" else sum(values)
        if total == 0:
            return Reading.unparsed("all scores are 0")
        return Reading(Status.SCORED, tuple(value / total for value in values), rationale=reason or None)


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UnreadableError(f"the score of {key!r} is no number: {excerpt(str(value))}")
    if isinstance(value, float) and not isfinite(value):
        raise UnreadableError(f"the score of {key!r} is {value}")
    if not 0 <= value <= HIGHEST:
        raise UnreadableError(f"the score of {key!r} is outside 0 to {HIGHEST}: {excerpt(str(value), 20)}")
    return float(value)
