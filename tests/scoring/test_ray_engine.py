"""Engine ray: the scores of one process, each text once; a killed run goes on, and what stops one worker stops all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lf_lightning.cli.score import score_table
from lf_lightning.errors import BudgetError, ConfigurationError, LFError, MissingDependencyError, ProviderAccessError
from lf_lightning.responses.ledger import Ledger
from lf_lightning.scoring import CausalLMScorer, LLMScorer, StatedLabelScorer
from lf_lightning.scoring.base import Advance, Scorer, Scores
from lf_lightning.scoring.engines.ray import score_on_ray
from lf_lightning.scoring.gateway import Gateway
from lf_lightning.scoring.prices import Price
from lf_lightning.scoring.providers import OpenAICompatible
from lf_lightning.store import ScorerCard, ScoreStore, Status
from tests.ray_session import MARKS, one_ray
from tests.scoring.gateway.fault_server import KEY, FaultServer

pytest.importorskip("ray")
pytestmark = MARKS
KEY_NAME = "LF_RAY_TEST_KEY"


@pytest.fixture(scope="module")
def _running() -> Iterator[None]:
    """As in a notebook; the tests of the command start a Ray of their own."""
    with one_ray(sys.modules[__name__], **{KEY_NAME: KEY}):
        yield


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Where Ray keeps its logs and sockets, whose paths must be short."""
    with tempfile.TemporaryDirectory(prefix="lf", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def csv(folder: Path, texts: Sequence[str]) -> str:
    pd.DataFrame({"text": texts}).to_csv(folder / "texts.csv", index=False)
    return str(folder / "texts.csv")


def llm(folder: Path, url: str, **arguments: Any) -> LLMScorer:
    gateway = {"price": Price(1.0, 4.0), "timeout": 60.0, "concurrency": 8, **arguments}
    provider = OpenAICompatible("m", url, api_key_env=KEY_NAME)
    return LLMScorer("llm", provider, ["a", "b", "c", "d"], mode="logprob", gateway=Gateway(str(folder), **gateway))


def content(store: Path | str, name: str, texts: Sequence[str]) -> tuple[Any, ...]:
    """All that a store keeps of texts, probabilities to the last bit."""
    kept = ScoreStore(store)
    table = kept.table(kept.resolve(name))
    order = np.argsort(table.keys)
    rows = (
        table.keys[order].tobytes(),
        np.asarray(table.probabilities)[order].tobytes(),
        np.asarray(table.status)[order].tobytes(),
    )
    return *rows, kept.rationales(name, list(texts)), kept.usage(name, list(texts)), kept.cards


class Remarkable(Scorer):
    """Has every status, reasons and rationales; needs an argument that is no plain value, and fails as told."""

    def __init__(self, fails_on: str = "", dies_on: str = "") -> None:
        self.fails_on, self.dies_on = fails_on, dies_on

    @property
    def card(self) -> ScorerCard:
        return ScorerCard("remarkable", ("even", "odd"), "multiclass", {"scorer": "remarkable"})

    def score(self, texts: Sequence[str], advance: Advance | None = None) -> Scores:
        if self.dies_on in texts and self.dies_on:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fails_on in texts and self.fails_on:
            raise ConfigurationError(f"max_tokens: {self.fails_on!r} is too long.")
        time.sleep(0.02)
        status = np.array([len(text.encode("utf-8", "replace")) % 4 for text in texts], dtype=np.uint8)
        probabilities = np.array([[1 / (len(text) + 1), 1 - 1 / (len(text) + 1)] for text in texts], dtype=np.float32)
        if advance is not None:
            advance(len(texts))
        notes = [{"reason": f"short: {state}"} if state != Status.SCORED else {"label_mass": 0.1} for state in status]
        return Scores(probabilities * (status == 1)[:, None], status, [f"about {text}" for text in texts], notes)


@pytest.mark.usefixtures("_running")
class TestSameAsLocal:
    def test_statuses_reasons_rationales_and_any_text(self, tmp_path: Path) -> None:
        texts = ["", "é\x00", "tail\x00\x00", "\ud800 alone", "🙂", *(f"{'x' * (n % 7)} {n}" for n in range(95))]
        found = list(score_on_ray(Remarkable(), texts, 10, 2, lambda _: None))
        assert sorted(text for shard, _ in found for text in shard) == sorted(texts)
        for shard, scores in found:
            expected = Remarkable().score(shard)
            assert scores.probabilities.tobytes() == expected.probabilities.tobytes()
            assert scores.status.tolist() == expected.status.tolist()
            assert (scores.rationales, scores.usage, scores.halt) == (expected.rationales, expected.usage, None)

    def test_summary_and_store(self, tmp_path: Path) -> None:
        texts = [f"{'x' * (n % 7)} {n}" for n in range(60)]
        source = csv(tmp_path, [*texts, *texts[:5]])
        here = score_table(Remarkable(), source, str(tmp_path / "here"))
        ray = score_table(Remarkable(), source, str(tmp_path / "ray"), engine="ray")
        assert content(tmp_path / "ray", "remarkable", texts) == content(tmp_path / "here", "remarkable", texts)
        here.seconds = ray.seconds = 0.0
        assert ray == here
        assert ray.by_status[Status.ABSENT] > 0

    def test_a_causal_lm(self, tmp_path: Path, tiny_lm: str) -> None:
        texts = [f"text {n} {'goal ' * (n % 5)}" for n in range(40)]
        source = csv(tmp_path, texts)
        for engine in ("local", "ray"):
            lm = CausalLMScorer("lm", tiny_lm, ["sport", "news"], "{{ text }}\nTopic: {{ label }}", max_tokens=24, device="cpu")
            score_table(lm, source, str(tmp_path / engine), shard_size=10, engine=engine)  # type: ignore[arg-type]
        assert content(tmp_path / "ray", "lm", texts) == content(tmp_path / "local", "lm", texts)
        assert any(ScoreStore(tmp_path / "ray").usage("lm", texts))

    def test_stated_labels_by_relative_paths(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        pd.DataFrame({"text": ["p", "q", "r"], "llm": ["yes", "no", "perhaps"], "why": ["x", "y", ""]}).to_csv(
            "t.csv", index=False
        )
        for engine in ("local", "ray"):
            stated = StatedLabelScorer("s", ["t.csv"], ["yes", "no"], "llm", rationale_column="why")
            score_table(stated, "t.csv", engine, engine=engine)  # type: ignore[arg-type]
        assert content("ray", "s", ["p", "q", "r"]) == content("local", "s", ["p", "q", "r"])

    def test_an_llm_each_request_billed_once(self, tmp_path: Path) -> None:
        texts = [f"text number {n}" for n in range(120)]
        source = csv(tmp_path, texts)
        faults = {"500": 0.1, "refusal": 0.1, "empty": 0.05}
        with FaultServer(latency=0.01, faults=faults) as one, FaultServer(latency=0.01, faults=faults) as other:
            # The address is part of the card: what is kept under both is compared without it.
            score_table(llm(tmp_path / "r1", one.url), source, str(tmp_path / "here"))
            score_table(llm(tmp_path / "r2", other.url), source, str(tmp_path / "ray"), engine="ray")
            billed = [{name: line["billed"] for name, line in server.record()["lines"].items()} for server in (one, other)]
        assert billed[0] == billed[1]
        assert set(billed[1].values()) == {1}
        assert content(tmp_path / "ray", "llm", texts)[:5] == content(tmp_path / "here", "llm", texts)[:5]
        assert ScoreStore(tmp_path / "ray").counts("llm")[Status.REFUSED] > 0
        assert Ledger(tmp_path / "r2").total().spent == Ledger(tmp_path / "r1").total().spent


@pytest.mark.usefixtures("_running")
class TestHalts:
    def test_a_budget_is_held_by_all_workers_together(self, tmp_path: Path) -> None:
        source = csv(tmp_path, [f"text number {n}" for n in range(200)])
        with FaultServer(latency=0.01) as server:
            cap = 0.008  # about half of what all would cost
            summary = score_table(
                llm(tmp_path / "r", server.url), source, str(tmp_path / "s"), engine="ray", max_cost=cap, shard_size=20
            )
            assert isinstance(summary.halt, BudgetError)
            scored = ScoreStore(tmp_path / "s").counts("llm")[Status.SCORED]
            record = server.record()
            assert 0 < scored == sum(line["billed"] for line in record["lines"].values()) < 200
            assert record["nanodollars"] <= cap * 1e9
            again = score_table(llm(tmp_path / "r", server.url), source, str(tmp_path / "s"), engine="ray", max_cost=1.0)
            assert (again.halt, again.stored, again.by_status[Status.SCORED]) == (None, scored, 200 - scored)
            assert {line["billed"] for line in server.record()["lines"].values()} == {1}

    def test_denied_access(self, tmp_path: Path) -> None:
        source = csv(tmp_path, [f"text number {n}" for n in range(50)])
        with FaultServer(quota=1) as server:
            scorer = llm(tmp_path / "r", server.url)
            summary = score_table(scorer, source, str(tmp_path / "s"), engine="ray", shard_size=5)
            assert sum(line["received"] for line in server.record()["lines"].values()) <= 40
        assert isinstance(summary.halt, ProviderAccessError)
        assert summary.tried < 50

    def test_an_error_of_the_scorer_keeps_what_was_finished(self, tmp_path: Path) -> None:
        texts = [f"text {n}" for n in range(100)]
        with pytest.raises(ConfigurationError, match="'text 70' is too long") as caught:
            score_table(Remarkable(fails_on="text 70"), csv(tmp_path, texts), str(tmp_path / "s"), engine="ray", shard_size=5)
        assert "in a worker" in str(caught.value.__cause__)
        assert len(ScoreStore(tmp_path / "s").missing(Remarkable().card, texts)) < 100

    def test_a_worker_that_always_dies_ends_the_run(self, tmp_path: Path) -> None:
        texts = [f"text {n}" for n in range(40)]
        with pytest.raises(LFError, match="workers ended before their work was done"):
            score_table(Remarkable(dies_on="text 39"), csv(tmp_path, texts), str(tmp_path / "s"), engine="ray", shard_size=5)
        assert len(ScoreStore(tmp_path / "s").missing(Remarkable().card, texts)) < 40

    def test_limits_are_divided_or_refused(self, tmp_path: Path) -> None:
        scorer = llm(tmp_path / "r", "http://127.0.0.1:9/v1", concurrency=9, requests_per_minute=100)
        assert scorer.for_workers(4).gateway.concurrency == 2
        with pytest.raises(ConfigurationError, match="workers=10 is above concurrency=9"):
            scorer.for_workers(10)
        with pytest.raises(ConfigurationError, match="batch"):
            llm(tmp_path / "r", "http://127.0.0.1:9/v1", batch=True).for_workers(2)
        with pytest.raises(ConfigurationError, match="workers=9: there are 2 CPUs"):
            score_table(Remarkable(), csv(tmp_path, ["a"]), str(tmp_path / "s"), engine="ray", workers=9)


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"lf-lightning\[ray\]"):
        score_table(Remarkable(), csv(tmp_path, ["a"]), str(tmp_path / "s"), engine="ray")


def config(folder: Path, url: str, texts: Sequence[str]) -> list[str]:
    (folder / "llm.yaml").write_text(
        f"""
source: {csv(folder, texts)}
store: {folder / "store"}
engine: ray
shard_size: 20
scorer:
  class_path: lf_lightning.scoring.LLMScorer
  init_args:
    name: llm
    provider:
      class_path: lf_lightning.scoring.providers.OpenAICompatible
      init_args: {{model: m, base_url: "{url}", api_key_env: {KEY_NAME}}}
    labels: [a, b, c, d]
    mode: logprob
    gateway: {{responses: {folder / "responses"}, concurrency: 8, timeout: 60, lease: 2}}
"""
    )
    return [sys.executable, "-m", "lf_lightning", "score", "--config", str(folder / "llm.yaml")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_command_stopped_midway_and_started_again(tmp_path: Path, ray_folder: Path, number: signal.Signals) -> None:
    texts = [f"text number {n}" for n in range(400)]
    environment = {**os.environ, KEY_NAME: KEY, "RAY_TMPDIR": str(ray_folder)}
    with FaultServer(latency=0.15) as server:
        command = config(tmp_path, server.url, texts)
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        while sum(line["billed"] for line in server.record()["lines"].values()) < 100:
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        # Ctrl-C reaches every process of a terminal; kill -9 only lf, and Ray's have to see that it is gone.
        os.killpg(process.pid, number) if number == signal.SIGINT else process.kill()
        _, said = process.communicate(timeout=60)
        assert process.returncode == (-9 if number == signal.SIGKILL else 130), said
        time.sleep(1.0)  # the workers of a killed run end with it
        stored = [texts[n] for n in set(range(400)) - set(ScoreStore(tmp_path / "store").missing("llm", texts))]
        before = server.record()
        paid = sum(line["billed"] for line in before["lines"].values())
        assert 0 < len(stored) <= paid < 400
        unknown = 0 if number == signal.SIGINT else 16  # in flight
        assert len(list(Gateway(str(tmp_path / "responses")).cache.scan())) >= paid - unknown
        again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
        record = server.record()
    assert f"{len(stored):,}" in again.stdout
    assert ScoreStore(tmp_path / "store").counts("llm")[Status.SCORED] == 400
    assert sum(line["billed"] - 1 for line in record["lines"].values()) <= unknown
    for text in stored:
        name = next(prompt for prompt in record["lines"] if f"{text}\n" in prompt or prompt.endswith(text))
        assert record["lines"][name]["received"] == before["lines"][name]["received"]
    files = [path for path in [*tmp_path.rglob("*"), *ray_folder.rglob("*")] if path.is_file()]
    assert any("session" in str(path) for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
