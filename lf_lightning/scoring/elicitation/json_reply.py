"""Reading JSON that a model wrote: strictly, with a reason where it cannot be read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lf_lightning.scoring.elicitation.base import excerpt
from lf_lightning.store.cards import canonical_json

ANSWERS = "answers"


class UnreadableError(ValueError):
    """A reply that is not what was asked for; the message is the reason that is kept with the row."""


def json_object(text: str) -> dict[str, Any]:
    """Returns the JSON object that is the whole of a reply, in a fenced block or bare.

    Raises:
        UnreadableError: It is not JSON, not an object, or has a field twice.
    """
    body = text.strip()
    if body.startswith("```") and body.endswith("```") and "\n" in body:
        body = body[body.index("\n") : -3]
    try:
        found = json.loads(body, object_pairs_hook=_once)
    except (json.JSONDecodeError, RecursionError) as error:
        what = "no reply" if not body else f"no JSON: {excerpt(text)}"
        raise UnreadableError(what) from error
    except UnreadableError:
        raise
    except ValueError as error:  # a whole number of more digits than Python reads
        raise UnreadableError("a number of too many digits") from error
    if not isinstance(found, dict):
        raise UnreadableError(f"JSON, but no object: {excerpt(text)}")
    return found


def check_fields(found: Mapping[str, Any], wanted: Sequence[str], where: str) -> None:
    """Raises unless an object has the wanted fields and no others.

    Raises:
        UnreadableError: It has not.
    """
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    if missing or extra:
        parts = [f"lacks {excerpt(', '.join(missing))}"] if missing else []
        parts += [f"has {excerpt(', '.join(extra))} besides"] if extra else []
        raise UnreadableError(f"{where} {' and '.join(parts)}")


def strict_object(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the schema of an object with these fields, all required and no others.

    Fields are sorted: a request's key does not see their order, so the order must follow from the names.
    """
    names = sorted(properties)
    return {
        "type": "object",
        "properties": {name: properties[name] for name in names},
        "required": names,
        "additionalProperties": False,
    }


def group_schema(item: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the schema of answers about several texts; it is the same for any number of them."""
    item = strict_object({**item["properties"], "id": {"type": "string"}})
    return strict_object({ANSWERS: {"type": "array", "items": item}})


def split_group(text: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns the answers of a reply about several texts by their ids. An id that is missing or comes twice is left out.

    Raises:
        UnreadableError: The reply is no JSON object with a list of answers.
    """
    found = json_object(text).get(ANSWERS)
    if not isinstance(found, list):
        raise UnreadableError("no list of answers")
    items: dict[str, list[dict[str, Any]]] = {}
    for item in found:
        if isinstance(item, dict) and _plain(item):
            items.setdefault(str(item.get("id")), []).append({name: value for name, value in item.items() if name != "id"})
    return {number: items[number][0] for number in ids if len(items.get(number, ())) == 1}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise UnreadableError("a field comes twice")
    return found


def _plain(item: dict[str, Any]) -> bool:
    """Whether an answer can be kept in the response cache: NaN cannot."""
    try:
        canonical_json(item)
    except (ValueError, RecursionError):
        return False
    return True
