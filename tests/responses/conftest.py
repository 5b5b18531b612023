"""The backends that the contract's tests run over: to hold one of your own to it, add its class to `worker.BACKENDS`."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lf_lightning.responses import ResponseCache

SCRIPT = Path(__file__).with_name("worker.py")
_worker = SimpleNamespace(**runpy.run_path(str(SCRIPT)))

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def worker() -> Any:
    """Returns the names of worker.py."""
    return _worker


@pytest.fixture(params=list(_worker.BACKENDS.values()), ids=list(_worker.BACKENDS))
def backend(request: pytest.FixtureRequest) -> type[ResponseCache]:
    """Returns each backend's class in turn."""
    return request.param


@pytest.fixture
def cache(backend: type[ResponseCache], tmp_path: Path) -> Iterator[ResponseCache]:
    """Returns an empty cache, closed after the test."""
    cache = backend(str(tmp_path / "responses"))
    yield cache
    cache.close()


@pytest.fixture
def start() -> Iterator[Start]:
    """Returns a function that starts worker.py and returns the process once it is about to write."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: object) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, str(SCRIPT), *map(str, words)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
