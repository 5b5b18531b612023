"""A recorded server, a planted key, and no proxy between the SDK and loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scoring.providers.recorded_server import KEY, RecordedServer, recorded_server


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OPENAI_API_KEY", "DEEPSEEK_API_KEY", "GEMINI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, KEY)


@pytest.fixture
def server() -> Iterator[RecordedServer]:
    """Returns a running server on loopback."""
    with recorded_server() as running:
        yield running
