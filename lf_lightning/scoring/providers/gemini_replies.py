"""Reading what Gemini generated: texts, blocks, log-probabilities, billed tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lf_lightning.scoring.providers.wire import best_first, count
from lf_lightning.scoring.requests import Finish, Reply, Usage

_BLOCKED = ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "LANGUAGE")


def read_generated(raw: Mapping[str, Any]) -> Reply:
    """Returns the reply that a raw one holds.

    Args:
        raw: The JSON of a GenerateContentResponse.

    Raises:
        ValueError: It has no candidates, and no reason why.
    """
    usage = _usage(raw.get("usageMetadata"))
    candidates = raw.get("candidates")
    if not isinstance(candidates, list) or not candidates or not isinstance(candidates[0], Mapping):
        feedback = raw.get("promptFeedback")
        if isinstance(feedback, Mapping) and feedback.get("blockReason"):
            return Reply("", "refused", usage=usage)
        raise ValueError("The reply has no candidates.")
    candidate = candidates[0]
    reason = str(candidate.get("finishReason"))
    finish: Finish = "refused" if reason in _BLOCKED else "length" if reason == "MAX_TOKENS" else "stop"
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, Mapping) else None
    said = [part for part in _list(parts) if isinstance(part, Mapping) and not part.get("thought")]
    text = "".join(str(part.get("text") or "") for part in said)
    return Reply(text, finish, _alternatives(candidate.get("logprobsResult")), usage)


def _alternatives(result: Any) -> tuple[tuple[tuple[str, float], ...], ...]:
    if not isinstance(result, Mapping):
        return ()
    chosen, top = _list(result.get("chosenCandidates")), _list(result.get("topCandidates"))
    found = []
    for position in range(max(len(chosen), len(top))):
        others = top[position].get("candidates") if position < len(top) and isinstance(top[position], Mapping) else None
        found.append(best_first([*chosen[position : position + 1], *_list(others)], "logProbability"))
    return tuple(found)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _usage(usage: Any) -> Usage:
    """Thoughts are billed as output, beside what is said."""
    if not isinstance(usage, Mapping):
        return Usage()
    output = count(usage.get("candidatesTokenCount")) + count(usage.get("thoughtsTokenCount"))
    given = count(usage.get("promptTokenCount")) + count(usage.get("toolUsePromptTokenCount"))
    return Usage(given, output, count(usage.get("cachedContentTokenCount")))
