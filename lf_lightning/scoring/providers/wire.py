"""What every provider needs on the way out and on the way in: keys, addresses, texts, JSON, rate headers, HTTP statuses."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.providers.base import ProviderError, RateHeaders

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_ABSURD = 1e9
"""No number of tokens and no log-probability in a reply is as large."""
_TOO_LONG = (
    "context length",
    "context_length",
    "context size",
    "context window",
    "exceed_context",
    "too long",
    "too large",
    "maximum number of tokens",
    "token count exceeds",
)


def check_key_name(api_key_env: str) -> str:
    """Returns the name of an environment variable, or raises for what is none; a key given by mistake is not repeated.

    Raises:
        ConfigurationError: It is not of capital letters, digits and underscores.
    """
    if not _VARIABLE.fullmatch(api_key_env):
        raise ConfigurationError(
            "api_key_env is no name of an environment variable (capital letters, digits, underscores). If it is the key: "
            "a key belongs into no config and no command line. Way out: export the key and name its variable, such as "
            "api_key_env=OPENAI_API_KEY."
        )
    return api_key_env


def read_key(api_key_env: str, provider: str) -> str:
    """Returns the key that an environment variable holds.

    Raises:
        ProviderError: denied; it is not set, or holds what cannot be a key.
    """
    key = os.environ.get(api_key_env, "").strip()
    if not key:
        raise ProviderError("denied", f"{provider}: the environment variable {api_key_env} is not set. Way out: export it.")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ProviderError("denied", f"{provider}: the environment variable {api_key_env} holds characters that no key has.")
    return key


def plain_url(base_url: str) -> str:
    """Returns an address in the one form that identities hold: small scheme and host, no default port, no slash at its end.

    >>> plain_url("HTTP://LocalHost:80/v1/"), plain_url("https://api.openai.com/v1")
    ('http://localhost/v1', 'https://api.openai.com/v1')

    Raises:
        ConfigurationError: It is no http(s) address, or holds a user, a password or a query, which could be a secret.
    """
    try:
        parts = urlsplit(base_url.strip())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password or parts.query:
        raise ConfigurationError(
            "base_url is no plain http(s) address (without user, password and query). "
            "Way out: such as base_url=http://localhost:8000/v1, the key in an environment variable that api_key_env names."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port is not None and port != {"http": 80, "https": 443}[parts.scheme]:
        host = f"{host}:{port}"
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def sendable(text: str) -> str:
    r"""Returns a text as UTF-8 can hold it: lone surrogates become question marks.

    >>> sendable("a\ud800b")
    'a?b'
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def parse_reply(content: bytes | str, provider: str) -> dict[str, Any]:
    """Returns a reply's JSON object; NaN and infinities, which JSON has not, become None.

    Raises:
        ProviderError: garbled; it is no JSON object.
    """
    try:
        raw = json.loads(content, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict):
        raise ProviderError("garbled", f"{provider}: the reply has status 200 but is no JSON object.", status=200)
    return raw


def seconds_of(duration: str) -> float | None:
    """Returns a duration such as `6m0s`, `120ms` or `1.5` in seconds; None for anything else.

    >>> seconds_of("6m0s"), seconds_of("120ms"), seconds_of("1.5"), seconds_of("soon")
    (360.0, 0.12, 1.5, None)
    """
    duration = duration.strip()
    try:
        plain = float(duration)
    except ValueError:
        pass
    else:
        return plain if 0 <= plain < 1e9 else None
    parts = _DURATION.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds that `retry-after-ms` or `retry-after` (seconds or a date) ask for, at least 0.

    Args:
        headers: Looked up by lower-case names.
    """
    milliseconds = headers.get("retry-after-ms")
    if milliseconds is not None and (wait := seconds_of(milliseconds)) is not None:
        return wait / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    if (wait := seconds_of(value)) is not None:
        return wait
    try:
        return _until(parsedate_to_datetime(value))
    except (ValueError, TypeError, OverflowError):
        return None


def rate_headers(headers: Mapping[str, str], prefix: str = "x-ratelimit-", flipped: bool = False) -> RateHeaders:
    """Returns what the headers say of the limits.

    Args:
        headers: Looked up by lower-case names.
        prefix: What they begin with.
        flipped: The names end in `requests-remaining` instead of `remaining-requests`.
    """

    def value(what: str, of: str) -> str | None:
        return headers.get(prefix + (f"{of}-{what}" if flipped else f"{what}-{of}"))

    return RateHeaders(
        _count(value("remaining", "requests")),
        _count(value("remaining", "tokens")),
        _reset(value("reset", "requests")),
        _reset(value("reset", "tokens")),
    )


def count(value: Any) -> int:
    """Returns a number of tokens, 0 for anything that is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _ABSURD else 0


def best_first(candidates: list[Any], field: str) -> tuple[tuple[str, float], ...]:
    """Returns the candidates (token, log-probability) for one place in a reply, best first; what is no candidate is left out.

    Args:
        candidates: Objects with a `token`.
        field: Where their log-probability is.
    """
    found: dict[str, float] = {}
    for candidate in candidates:
        if isinstance(candidate, Mapping):
            token, value = candidate.get("token"), candidate.get(field)
            if isinstance(token, str) and isinstance(value, (int, float)) and -_ABSURD < value < _ABSURD:
                found.setdefault(token, float(value))
    return tuple(sorted(found.items(), key=lambda pair: -pair[1]))


def failure_of(
    status: int, code: str, words: str, headers: Mapping[str, str], provider: str, limits: RateHeaders | None = None
) -> ProviderError | ConfigurationError:
    """Returns what an HTTP status of failure means. The provider's words are read and never repeated: they may echo the key.

    Args:
        status: 400 to 599.
        code: The provider's own code or type of the error; empty where it has none.
        words: The provider's message.
        headers: For Retry-After.
        provider: For the message.
        limits: What the headers say of the limits.
    """
    wait = retry_after(headers)
    told = f"{provider}: HTTP {status}" + (f" ({code})" if re.fullmatch(r"[A-Za-z_]{1,40}", code) else "")
    low = f"{code} {words}".lower()
    if status == 402 or (status in (400, 403, 429) and _is_quota(low)):
        return ProviderError("quota", f"{told}: no credit or quota is left. Way out: top it up, then run again.", wait, status)
    if status in (401, 403):
        return ProviderError(
            "denied", f"{told}: the key is not accepted. Way out: check the variable that api_key_env names.", wait, status
        )
    if status == 404:
        return ConfigurationError(f"{told}: there is no such model or path. Way out: check model and base_url.")
    if status == 429:
        if wait is None and limits is not None:
            resets = (limits.reset_requests, limits.remaining_requests), (limits.reset_tokens, limits.remaining_tokens)
            wait = max((reset for reset, left in resets if reset is not None and left == 0), default=None)
        return ProviderError("rate_limited", f"{told}: too many requests.", wait, status)
    if status in (504, 524):
        return ProviderError("timeout", f"{told}: the provider's own time ran out.", wait, status)
    if status >= 500 or status in (408, 409, 425):
        return ProviderError("unavailable", f"{told}: the provider cannot answer now.", wait, status)
    if status == 413 or any(phrase in low for phrase in _TOO_LONG):
        return ProviderError("rejected", f"{told}: the prompt is too long for the model.", None, status)
    return ProviderError("rejected", f"{told}: the provider does not take this request.", None, status)


def _is_quota(low: str) -> bool:
    return any(word in low for word in ("insufficient_quota", "billing_hard_limit", "credit balance", "insufficient balance"))


def _count(value: str | None) -> int | None:
    return int(value) if value is not None and value.strip().isdecimal() else None


def _reset(value: str | None) -> float | None:
    if value is None:
        return None
    if "T" in value:
        try:
            return _until(datetime.fromisoformat(value.replace("Z", "+00:00")))
        except ValueError:
            return None
    seconds = seconds_of(value)
    return seconds if seconds is None or seconds < 1e8 else None  # some servers send a moment instead of a duration


def _until(moment: datetime) -> float:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max((moment - datetime.now(timezone.utc)).total_seconds(), 0.0)
