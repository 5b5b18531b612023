"""An LLM behind a provider's interface as a scorer: a mode of asking, a prompt, a provider, and the gateway to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any, Literal

import numpy as np

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError, LFError
from lf_lightning.scoring.base import NOT_ASKED, Advance, Scorer, Scores
from lf_lightning.scoring.cutting import Cutter
from lf_lightning.scoring.elicitation.base import Elicitation, Reading
from lf_lightning.scoring.elicitation.label import Label
from lf_lightning.scoring.elicitation.logprob import NO_LOGPROBS, Logprob
from lf_lightning.scoring.elicitation.verbalized import Verbalized
from lf_lightning.scoring.elicitation.vote import Vote
from lf_lightning.scoring.examples import Examples
from lf_lightning.scoring.gateway import Gateway
from lf_lightning.scoring.gateway.answers import NANO, Answers, Estimate
from lf_lightning.scoring.gateway.replies import Parts
from lf_lightning.scoring.grouping import Groups
from lf_lightning.scoring.probe import find_mode
from lf_lightning.scoring.providers.base import Provider
from lf_lightning.scoring.questionnaire import Questionnaire, Sheet, Temperature
from lf_lightning.scoring.requests import Reply, Request
from lf_lightning.scoring.telling import Told
from lf_lightning.store import ScorerCard, Status

ModeName = Literal["auto", "logprob", "verbalized", "vote", "label"]
_MODES: dict[str, type[Elicitation]] = {"logprob": Logprob, "verbalized": Verbalized, "vote": Vote, "label": Label}


Found = tuple[Reading, list[Reply], int | None]
"""What was read about a text, the replies that were about it alone, and their nanodollars where each one's are known."""


class LLMScorer(Scorer):
    """Scores texts by an LLM, asking each question once and keeping every reply.

    A reply that cannot be read is `UNPARSED`, a refusal is `REFUSED`, and where no reply came the row is `ABSENT`; the reason
    is in `usage`. A mode is part of the scorer's identity, as its calibrator is fitted to it: give another mode another name.

    Args:
        name: What configs and tables call this scorer.
        provider: Whose model is asked, such as lf_lightning.scoring.providers.OpenAI.
        labels: The label names, in the order of the columns.
        task: multiclass or multilabel.
        mode: auto (what the model can give, found out once), logprob, verbalized, vote, label, or one of their classes with its
            arguments, such as lf_lightning.scoring.Vote.
        description: What the texts are and what is asked about them, in words.
        label_descriptions: What is meant by a label, as label: words; for those that need it.
        template: A .jinja file of your own for the prompt; it may extend those of lf_lightning/scoring/templates.
        examples: Chooses labelled examples for the prompt, such as lf_lightning.scoring.NearestExamples.
        shuffle_options: Show each text its options in an order of its own, against a model's liking for the first.
        seed: Seed of that order.
        max_tokens: A longer text is cut to so many tokens, which is noted with its score.
        tokenizer: Hub name, folder or package:NAME/PATH of the tokenizer that counts them; none: 4 bytes are a token.
        temperature: mode (0, and that of vote), a number, or null, which leaves it to the provider: some models take none.
        thinking_tokens: Further tokens of a reply, for a model that thinks before it answers.
        gateway: Response cache, limits, retries.

    Raises:
        ConfigurationError: The parts do not fit one another, or a label description is of no label.
    """

    shard_size = 10_000

    def __init__(
        self,
        name: str,
        provider: Provider,
        labels: list[str],
        task: Task = "multiclass",
        mode: ModeName | Elicitation = "auto",
        description: str = "",
        label_descriptions: dict[str, str] | None = None,
        template: str | None = None,
        examples: Examples | None = None,
        shuffle_options: bool = True,
        seed: int = 0,
        max_tokens: int = 2000,
        tokenizer: str | None = None,
        temperature: Temperature = "mode",
        thinking_tokens: int = 0,
        gateway: Gateway | None = None,
    ) -> None:
        self.name, self.provider, self.labels, self.task = name, provider, list(labels), task
        self.description, self.label_descriptions = description, dict(label_descriptions or {})
        self.template, self.examples, self.shuffle_options, self.seed = template, examples, shuffle_options, seed
        self.temperature, self.thinking_tokens = temperature, thinking_tokens
        self.cutter = Cutter(max_tokens, tokenizer)
        self._gateway = gateway
        unknown = [label for label in self.label_descriptions if label not in self.labels]
        if unknown:
            raise ConfigurationError(f"label_descriptions: {unknown} are none of the labels {self.labels}.")
        if task == "multiclass" and len(self.labels) < 2:
            raise ConfigurationError(f"labels={self.labels}: a multi-class task needs at least two.")
        if thinking_tokens < 0:
            raise ConfigurationError(f"thinking_tokens={thinking_tokens} must be at least 0.")
        ScorerCard(name, tuple(self.labels), task, {})  # names that cannot be labels are refused before anything is asked
        if examples is not None:
            examples.bind(self.labels, task)
        self._given = mode
        if mode != "auto":
            _ = self.questionnaire

    @cached_property
    def gateway(self) -> Gateway:
        """The gateway; by default the one with the folder `responses`."""
        return self._gateway or Gateway()

    @cached_property
    def mode(self) -> Elicitation:
        """The mode; with `auto` the first look at it may ask the provider."""
        if isinstance(self._given, Elicitation):
            return self._given
        if self._given != "auto":
            return _MODES[self._given]()
        return find_mode(
            self.gateway,
            self.provider,
            self.labels,
            self.task,
            temperature=self.temperature,
            thinking_tokens=self.thinking_tokens,
            offline=self.offline,
            max_cost=self.max_cost,
        )

    @cached_property
    def questionnaire(self) -> Questionnaire:
        """All that is asked about a text."""
        return Questionnaire(
            self.mode,
            self.labels,
            self.task,
            self.description,
            self.label_descriptions,
            self.template,
            self.examples,
            self.shuffle_options,
            self.seed,
            self.temperature,
            self.thinking_tokens,
        )

    @cached_property
    def card(self) -> ScorerCard:
        """Who is asked what and how the reply is read. No timeout, limit, price or budget: these change no answer."""
        spec = {
            "scorer": "llm",
            "provider": self._identity,
            **self.questionnaire.spec,
            **self.cutter.spec,
        }
        return ScorerCard(self.name, tuple(self.labels), self.task, spec)

    def for_workers(self, workers: int) -> LLMScorer:
        """Returns the scorer for each of so many processes; the mode is found out here, once for all."""
        mine = copy(self)
        mine._given, mine._gateway = self.mode, self.gateway.for_workers(workers)
        return mine

    def estimate(self, texts: Sequence[str]) -> Estimate:
        """Returns what it would take to score n texts; no request is sent.

        Raises:
            ConfigurationError: The mode is not known yet.
        """
        sheets, _, shown = self._sheets(texts)
        asked = _all(sheets)
        if self.mode.texts_per_request > 1:
            groups = Groups(self.questionnaire, self.provider, texts, shown)
            known = self._known(groups, sheets)
            asked = groups.requests([place for place in range(len(texts)) if place not in known])
        return self.gateway.estimate(self.provider, asked)

    def score(self, texts: Sequence[str], advance: Advance | None = None) -> Scores:
        """Returns the opinion of n texts; equal questions are asked once, and those with a reply at rest not at all.

        Where most replies hold no log-probabilities although mode `logprob` asked for them, `halt` says so: the mode is never
        changed silently.

        Args:
            texts: n texts, any strings.
            advance: Called with the number of texts done since its last call, maybe from another thread.
        """
        sheets, dropped, shown = self._sheets(texts)
        told = Told(len(texts), advance, self.watch)
        found: dict[int, Found] = {}
        reasons: dict[int, str] = {}
        halt: LFError | None = None
        if self.mode.texts_per_request > 1:
            groups = Groups(self.questionnaire, self.provider, texts, shown)
            found = self._known(groups, sheets)
            if not self.offline:
                answers = self._ask(groups.requests([p for p in range(len(texts)) if p not in found]), told, groups.parts)
                readings, reasons = groups.read(answers)
                found.update({place: (reading, [], None) for place, reading in readings.items()})
                halt = answers.halt
        alone = {place: sheets[place] for place in range(len(texts)) if place not in found and place not in reasons}
        if alone and halt is None:
            answers = self._ask(_all(alone.values()), told)
            halt = answers.halt
            for place, sheet in alone.items():
                result = self._read(sheet, answers)
                if isinstance(result, str):
                    reasons[place] = result
                else:
                    found[place] = result
        silent = [place for place, (reading, *_) in found.items() if reading.reason == NO_LOGPROBS]
        if 2 * len(silent) > len(found):
            halt = halt or ConfigurationError(
                f"mode 'logprob': {len(silent)} of {len(found)} replies of {self.provider.model!r} hold no log-probabilities. "
                "Way out: a model or server that gives them, or another mode under another name."
            )
            for place in silent:
                reasons[place] = found.pop(place)[0].reason
        told.finish()
        return self._scores(len(texts), found, reasons, dropped, halt)

    def _sheets(self, texts: Sequence[str]) -> tuple[list[Sheet], list[int], list[str]]:
        shown, dropped = self.cutter.cut(texts)
        return [self.questionnaire.sheet(text, cut) for text, cut in zip(texts, shown, strict=True)], dropped, shown

    def _ask(self, requests: Sequence[Request], told: Told, parts: Parts | None = None) -> Answers:
        if self.offline:
            return Answers(responses=self.gateway.lookup(self.provider, requests))
        return self.gateway.ask(self.provider, requests, max_cost=self.max_cost, parts=parts, advance=told.progress)

    def _known(self, groups: Groups, sheets: Sequence[Sheet]) -> dict[int, Found]:
        """Texts that were answered in some group before, or alone after a group had left them out."""
        responses = self.gateway.lookup(self.provider, [*groups.own, *_all(sheets)])
        found: dict[int, Found] = {place: (reading, [], None) for place, reading in groups.known(responses).items()}
        for place, sheet in enumerate(sheets):
            if place not in found and not isinstance(result := self._read(sheet, Answers(responses=responses)), str):
                found[place] = result
        return found

    def _read(self, sheet: Sheet, answers: Answers) -> Found | str:
        """The reading of the replies about a text with the replies and their cost, or why one of them is not there."""
        replies: list[Reply] = []
        billed: list[int | None] = []
        for request in (*sheet.requests, *sheet.prior):
            key = request.key(self._identity)
            if key not in answers.responses:
                failure = answers.failures.get(key)
                return NOT_ASKED if failure is None else f"{failure.kind}: {failure.message}"
            billed.append(answers.responses[key].usage.get("cost_nanodollars"))
            try:
                replies.append(self.provider.read(answers.responses[key].reply))
            except ValueError as error:
                return Reading.unparsed(f"the reply cannot be read: {error}"), replies, None
        n = len(sheet.requests)
        known = [cost for cost in billed[:n] if cost is not None]
        reading = self.mode.read(sheet.keys, self.task, replies[:n], replies[n:] or None)
        return reading, replies[:n], sum(known) if len(known) == n else None

    @cached_property
    def _identity(self) -> dict[str, Any]:
        return dict(self.provider.identity)

    def _scores(
        self,
        n: int,
        found: Mapping[int, Found],
        reasons: Mapping[int, str],
        dropped: Sequence[int],
        halt: LFError | None,
    ) -> Scores:
        probabilities = np.zeros((n, len(self.labels)), dtype=np.float32)
        status = np.full(n, int(Status.ABSENT), dtype=np.uint8)
        rationales: list[str | None] = [None] * n
        usage: list[dict[str, Any] | None] = [None] * n
        for place in range(n):
            note: dict[str, Any] = {"dropped_tokens": dropped[place]} if dropped[place] else {}
            if place in found:
                reading, replies, cost = found[place]
                status[place] = int(reading.status)
                if reading.status == Status.SCORED:
                    probabilities[place] = reading.probabilities
                rationales[place] = reading.rationale
                if replies:
                    note["input_tokens"] = sum(reply.usage.input for reply in replies)
                    note["output_tokens"] = sum(reply.usage.output for reply in replies)
                if cost is not None:
                    note["cost_usd"] = cost / NANO
                if reading.label_mass is not None:
                    note["label_mass"] = round(reading.label_mass, 6)
                if reading.reason:
                    note["reason"] = reading.reason
            else:
                note["reason"] = reasons.get(place, NOT_ASKED)
            usage[place] = note or None
        return Scores(probabilities, status, rationales if any(rationales) else None, usage, halt)


def _all(sheets: Iterable[Sheet]) -> list[Request]:
    return [request for sheet in sheets for request in (*sheet.requests, *sheet.prior)]
