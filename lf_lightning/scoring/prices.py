"""What a request costs, in integer nanodollars (1e-9 USD): known after the reply, bounded before it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from functools import lru_cache
from math import ceil, isfinite
from typing import Any

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.providers.base import Provider
from lf_lightning.scoring.requests import Request, Usage

_PER_TOKEN = 1000
"""Nanodollars per token, of one USD per million tokens."""
_FRAME = 256
"""Tokens that a chat template, a server's own system prompt and the ends of two messages may add."""
_SCHEMA_FRAME = 512
"""Tokens of the instructions that some providers add to a schema."""
_BY_ADDRESS = ("openai-compatible",)
_OF_MANY_HOSTS = ("openrouter",)


@dataclass(frozen=True)
class Price:
    """A model's price.

    Args:
        input: USD per million tokens of input.
        output: USD per million tokens of output, reasoning among them.
        cached_input: USD per million tokens of input that the provider read from its cache; None: as input.
        written_input: USD per million tokens of input that the provider wrote to its cache; None: as input.
        batch: Share of the price that a batch interface takes.
        long_from: Requests with more tokens of input than this cost `long_factor` times as much; None: none do.
        long_factor: See long_from.

    Raises:
        ConfigurationError: A price is negative or not finite.
    """

    input: float
    output: float
    cached_input: float | None = None
    written_input: float | None = None
    batch: float = 0.5
    long_from: int | None = None
    long_factor: float = 1.0

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached_input", "written_input", "batch", "long_factor"):
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value >= 0):
                raise ConfigurationError(f"price: {name}={value} is no price. Way out: USD per million tokens, 0 or more.")

    def cost(self, usage: Usage, batch: bool = False) -> int:
        """Returns what a reply cost, rounded up to a nanodollar.

        Args:
            usage: What was billed.
            batch: Whether it came through a batch interface.

        >>> Price(0.4, 1.6, 0.1).cost(Usage(input=1000, output=100, cached_input=500))
        410000
        """
        cached = min(usage.cached_input, usage.input)
        written = min(usage.written_input, usage.input - cached)
        plain = usage.input - cached - written
        dear = plain * _exact(self.input) + usage.output * _exact(self.output)
        dear += cached * _exact(self.input if self.cached_input is None else self.cached_input)
        dear += written * _exact(self.input if self.written_input is None else self.written_input)
        return self._rounded(dear, usage.input, batch)

    def bound(self, request: Request, batch: bool = False) -> int:
        """Returns what no reply to a request costs more than, see `most_tokens`.

        Args:
            request: What is asked.
            batch: Whether it goes through a batch interface.
        """
        tokens = most_tokens(request)
        dearest = max(self.input, self.cached_input or 0.0, self.written_input or 0.0)
        return self._rounded(tokens * _exact(dearest) + request.max_output_tokens * _exact(self.output), tokens, batch)

    def estimate(self, request: Request, output_tokens: int | None = None, batch: bool = False) -> int:
        """Returns what a request is likely to cost; nothing holds it to that.

        Args:
            request: What would be asked.
            output_tokens: Expected tokens of the reply; None: as many as it may have.
            batch: Whether it would go through a batch interface.
        """
        output = request.max_output_tokens if output_tokens is None else output_tokens
        return self.cost(Usage(estimated_tokens(request), output), batch)

    def _rounded(self, dear: Fraction, input_tokens: int, batch: bool) -> int:
        if self.long_from is not None and input_tokens > self.long_from:
            dear *= _exact(max(self.long_factor, 1.0))
        return ceil(dear * _PER_TOKEN * (_exact(self.batch) if batch else 1))


def most_tokens(request: Request) -> int:
    """Returns a number of input tokens that no tokenizer exceeds.

    A token of a byte-level or byte-fallback vocabulary, which all providers' models have, stands for at least one byte of
    UTF-8, so that a text has no more tokens than bytes. What is added around it is bounded by a constant: 256 tokens for the
    chat template, and with a schema twice its bytes and 512 more, for the instructions that some providers write around it.

    >>> most_tokens(Request("", "Is it blue?", 5))
    267
    """
    size = len(request.system.encode("utf-8", "replace")) + len(request.prompt.encode("utf-8", "replace")) + _FRAME
    return size + (0 if request.schema is None else 2 * _schema_size(request.schema) + _SCHEMA_FRAME)


def estimated_tokens(request: Request) -> int:
    """Returns about how many tokens of input a request has: 4 ASCII characters a token, 3 bytes of any others, 8 for the frame.

    >>> estimated_tokens(Request("", "Is it blue?", 5))
    11
    """
    text = request.system + request.prompt
    size = len(text.encode("utf-8", "replace"))
    ascii_ = sum(character < "\x80" for character in text)
    schema = 0 if request.schema is None else _schema_size(request.schema)
    return ceil(ascii_ / 4 + (size - ascii_) / 3 + schema / 4) + 8


def price_of(provider: Provider) -> Price | None:
    """Returns a model's price from the table of genai-prices, which lies on disk; no network. None: not known.

    Other servers are looked up by their address. OpenRouter is not: its price depends on the host that answers. Where prices
    change over the day, the highest counts.

    Args:
        provider: Whose model is asked.
    """
    address = str(provider.identity.get("base_url", ""))
    return _from_table(provider.name, provider.model, address if provider.name in _BY_ADDRESS else None)


@lru_cache(maxsize=64)
def _from_table(name: str, model: str, address: str | None) -> Price | None:
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    now, found = datetime.now(timezone.utc), []
    where: Any = {"provider_id": name} if address is None else {"provider_api_url": address}
    try:
        for hour in range(24):
            moment = now + timedelta(hours=hour)
            found.append(calc_price(Tokens(input_tokens=1), model, genai_request_timestamp=moment, **where))
    except LookupError:
        return None
    if any(each.provider.id in _OF_MANY_HOSTS for each in found):
        return None
    bases: dict[str, float] = {}
    long_from, long_factor = None, 1.0
    for each in found:
        for field, column in _COLUMNS.items():
            price = getattr(each.model_price, column, None)
            if price is None:
                continue
            base = float(getattr(price, "base", price))
            bases[field] = max(bases.get(field, 0.0), base)
            for tier in getattr(price, "tiers", ()):
                long_from = tier.start if long_from is None else min(long_from, tier.start)
                long_factor = max(long_factor, float(tier.price) / base if base else 1.0)
    if "input" not in bases or "output" not in bases:
        return None
    return Price(**bases, long_from=long_from, long_factor=long_factor)


_COLUMNS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "written_input": "cache_write_mtok",
}


def _exact(price: float) -> Fraction:
    """The decimal number that was written: 0.1, not the binary number next to it."""
    return Fraction(str(price))


def _schema_size(schema: Mapping[str, Any]) -> int:
    return len(json.dumps(schema, ensure_ascii=False).encode("utf-8", "replace"))
