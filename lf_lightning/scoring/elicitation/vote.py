"""Mode `vote`: the same question several times at a temperature; smoothed shares of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.elicitation.base import Elicitation, Question, Reading, excerpt
from lf_lightning.scoring.elicitation.keys import NONE, spoken_names
from lf_lightning.scoring.elicitation.label import label_room, stated_keys
from lf_lightning.scoring.requests import Reply
from lf_lightning.store import Status


class Vote(Elicitation):
    r"""Asks n times for the bare label and counts: the model's own distribution, as coarse as n is small, at n times the price.

    With `c_y` the number of the m readable answers that name y and smoothing a: multi-class `p_y = (c_y + a) / (m + K a)`,
    multi-label `p_y = (c_y + a) / (m + 2 a)`. a = 0.5 is the estimator of Krichevsky and Trofimov.
    Answers that cannot be read do not vote; where they are more than half, the row is `UNPARSED`, or `REFUSED` if most of them
    are refusals.

    Args:
        samples: How often to ask, at least 2.
        temperature: Of the sampling; above 0, or all answers would be one.
        smoothing: Added to each count, above 0, so that no label gets probability 0.

    Raises:
        ConfigurationError: An argument is out of range.
    """

    name = "vote"

    def __init__(self, samples: int = 5, temperature: float = 1.0, smoothing: float = 0.5) -> None:
        if samples < 2 or temperature <= 0 or smoothing <= 0:
            raise ConfigurationError(
                f"samples={samples} must be at least 2, temperature={temperature} and smoothing={smoothing} above 0."
            )
        self.samples, self.temperature, self.smoothing = samples, float(temperature), float(smoothing)

    @property
    def spec(self) -> dict[str, Any]:
        """The three arguments."""
        return {"samples": self.samples, "temperature": self.temperature, "smoothing": self.smoothing}

    def template(self, task: Task) -> str:
        """Returns the file of the prompt."""
        return "label.jinja"

    def keys(self, labels: Sequence[str], task: Task) -> tuple[str, ...]:
        """Returns names that can be answered in plain words."""
        return spoken_names(labels)

    def questions(self, k: int, task: Task) -> list[Question]:
        """Returns the same question `samples` times."""
        return [Question(sample=number) for number in range(self.samples)]

    def decoding(self, keys: Sequence[str], task: Task) -> dict[str, Any]:
        """Returns the temperature and room for the label."""
        return {"max_output_tokens": label_room(keys, task), "temperature": self.temperature}

    def example_answer(self, chosen: Sequence[int], keys: Sequence[str], question: Question, task: Task) -> str:
        """Returns the labels as they are to be answered."""
        return ", ".join(keys[label] for label in chosen) or NONE

    def read(self, keys: Sequence[str], task: Task, replies: Sequence[Reply], prior: Sequence[Reply] | None = None) -> Reading:
        """Returns the smoothed shares."""
        whole = [reply for reply in replies if reply.finish == "stop"]
        votes = [chosen for reply in whole if (chosen := stated_keys(reply.text, keys, task)) is not None]
        if 2 * len(votes) < len(replies):
            refused = sum(reply.finish == "refused" for reply in replies)
            if 2 * refused > len(replies) - len(votes):
                return Reading(Status.REFUSED, reason=f"{refused} of {len(replies)} answers refused")
            unread = next(
                (reply.text for reply in replies if reply.finish != "stop" or stated_keys(reply.text, keys, task) is None), ""
            )
            return Reading.unparsed(f"{len(votes)} of {len(replies)} answers name a label; another: {excerpt(unread)}")
        counts = np.zeros(len(keys))
        for chosen in votes:
            counts[chosen] += 1
        cells = 2 if task == "multilabel" else len(keys)
        values = (counts + self.smoothing) / (len(votes) + cells * self.smoothing)
        return Reading(Status.SCORED, tuple(float(value) for value in values))
