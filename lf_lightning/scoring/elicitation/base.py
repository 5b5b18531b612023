"""What a mode of asking is: which requests are sent about a text, and how their replies become a row of probabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.requests import Reply
from lf_lightning.store import Status

PARSER = 1
"""Version of all that reads replies; it is in the card, so that rows read by another version are another scorer's."""


@dataclass(frozen=True)
class Reading:
    """What was read from the replies about one text.

    Attributes:
        status: SCORED, REFUSED or UNPARSED.
        probabilities: K values in [0, 1], multi-class ones sum to 1; empty unless `SCORED`.
        reason: Why there is no score, for people; the model's words in it are shortened.
        label_mass: Probability that the model gave to the labels' codes altogether; the least of several questions.
        rationale: The model's reason in its own words, where it was asked for one.
    """

    status: Status
    probabilities: tuple[float, ...] = ()
    reason: str = ""
    label_mass: float | None = None
    rationale: str | None = None

    @classmethod
    def unparsed(cls, reason: str, label_mass: float | None = None) -> Reading:
        """Returns a reading without a score."""
        return cls(Status.UNPARSED, reason=reason, label_mass=label_mass)


@dataclass(frozen=True)
class Question:
    """One request about a text, as far as it differs from the others about it.

    Attributes:
        about: Number of the label that a yes-or-no question is about; None where all labels stand for choice.
        sample: Number of the sample, where the same question is asked several times.
    """

    about: int | None = None
    sample: int = 0


class Elicitation(ABC):
    """A mode of asking. It sends nothing: it says what to ask and reads what came back, the same for every provider.

    A new one is one file with one subclass, named by `class_path`.

    Attributes:
        name: Its name in cards: `logprob`, `verbalized`, `vote`, `label`.
        texts_per_request: How many texts share a request.
        content_free: A text without content that is asked about too, to take the model's prior out; None: none.
        reason: Whether a reason is asked for.
        lettered: Whether keys are letters, which go by the place in which a label is shown rather than by the label.
    """

    name: ClassVar[str]
    lettered: bool = False
    texts_per_request: int = 1
    content_free: str | None = None
    reason: bool = False

    @property
    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Plain values of all settings that change an answer or its reading."""

    @abstractmethod
    def template(self, task: Task) -> str:
        """Returns the file of the prompt, in `scoring/templates`."""

    @abstractmethod
    def keys(self, labels: Sequence[str], task: Task) -> tuple[str, ...]:
        """Returns K strings that stand for the labels in prompts and replies, by position.

        Raises:
            ConfigurationError: This mode cannot ask about these labels.
        """

    def questions(self, k: int, task: Task) -> list[Question]:
        """Returns the questions that are asked about one text with K labels."""
        return [Question()]

    @abstractmethod
    def decoding(self, keys: Sequence[str], task: Task) -> dict[str, Any]:
        """Returns the fields of a `Request` beyond its words: `max_output_tokens`, `temperature`, `top_logprobs`, `schema`."""

    @abstractmethod
    def example_answer(self, chosen: Sequence[int], keys: Sequence[str], question: Question, task: Task) -> str:
        """Returns how a prompt shows the answer to an example whose labels have the positions `chosen`."""

    @abstractmethod
    def read(self, keys: Sequence[str], task: Task, replies: Sequence[Reply], prior: Sequence[Reply] | None = None) -> Reading:
        """Returns what the replies to `questions` say, in their order.

        Args:
            keys: As `keys` gave them, in the order shown to the model or any other: replies name keys, not positions.
            task: multiclass or multilabel.
            replies: One for each question.
            prior: The replies to the same questions about `content_free`.
        """

    def item_schema(self, keys: Sequence[str], task: Task) -> dict[str, Any]:
        """Returns the JSON schema of the answer about one of several texts.

        Raises:
            ConfigurationError: This mode asks about one text at a time.
        """
        raise ConfigurationError(f"texts_per_request: mode {self.name!r} asks about one text at a time.")

    def read_item(self, keys: Sequence[str], task: Task, item: Mapping[str, Any]) -> Reading:
        """Returns what the answer about one of several texts says; `item` follows `item_schema` at best."""
        raise NotImplementedError


def refusal(replies: Sequence[Reply]) -> Reading | None:
    """Returns a `REFUSED` reading if one of the replies is a refusal, with its words, an `UNPARSED` one if one was cut off."""
    for reply in replies:
        if reply.finish == "refused":
            return Reading(Status.REFUSED, reason=f"refused: {excerpt(reply.text)}" if reply.text.strip() else "refused")
    for reply in replies:
        if reply.finish == "length":
            return Reading.unparsed(f"cut off after {reply.usage.output} tokens: {excerpt(reply.text)}")
    return None


def excerpt(text: str, most: int = 80) -> str:
    """Returns the beginning of a text in quotes, for messages."""
    short = text if len(text) <= most else text[: most - 1] + "…"
    return repr(short)
