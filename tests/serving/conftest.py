from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lf_lightning import Predictor
from tests.predictor.conftest import _imports_restored, encoder_alone, fusion, multilabel_fusion, new_texts  # noqa: F401
from tests.systems.conftest import multilabel_world, world  # noqa: F401  fixtures

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
"""Seconds, on a machine that does much else."""
ENDS = {signal.SIGTERM: 0, signal.SIGINT: 130}


class Server:
    """A running `lf serve`."""

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self.process, self.port, self._log = process, port, log

    def send(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Status, body (JSON as such) and headers of a reply."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", content, {"content-type": "application/json", **headers}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
                status, text, head = reply.status, reply.read(), dict(reply.headers)
        except urllib.error.HTTPError as error:
            with error:
                status, text, head = error.code, error.read(), dict(error.headers)
        head = {name.lower(): value for name, value in head.items()}
        return status, json.loads(text) if "json" in head.get("content-type", "") else text.decode(), head

    def predict(self, texts: Any, **more: Any) -> Any:
        """The predictions."""
        status, body, _ = self.send("/predict", {"texts": texts, **more})
        assert status == 200, body
        return body["predictions"]

    def metric(self, name: str) -> float:
        """A number of /metrics."""
        found = re.search(rf"^{re.escape(name)} (\S+)", self.send("/metrics")[1], re.MULTILINE)
        assert found is not None
        return float(found[1])

    def wait_for(self, texts: int) -> None:
        """Waits until so many texts wait."""
        end = time.monotonic() + PATIENCE
        while self.metric("lf_waiting_texts") != texts:
            assert time.monotonic() < end

    def log(self) -> str:
        """What it has said on standard error."""
        return self._log.read_text(encoding="utf-8")

    def end(self, how: signal.Signals) -> None:
        """Tells it to stop: it does, as documented, and leaves neither a traceback nor the port."""
        self.process.send_signal(how)
        assert self.process.wait(PATIENCE) == ENDS[how], self.log()
        assert "Traceback" not in self.log()
        with pytest.raises(OSError, match="refused"):
            self.send("/health")


@contextmanager
def serving(folder: Path, model: Path, *options: str, end: signal.Signals = signal.SIGTERM, **more: str) -> Iterator[Server]:
    """Runs `lf serve` in a process of its own, as users do, with `more` in its environment; a signal ends it."""
    command = [sys.executable, "-m", "lf_lightning", "serve", "--model", str(model), "--port", "0", "--device", "cpu", *options]
    log = folder / "log.txt"
    with (
        log.open("w", encoding="utf-8") as out,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=out, text=True, cwd=ROOT, env={**os.environ, **more}
        ) as process,
    ):
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
            assert found is not None, said + log.read_text(encoding="utf-8")
            running = Server(process, int(found[1]), log)
            yield running
            if process.poll() is None:
                running.end(end)
        finally:
            process.kill()  # of one that has ended, nothing


@pytest.fixture(scope="session")
def saved(fusion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    folder = tmp_path_factory.mktemp("served") / "model"
    Predictor.of_run(fusion, device="cpu").save(folder)
    return folder
