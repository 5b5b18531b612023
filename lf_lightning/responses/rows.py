"""A response as one line of JSON with its checksum, `["<64 hex digits>",{...}]`, readable by any tool for SQL or JSON."""

from __future__ import annotations

import json
from hashlib import sha256

from lf_lightning.responses.base import Response

_FIELDS = ("provider", "model", "request", "reply", "usage", "created")
_START, _END = '["', "]"
_DIGITS = slice(len(_START), len(_START) + 64)
_CONTENT = slice(_DIGITS.stop + len('",'), -len(_END))


def seal(response: Response) -> str:
    r"""Returns the line of a response, in ASCII: lone surrogates and NUL bytes of a reply survive.

    >>> response = Response("ab", "openai", "m", {"prompt": "?"}, {"text": "\ud800"}, {"input": 3}, 1.5)
    >>> unseal("ab", seal(response).encode()) == response
    True
    >>> print(unseal("ac", seal(response).encode()), unseal("ab", seal(response).replace("?", "!").encode()))
    None None
    """
    fields = {name: getattr(response, name) for name in _FIELDS}
    fields |= {name: dict(fields[name]) for name in ("request", "reply", "usage")}
    content = json.dumps(fields, separators=(",", ":"))
    return f'{_START}{_checksum(response.key, content)}",{content}{_END}'


def unseal(key: str, line: bytes | None) -> Response | None:
    """Returns the response of a key, or None where a byte of key or line is not what was written."""
    try:
        text = (line or b"").decode("ascii")
        content = text[_CONTENT]
        if text != f'{_START}{_checksum(key, content)}",{content}{_END}':
            return None
        return Response(key=key, **json.loads(content))
    except (ValueError, TypeError):
        return None


def _checksum(key: str, content: str) -> str:
    return sha256(f"{key}\n{content}".encode("ascii")).hexdigest()
