"""Finding out once what a model can give, and remembering it: the mode of a scorer never changes by itself."""

from __future__ import annotations

from dataclasses import replace

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError, LFError
from lf_lightning.scoring.elicitation.base import Elicitation
from lf_lightning.scoring.elicitation.json_reply import UnreadableError, json_object, strict_object
from lf_lightning.scoring.elicitation.label import Label
from lf_lightning.scoring.elicitation.logprob import Logprob
from lf_lightning.scoring.elicitation.verbalized import Verbalized
from lf_lightning.scoring.gateway import Gateway
from lf_lightning.scoring.providers.base import Provider
from lf_lightning.scoring.questionnaire import Temperature
from lf_lightning.scoring.requests import Reply, Request

_BEST = Logprob()
_LETTER = Request("", "Answer with the letter A and nothing else.", 1, top_logprobs=_BEST.top)
_JSON = Request("", 'Answer with JSON and nothing else: {"ok": 1}', 32, schema=strict_object({"ok": {"type": "integer"}}))
_WORD = Request("", "Answer with the word yes and nothing else.", 16)


def find_mode(
    gateway: Gateway,
    provider: Provider,
    labels: list[str],
    task: Task,
    *,
    temperature: Temperature = "mode",
    thinking_tokens: int = 0,
    offline: bool = False,
    max_cost: float | None = None,
) -> Elicitation:
    """Returns the best mode that a model can give: `Logprob`, else `Verbalized`, else `Label`.

    At most three tiny requests are asked: for log-probabilities, for JSON by a schema, for a word. Their replies stay in the
    response cache, and what they showed once is what holds until they are removed from it. `Vote` is never chosen: it costs
    several times as much.

    Args:
        gateway: Through which to ask.
        provider: Who is asked.
        labels: The label names.
        task: multiclass or multilabel.
        temperature: As of the scorer.
        thinking_tokens: As of the scorer.
        offline: Ask for nothing: what was not found out before is an error.
        max_cost: As of `Gateway.ask`.

    Raises:
        ConfigurationError: It was not found out yet, and `offline` is set.
        LFError: The provider did not answer, for a reason that says nothing of its abilities.
    """
    modes: list[tuple[Elicitation, Request]] = [(Verbalized(), _JSON), (Label(), _WORD)]
    if len(labels) <= _BEST.top or task == "multilabel":
        modes.insert(0, (_BEST, _LETTER))
    degree = 0.0 if temperature == "mode" else (None if temperature is None else float(temperature))
    probes = [
        replace(request, max_output_tokens=request.max_output_tokens + thinking_tokens, temperature=degree)
        for _, request in modes
    ]
    known = gateway.lookup(provider, probes)
    asked_before = [probe.key(provider.identity) in known for probe in probes]
    for number, (mode, _) in enumerate(modes):
        if not asked_before[number] and any(asked_before[number:]):
            continue  # refused when it was asked, or the later ones would not have been
        if offline and not asked_before[number]:
            raise ConfigurationError(
                f"mode='auto': what {provider.model!r} can give is not known yet, and finding out takes a request. "
                "Way out: name the mode (logprob, verbalized, vote or label)."
            )
        reply = _reply(gateway, provider, probes[number], max_cost)
        if reply is not None and _shows(mode, reply):
            return mode
    return Label()


def _shows(mode: Elicitation, reply: Reply) -> bool:
    if isinstance(mode, Logprob):
        return bool(reply.alternatives and reply.alternatives[0])
    if isinstance(mode, Verbalized):
        try:
            return set(json_object(reply.text)) == {"ok"}
        except UnreadableError:
            return False
    return True


def _reply(gateway: Gateway, provider: Provider, request: Request, max_cost: float | None) -> Reply | None:
    """The reply to a probe; None: the provider cannot do what it asks for."""
    answers = gateway.ask(provider, [request], max_cost=max_cost)
    key = request.key(provider.identity)
    if key in answers.responses:
        try:
            return provider.read(answers.responses[key].reply)
        except ValueError:
            return None
    if isinstance(answers.halt, ConfigurationError):
        return None
    if answers.halt is not None:
        raise answers.halt
    failure = answers.failures[key]
    if failure.kind == "rejected":
        return None
    raise LFError(
        f"mode='auto': what {provider.model!r} can give could not be found out ({failure.kind}: {failure.message}). "
        "Way out: run it again, or name the mode."
    )
