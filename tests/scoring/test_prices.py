"""Prices: exact costs, bounds that hold for real tokenizers, and a table that needs no network."""

from __future__ import annotations

import socket
from decimal import ROUND_CEILING, Decimal
from typing import Any

import numpy as np
import pytest

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.prices import Price, estimated_tokens, most_tokens, price_of
from lf_lightning.scoring.providers import Anthropic, DeepSeek, Gemini, OpenAI, OpenAICompatible
from lf_lightning.scoring.requests import Request, Usage


def test_costs_agree_with_decimal_arithmetic_and_are_rounded_up() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        prices = [round(float(p), 4) for p in rng.uniform(0, 20, 4)]
        tokens = [int(t) for t in rng.integers(0, 10**6, 2)]
        cached = int(rng.integers(0, tokens[0] + 1))
        written = int(rng.integers(0, tokens[0] - cached + 1))
        counts = [tokens[0] - cached - written, tokens[1], cached, written]
        exact = sum(Decimal(str(p)) * n * 1000 for p, n in zip(prices, counts, strict=True))
        price = Price(*prices)
        usage = Usage(*tokens, cached, written)
        assert price.cost(usage) == int(exact.to_integral_value(ROUND_CEILING))
        assert price.cost(usage, batch=True) == int((exact / 2).to_integral_value(ROUND_CEILING))
    assert Price(0.0001, 0.0).cost(Usage(1)) == 1
    assert Price(0.1, 0.3).cost(Usage(3, 1)) == 600


def test_input_from_the_cache_costs_as_input_where_it_has_no_price_of_its_own() -> None:
    assert Price(1, 2).cost(Usage(10, 0, 5, 5)) == Price(1, 2).cost(Usage(10))
    assert Price(1, 2, cached_input=0).cost(Usage(10, 0, 5)) == 5000
    assert Price(1, 2, cached_input=0).cost(Usage(10, 0, 50)) == 0, "more from the cache than there was"


def test_long_requests_cost_more() -> None:
    price = Price(1, 2, long_from=100, long_factor=2.0)
    assert price.cost(Usage(100, 10)) == 120_000
    assert price.cost(Usage(101, 10)) == 242_000
    assert price.bound(Request("", "x" * 200, 1)) >= 2 * 200 * 1000


@pytest.mark.parametrize("prices", [(-1, 1), (1, float("nan")), (float("inf"), 1)])
def test_what_is_no_price(prices: tuple[float, float]) -> None:
    with pytest.raises(ConfigurationError, match="no price"):
        Price(*prices)


TEXTS = [
    "",
    "Plain words, nothing else.",
    "ﷺ",
    "日本語のテキスト" * 9,
    "🏳️‍🌈👩‍👩‍👧‍👦" * 5,
    "\x00\x01\x02",
    "a\ud800b",
    " \n\t" * 40,
    "ß" * 99,
]


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_has_more_tokens_than_its_bound(text: str, tiny_lm: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_lm)  # spells every byte, so that nothing has more tokens
    tokens = len(tokenizer(text.encode("utf-8", "replace").decode())["input_ids"])
    request = Request("", text, 7)
    assert tokens <= most_tokens(request)
    assert 0 < estimated_tokens(request) <= most_tokens(request)
    price = Price(1, 2, cached_input=0.1, written_input=1.25)
    worst = [Usage(tokens, 7), Usage(tokens, 7, tokens), Usage(tokens, 7, 0, tokens)]
    assert all(price.cost(usage, batch) <= price.bound(request, batch) for usage in worst for batch in (False, True))


def test_schema_and_system_count() -> None:
    plain = Request("", "x", 5)
    schema: dict[str, Any] = {"type": "object", "properties": {"é" * 50: {"type": "integer"}}}
    assert most_tokens(Request("s" * 10, "x", 5)) == most_tokens(plain) + 10
    assert most_tokens(Request("", "x", 5, schema=schema)) > most_tokens(plain) + 2 * 100
    assert estimated_tokens(Request("", "x", 5, schema=schema)) > estimated_tokens(plain)
    assert Price(0, 1).bound(plain) == 5000
    assert Price(0, 1).estimate(plain, 2) == 2000
    assert Price(0, 1).estimate(plain, batch=True) == 2500


def test_the_table_knows_the_providers_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_socket)
    assert price_of(OpenAI("gpt-4.1-mini")) == Price(0.4, 1.6, 0.1)
    assert price_of(OpenAI("gpt-4.1-mini-2025-04-14")) == Price(0.4, 1.6, 0.1)
    claude = price_of(Anthropic("claude-haiku-4-5"))
    assert claude is not None
    assert (claude.input, claude.output, claude.cached_input, claude.written_input) == (1, 5, 0.1, 1.25)
    pro = price_of(Gemini("gemini-2.5-pro"))
    assert pro is not None
    assert (pro.input, pro.output, pro.long_from, pro.long_factor) == (1.25, 10, 200_000, 2.0)
    assert price_of(OpenAICompatible("llama-3.3-70b-versatile", "https://api.groq.com/openai/v1")) is not None


def test_the_price_of_the_dearest_hour_counts() -> None:
    from datetime import datetime, timezone

    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    price = price_of(DeepSeek("deepseek-reasoner"))
    assert price is not None
    hours = [datetime(2026, 11, 21, hour, tzinfo=timezone.utc) for hour in range(24)]
    table = [
        calc_price(
            Tokens(input_tokens=1), "deepseek-reasoner", provider_id="deepseek", genai_request_timestamp=hour
        ).model_price
        for hour in hours
    ]
    assert len({each.output_mtok for each in table}) > 1
    assert price.output == float(max(each.output_mtok for each in table))


@pytest.mark.parametrize(
    "provider",
    [
        OpenAI("gpt-unheard-of"),
        OpenAICompatible("qwen", "http://localhost:8000/v1"),
        OpenAICompatible("qwen/qwen3-32b", "https://openrouter.ai/api/v1"),
    ],
)
def test_what_is_not_known_has_no_price(provider: Any) -> None:
    assert price_of(provider) is None
