"""From a text to the requests about it: mode, labels, prompt, examples and the order of the options. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.chat import ChatPrompt, Option
from lf_lightning.scoring.elicitation.base import PARSER, Elicitation, Question
from lf_lightning.scoring.elicitation.json_reply import group_schema
from lf_lightning.scoring.examples import Example, Examples, FixedExamples
from lf_lightning.scoring.requests import Request

Temperature = Literal["mode"] | float | None


@dataclass(frozen=True)
class Sheet:
    """What is asked about one text, and what is needed to read the replies.

    Attributes:
        requests: One for each question of the mode.
        prior: The same about a text without content; empty: the mode asks for none.
        keys: What stands for each label, by position, in these requests and their replies.
    """

    requests: tuple[Request, ...]
    prior: tuple[Request, ...]
    keys: tuple[str, ...]


class Questionnaire:
    """All that is asked about texts in one way.

    Args:
        mode: How to ask.
        labels: The label names.
        task: multiclass or multilabel.
        description: What the texts are and what is asked about them.
        label_descriptions: What is meant by a label, for those that need it.
        template: A .jinja file in the place of the mode's own.
        examples: Chooses examples for each text.
        shuffle_options: Show the options of each text in an order of its own.
        seed: Of the order.
        temperature: `mode` for the mode's own; None leaves it to the provider.
        thinking_tokens: Tokens of a reply beyond those of the answer, for models that think before they speak.

    Raises:
        ConfigurationError: The parts do not fit one another.
    """

    def __init__(
        self,
        mode: Elicitation,
        labels: Sequence[str],
        task: Task,
        description: str,
        label_descriptions: Mapping[str, str],
        template: str | None,
        examples: Examples | None,
        shuffle_options: bool,
        seed: int,
        temperature: Temperature,
        thinking_tokens: int,
    ) -> None:
        self.mode, self.labels, self.task, self.examples = mode, tuple(labels), task, examples
        self.keys = mode.keys(self.labels, task)
        self._description = description
        self._descriptions = [label_descriptions.get(label, "") for label in self.labels]
        self._shuffle, self._seed, self._thinking = shuffle_options, seed, thinking_tokens
        file = template or mode.template(task)
        self.prompt = ChatPrompt(file, task, description, mode.reason, lettered=mode.lettered)
        self.group_prompt: ChatPrompt | None = None
        if mode.texts_per_request > 1:
            if examples is not None and not isinstance(examples, FixedExamples):
                raise ConfigurationError(
                    f"texts_per_request={mode.texts_per_request}: texts in one request share their examples, which "
                    f"{type(examples).__name__} chooses for each. Way out: FixedExamples, or texts_per_request: 1."
                )
            self.group_prompt = ChatPrompt(file, task, description, mode.reason, grouped=True, lettered=mode.lettered)
        self._decoding = mode.decoding(self.keys, task)
        self._decoding["max_output_tokens"] += thinking_tokens
        if temperature != "mode":
            self._decoding["temperature"] = None if temperature is None else float(temperature)

    @property
    def spec(self) -> dict[str, Any]:
        """Plain values of all that changes a request or the reading of its reply."""
        return {
            "mode": self.mode.name,
            "elicitation": self.mode.spec,
            "parser": PARSER,
            "keys": list(self.keys),
            "decoding": self._decoding,
            "templates": self.prompt.sources,
            "description": self._description,
            "label_descriptions": self._descriptions,
            "examples": None if self.examples is None else self.examples.spec,
            "shuffle_options": self._shuffle,
            "seed": self._seed if self._shuffle else None,
        }

    def sheet(self, text: str, shown: str) -> Sheet:
        """Returns what is asked about a text alone.

        Args:
            text: The whole text, by which examples and the order of the options are chosen.
            shown: What of it is shown.
        """
        order = self._order([text])
        keys = self._keys_in(order)
        chosen = self._chosen(text)
        requests: dict[str, tuple[Request, ...]] = {}
        contents = [shown] if self.mode.content_free is None else [shown, self.mode.content_free]
        for content in contents:
            asked = []
            for question in self.mode.questions(len(self.labels), self.task):
                about = None if question.about is None else self._option(question.about, keys)
                prompt = self.prompt.user([content], self._options(order, keys), self._answered(chosen, keys, question), about)
                asked.append(Request(self.prompt.system, prompt, **self._decoding, sample=question.sample))
            requests[content] = tuple(asked)
        prior = () if self.mode.content_free is None else requests[self.mode.content_free]
        return Sheet(requests[shown], prior, keys)

    def group(self, texts: Sequence[str], shown: Sequence[str]) -> Request:
        """Returns one request about several texts, whose ids are 1, 2, ...

        Args:
            texts: The whole texts, at most `texts_per_request`.
            shown: What of them is shown.
        """
        assert self.group_prompt is not None
        mode, n = self.mode, self.mode.texts_per_request
        chosen = [row for row in self._chosen(texts[0]) if self._is_no_text(row, texts)]
        prompt = self.group_prompt.user(
            shown, self._options(self._order(texts), self.keys), self._answered(chosen, self.keys, Question())
        )
        # Room for n answers however many texts there are, so that n is part of the key.
        room = n * (mode.decoding(self.keys, self.task)["max_output_tokens"] + 16) + self._thinking
        schema = group_schema(mode.item_schema(self.keys, self.task))
        return Request(self.group_prompt.system, prompt, **{**self._decoding, "max_output_tokens": room, "schema": schema})

    def _chosen(self, text: str) -> list[Example]:
        return [] if self.examples is None else self.examples.choose(text)

    def _is_no_text(self, row: Example, texts: Sequence[str]) -> bool:
        assert self.examples is not None
        return all(self.examples.pool[place].whole != row.whole for text in texts for place in self.examples.excluded(text))

    def _answered(self, rows: Sequence[Example], keys: Sequence[str], question: Question) -> list[tuple[str, str]]:
        places = {label: place for place, label in enumerate(self.labels)}
        return [
            (row.text, self.mode.example_answer([places[label] for label in row.labels], keys, question, self.task))
            for row in rows
        ]

    def _order(self, texts: Sequence[str]) -> list[int]:
        labels = range(len(self.labels))
        if not self._shuffle:
            return list(labels)
        start = sha256(f"{self._seed}:".encode())
        for text in texts:
            start.update(sha256(text.encode("utf-8", "surrogatepass")).digest())
        return sorted(labels, key=lambda label: sha256(start.digest() + label.to_bytes(4, "big")).digest())

    def _keys_in(self, order: Sequence[int]) -> tuple[str, ...]:
        """What stands for each label: letters go by the place in which a label is shown."""
        if not self.mode.lettered or self.task == "multilabel":
            return self.keys
        keys = list(self.keys)
        for place, label in enumerate(order):
            keys[label] = self.keys[place]
        return tuple(keys)

    def _options(self, order: Sequence[int], keys: Sequence[str]) -> list[Option]:
        return [self._option(label, keys) for label in order]

    def _option(self, label: int, keys: Sequence[str]) -> Option:
        return Option(keys[label], self.labels[label], self._descriptions[label])
