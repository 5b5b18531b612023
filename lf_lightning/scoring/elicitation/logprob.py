"""Mode `logprob`: the probabilities that a model gives to the options' letters, read at the first token of its answer."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from math import exp, isnan
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.elicitation.base import Elicitation, Question, Reading, excerpt
from lf_lightning.scoring.elicitation.keys import option_codes, spoken_names
from lf_lightning.scoring.requests import Reply
from lf_lightning.store import Status

Codes = Literal["letters", "names"]
YES_NO = ("yes", "no")
NO_LOGPROBS = "no log-probabilities in the reply"
_AROUND = (
    " \t\r\n\u2581\u0120\u010a\"'`*()[]<>.,:;"  # spaces, tokenizers' own marks for them, and what may stand around a letter
)
_SMALLEST = 1e-12


class Logprob(Elicitation):
    r"""Reads the log-probabilities of the options' codes (A, B, C, ...), each a single token, instead of the answer.

    With `m_y` the summed probability of all tokens that mean the code of y (with a space, in lower case, in full width, in
    brackets), `p_y = m_y / sum_j m_j`. The sum is the label mass: how much of its answer the model spent on the labels.
    A code that is not among the alternatives gets the largest probability that the reply allows it: the smaller of the last
    alternative's, and an equal share of what is left of 1; so it is an upper bound, never 0.

    More than 26 labels go on with a to z, and the letters' case then counts; 53 are refused. More labels than `top` are
    refused too, as most of them would be outside the alternatives: raise `top` where the server gives more than 20 (vLLM:
    --max-logprobs), or use `verbalized`.

    `codes: names` is for small models, which know names but not letters: the answer is the label's name, and a token counts for
    the one label whose name begins with it.

    Multi-label: one yes-or-no question a label, `p_y = m_yes / (m_yes + m_no)`. One request about all labels would be cheaper,
    but only a reply's first token is free of what was sampled before it: later answers would follow from the earlier ones.

    With `content_free`, the same question is asked about a text without content and its probabilities are divided out
    (contextual calibration, Zhao et al. 2021). It is asked anew for each order of the options and each choice of examples, so
    `shuffle_options: false` makes it one request in all. Calibration from a batch of texts is left to the calibrators that are
    fitted on validation rows: here it would make a text's score depend on its neighbours.

    Args:
        top: Alternatives that are asked for; providers give 20 at most, some servers more.
        least_mass: A row whose label mass is below this is `UNPARSED`.
        content_free: A text without content, such as N/A, whose probabilities are divided out.
        codes: letters, or names for models of less than about a billion parameters.

    Raises:
        ConfigurationError: `top` is below 2, or `least_mass` outside [0, 1].
    """

    name = "logprob"

    def __init__(
        self, top: int = 20, least_mass: float = 0.01, content_free: str | None = None, codes: Codes = "letters"
    ) -> None:
        if top < 2 or not 0 <= least_mass <= 1:
            raise ConfigurationError(f"top={top} must be at least 2, and least_mass={least_mass} within 0 and 1.")
        self.top, self.least_mass, self.content_free, self.codes = top, least_mass, content_free, codes
        self.lettered = codes == "letters"

    @property
    def spec(self) -> dict[str, Any]:
        """The four arguments."""
        return {"top": self.top, "least_mass": self.least_mass, "content_free": self.content_free, "codes": self.codes}

    def template(self, task: Task) -> str:
        """Returns the file of the prompt."""
        return f"logprob_{task}.jinja"

    def keys(self, labels: Sequence[str], task: Task) -> tuple[str, ...]:
        """Returns letters or names; multi-label: numbers, as each label is asked about alone.

        Raises:
            ConfigurationError: There are more labels than letters, or than `top`, or names that begin with one another.
        """
        if task == "multilabel":
            return tuple(str(number) for number in range(1, len(labels) + 1))
        codes = option_codes(len(labels)) if self.lettered else _names(labels)
        if len(codes) > self.top:
            raise ConfigurationError(
                f"labels: {len(codes)} are more than top={self.top}, the alternatives that mode 'logprob' reads. "
                "Way out: raise top, where the server gives so many (vLLM: --max-logprobs); or mode verbalized."
            )
        return codes

    def questions(self, k: int, task: Task) -> list[Question]:
        """Returns one question, or one about each label."""
        return [Question()] if task == "multiclass" else [Question(about=label) for label in range(k)]

    def decoding(self, keys: Sequence[str], task: Task) -> dict[str, Any]:
        """Returns one token at temperature 0, with its alternatives."""
        return {"max_output_tokens": 1, "temperature": 0.0, "top_logprobs": self.top}

    def example_answer(self, chosen: Sequence[int], keys: Sequence[str], question: Question, task: Task) -> str:
        """Returns the letter, or yes or no."""
        if question.about is not None:
            return YES_NO[0 if question.about in chosen else 1]
        return ", ".join(keys[label] for label in chosen)

    def read(self, keys: Sequence[str], task: Task, replies: Sequence[Reply], prior: Sequence[Reply] | None = None) -> Reading:
        """Returns the normalised probabilities with the label mass."""
        for reply in replies:
            if reply.finish == "refused":
                return Reading(Status.REFUSED, reason="refused")
        codes = keys if task == "multiclass" else YES_NO
        whole = self.lettered or task == "multilabel"
        rows = []
        least = 1.0
        for number, reply in enumerate(replies):
            found = code_masses(reply, codes, whole)
            if isinstance(found, str):
                return Reading.unparsed(found)
            masses, mass = found
            least = min(least, mass)
            if mass < self.least_mass or mass == 0:
                what = "none of the alternatives is an option" if mass == 0 else f"label mass {mass:.3g}"
                return Reading.unparsed(f"{what}; the model says {excerpt(reply.text or _best(reply))}", mass)
            logs = np.log(np.maximum(masses, _SMALLEST))
            if prior is not None:
                empty = code_masses(prior[number], codes, whole)
                if isinstance(empty, str):
                    return Reading.unparsed(f"content_free: {empty}", mass)
                logs = logs - np.log(np.maximum(empty[0], _SMALLEST))
            weights = np.exp(logs - logs.max())
            rows.append(weights / weights.sum())
        values = rows[0] if task == "multiclass" else np.array([row[0] for row in rows])
        return Reading(Status.SCORED, tuple(float(value) for value in values), label_mass=least)


def code_masses(reply: Reply, codes: Sequence[str], whole: bool = True) -> tuple[NDArray[np.float64], float] | str:
    """Returns the probability of each code at a reply's first token, floors included, and their sum without floors.

    Where there is nothing to read, it returns the reason instead.

    Args:
        reply: With its alternatives.
        codes: K codes; where two differ in case only, case counts.
        whole: Whether a token must be the code; else it may be its beginning, if it is that of no other.
    """
    if not reply.alternatives or not reply.alternatives[0]:
        return NO_LOGPROBS
    exact = len({code.casefold() for code in codes}) < len(codes)
    places = {code if exact else code.casefold(): place for place, code in enumerate(codes)}
    masses = np.zeros(len(codes))
    listed, smallest = 0.0, 1.0
    for token, value in reply.alternatives[0]:
        if isnan(value) or value > 1e-3:
            return f"a log-probability of {value}"
        probability = exp(min(value, 0.0))
        listed, smallest = listed + probability, min(smallest, probability)
        plain = unicodedata.normalize("NFKC", token).strip(_AROUND)
        plain = plain if exact else plain.casefold()
        meant = [places[plain]] if plain in places else []
        if not whole and plain:
            meant = [place for code, place in places.items() if code.startswith(plain)]
        if len(meant) == 1:
            masses[meant[0]] += probability
    mass = float(min(masses.sum(), 1.0))
    absent = masses == 0
    if absent.any():
        masses[absent] = min(smallest, max(1.0 - listed, 0.0) / int(absent.sum()))
    return masses, mass


def _names(labels: Sequence[str]) -> tuple[str, ...]:
    names = spoken_names(labels)
    folded = sorted(name.casefold() for name in names)
    if names != tuple(labels) or any(after.startswith(before) for before, after in pairwise(folded)):
        raise ConfigurationError(
            f"labels={list(labels)[:10]}: codes='names' needs plain names of which none begins another. "
            "Way out: codes: letters, or mode verbalized."
        )
    return names


def _best(reply: Reply) -> str:
    return reply.alternatives[0][0][0]
