"""The key, and processes that ask."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scoring.gateway.asks import KEY_NAME
from tests.scoring.gateway.fault_server import KEY

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_NAME, KEY)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `asks.py` with an order; its lines are JSON: progress, and at last what came of it."""
    started: list[subprocess.Popen[str]] = []

    def begin(**order: Any) -> subprocess.Popen[str]:
        script = Path(__file__).with_name("asks.py")
        process = subprocess.Popen(
            [sys.executable, str(script), json.dumps(order, default=str)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()
