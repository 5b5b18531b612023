"""Writers that die together, keys that a provider cannot move, and configs that mean the same."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lf_lightning.cli.serve import _scorer
from lf_lightning.responses import SQLiteResponses
from lf_lightning.scoring import LLMScorer
from lf_lightning.scoring.gateway import Gateway
from lf_lightning.scoring.providers.base import Sent
from lf_lightning.scoring.requests import Request
from tests.responses.conftest import start, worker  # noqa: F401  fixtures
from tests.scoring.fake_provider import FakeProvider

YAML = """\
source: a.csv
store: s
scorer:
  class_path: lf_lightning.scoring.LLMScorer
  init_args:
    name: gpt
    provider: {class_path: lf_lightning.scoring.providers.OpenAI, init_args: {model: m-1}}
    labels: [World, "Sci/Tech"]
    mode: verbalized
    description: Headlines.
"""


def test_four_writers_that_are_killed_leave_a_sound_file(
    tmp_path: Path,
    worker: Any,  # noqa: F811
    start: Callable[..., Any],  # noqa: F811
) -> None:
    chance = random.Random(0)
    processes = [start("put", "SQLiteResponses", tmp_path, 1000 * n, 1000 * n + 1000, 1, 3) for n in range(4)]
    lines: list[list[str]] = [[process.stdout.readline() for _ in range(chance.randrange(2, 12))] for process in processes]
    for process in processes:
        process.send_signal(signal.SIGKILL)
    acknowledged = []
    for number, process in enumerate(processes):
        said = lines[number] + process.stdout.read().splitlines(keepends=True)
        process.wait()
        done = max(int(line) for line in said if line.endswith("\n"))
        acknowledged += range(1000 * number, 1000 * number + done)
    cache = SQLiteResponses(str(tmp_path))
    assert cache.verify() == []
    assert len(acknowledged) >= 8
    assert cache.get([worker.key_of(n) for n in acknowledged]) == {worker.key_of(n): worker.response(n) for n in acknowledged}
    cache.close()


class Meddler(FakeProvider):
    """Changes the request while it is asked, as a careless SDK might."""

    async def send(self, request: Request, timeout: float) -> Sent:
        sent = await super().send(request, timeout)
        if request.schema is not None:
            request.schema["properties"].clear()  # type: ignore[index]
        return sent


def test_a_request_that_is_changed_while_it_is_asked_is_paid_once(tmp_path: Path) -> None:
    asked = []
    for _ in range(2):
        provider = Meddler(lambda request: '{"scores": {"a": 70, "b": 30}}')
        scorer = LLMScorer(
            name="llm", provider=provider, labels=["a", "b"], mode="verbalized", gateway=Gateway(str(tmp_path / "r"))
        )
        scores = scorer.score(["one", "two", "three"])
        assert np.allclose(scores.probabilities, [[0.7, 0.3]] * 3)
        asked.append(len(provider.asked))
    assert asked == [3, 0]


def test_white_space_in_a_config_makes_no_new_key_and_a_changed_label_does(tmp_path: Path) -> None:
    def fingerprint(text: str) -> str:
        (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
        return _scorer(str(tmp_path / "s.yaml")).card.fingerprint

    first = fingerprint(YAML)
    same = [
        YAML.replace("name: gpt", "name:   another # a comment"),
        YAML.replace("\n", "\n\n").replace('[World, "Sci/Tech"]', "\n    - World\n    - 'Sci/Tech'"),
        YAML.replace("mode: verbalized", "gateway: {attempts: 9}\n    mode: verbalized"),
    ]
    assert {fingerprint(text) for text in same} == {first}
    others = [
        YAML.replace('[World, "Sci/Tech"]', '["Sci/Tech", World]'),
        YAML.replace("m-1", "m-2"),
        YAML.replace("Headlines.", "Headlines"),
        YAML.replace("mode: verbalized", "mode: label"),
    ]
    assert len({first, *map(fingerprint, others)}) == 5


def test_a_key_in_the_config_of_a_scorer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        YAML.replace("model: m-1", "model: m-1, api_key_env: sk-abcdefghijklmnop"), encoding="utf-8"
    )
    with pytest.raises(Exception, match="shaped like an API key") as error:
        _scorer(str(tmp_path / "s.yaml"))
    assert "abcdefghijkl" not in str(error.value)
