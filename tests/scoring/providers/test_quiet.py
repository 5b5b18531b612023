"""Nothing is imported or sent before it is needed, and no log holds the key."""

from __future__ import annotations

import logging
import pickle
import socket
import subprocess
import sys
from typing import Any

import pytest

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.providers import Anthropic, DeepSeek, Gemini, OpenAI, OpenAICompatible
from lf_lightning.scoring.requests import Request
from tests.scoring.providers.recorded_server import KEY, Answer, RecordedServer, ask

PROVIDERS = [OpenAI, DeepSeek, Gemini, Anthropic]
PLAIN = Request("", "Is it blue?", 5)


def test_importing_and_constructing_brings_no_sdk_and_no_torch() -> None:
    code = """
import sys
from lf_lightning.scoring.providers import Anthropic, DeepSeek, Gemini, OpenAI, OpenAICompatible
[each("m").identity for each in (Anthropic, DeepSeek, Gemini, OpenAI)]
OpenAICompatible("m", "http://localhost:1").identity
import lf_lightning.scoring.prices
heavy = {"openai", "anthropic", "google.genai", "httpx", "httpx2", "aiohttp", "genai_prices", "torch", "transformers"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", PROVIDERS)
def test_construction_and_copies_open_nothing(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_socket)
    provider = kind("m")
    assert pickle.loads(pickle.dumps(provider)).identity == provider.identity
    assert KEY not in repr(vars(provider))
    assert KEY.encode() not in pickle.dumps(provider)


@pytest.mark.parametrize("kind", [*PROVIDERS, OpenAICompatible])
def test_no_model_and_a_key_in_place_of_its_name(kind: Any) -> None:
    address = {"base_url": "http://localhost:1"} if kind is OpenAICompatible else {}
    with pytest.raises(ConfigurationError, match="model is empty"):
        kind("", **address)
    with pytest.raises(ConfigurationError, match="no name of an environment variable") as caught:
        kind("m", api_key_env="sk-canary-5", **address)
    assert "canary" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
@pytest.mark.parametrize(("kind", "package"), [*zip(PROVIDERS, ["openai", "openai", "google.genai", "anthropic"], strict=True)])
def test_the_most_talkative_logs_hold_no_key(
    server: RecordedServer, caplog: pytest.LogCaptureFixture, kind: Any, package: str
) -> None:
    pytest.importorskip(package)
    server.answers = [Answer({"choices": []})]
    with caplog.at_level(logging.DEBUG):
        ask(kind("m", base_url=server.url), PLAIN)
    assert KEY in str(server.asked[0].headers)
    assert KEY not in caplog.text
