"""Several texts in one request: answers are matched by id, kept for each text, and what is missing is asked alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lf_lightning.responses.base import Response
from lf_lightning.scoring.base import NOT_ASKED
from lf_lightning.scoring.elicitation.base import Reading
from lf_lightning.scoring.elicitation.json_reply import UnreadableError, split_group
from lf_lightning.scoring.gateway.answers import Answers
from lf_lightning.scoring.providers.base import Provider
from lf_lightning.scoring.questionnaire import Questionnaire
from lf_lightning.scoring.requests import Request

_PART = "part_of"


class Groups:
    """The requests about n texts where several share one.

    The answer about a text is kept under the key of the request that would ask about it in a group of its own, so whichever
    texts it shares a request with the next time, it is not asked again. How many may share one is part of that key.

    Args:
        questionnaire: How to ask; its mode says how many texts share a request.
        provider: Who reads replies.
        texts: n whole texts.
        shown: What of them is shown.
    """

    def __init__(self, questionnaire: Questionnaire, provider: Provider, texts: Sequence[str], shown: Sequence[str]) -> None:
        self._questionnaire, self._provider, self._texts, self._shown = questionnaire, provider, texts, shown
        self._identity = provider.identity
        self.own = [questionnaire.group([text], [cut]) for text, cut in zip(texts, shown, strict=True)]
        self._keys = [request.key(self._identity) for request in self.own]
        self._members: dict[str, list[int]] = {}

    def known(self, responses: Mapping[str, Response]) -> dict[int, Reading]:
        """Returns the readings of the texts whose answers are among `responses` to the requests `own`."""
        readings = {}
        for place, key in enumerate(self._keys):
            if key in responses:
                raw = responses[key].reply
                item = raw["answer"] if _PART in raw else self._items(raw, 1).get(0)
                if item is not None:
                    readings[place] = self._read(item)
        return readings

    def requests(self, places: Sequence[int]) -> list[Request]:
        """Returns the requests about the texts at these places, equal texts once."""
        n = self._questionnaire.mode.texts_per_request
        distinct = list({self._keys[place]: place for place in reversed(places)}.values())[::-1]
        found = []
        for start in range(0, len(distinct), n):
            members = distinct[start : start + n]
            request = self._questionnaire.group([self._texts[p] for p in members], [self._shown[p] for p in members])
            self._members[request.key(self._identity)] = members
            found.append(request)
        return found

    def parts(self, request: Request, raw: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """Returns the answer about each text of a request by the key of its own; for `Gateway.ask`."""
        key = request.key(self._identity)
        members = self._members[key]
        return {
            self._keys[members[number]]: {_PART: key, "id": str(number + 1), "answer": dict(item)}
            for number, item in self._items(raw, len(members)).items()
            if self._keys[members[number]] != key
        }

    def read(self, answers: Answers) -> tuple[dict[int, Reading], dict[int, str]]:
        """Returns the readings of the texts that were answered, and why others were not, which are not to be asked now.

        A text in neither is to be asked alone: its group's reply left it out, cannot be read, or was refused.
        """
        readings: dict[str, Reading] = {}
        reasons: dict[str, str] = {}
        for key, members in self._members.items():
            if key in answers.responses:
                for number, item in self._items(answers.responses[key].reply, len(members)).items():
                    readings[self._keys[members[number]]] = self._read(item)
                continue
            failure = answers.failures.get(key)
            if failure is None or failure.kind != "rejected":
                why = NOT_ASKED if failure is None else f"{failure.kind}: {failure.message}"
                reasons.update({self._keys[place]: why for place in members})
        return (
            {place: readings[key] for place, key in enumerate(self._keys) if key in readings},
            {place: reasons[key] for place, key in enumerate(self._keys) if key in reasons},
        )

    def _items(self, raw: Mapping[str, Any], count: int) -> dict[int, dict[str, Any]]:
        """The answers in a reply by the number of their text, from 0."""
        try:
            reply = self._provider.read(raw)
            items = split_group(reply.text, [str(number + 1) for number in range(count)]) if reply.finish == "stop" else {}
        except (UnreadableError, ValueError):
            return {}
        return {number: items[str(number + 1)] for number in range(count) if str(number + 1) in items}

    def _read(self, item: Mapping[str, Any]) -> Reading:
        return self._questionnaire.mode.read_item(self._questionnaire.keys, self._questionnaire.task, item)
