"""`lf score`: each text once, what was scored stays, and a wrong config says how to go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lf_lightning import imports
from lf_lightning.cli.score import main, score_table
from lf_lightning.errors import BudgetError, ConfigurationError, ProviderAccessError
from lf_lightning.scoring import LLMScorer
from lf_lightning.scoring.base import Advance, Scorer, Scores
from lf_lightning.scoring.elicitation import verbalized
from lf_lightning.scoring.gateway import Gateway
from lf_lightning.scoring.prices import Price
from lf_lightning.scoring.providers.base import ProviderError
from lf_lightning.scoring.requests import Request
from lf_lightning.store import ScorerCard, ScoreStore, Status
from tests.scoring.fake_provider import FakeProvider
from tests.scoring.gateway.fault_server import KEY, FaultServer

CONFIGS = Path(__file__).parents[2] / "configs" / "scoring"


class Lengths(Scorer):
    """Scores by the parity of a text's length; fails as told."""

    def __init__(self, breaks_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.breaks_after = breaks_after
        self.card_of = ScorerCard("lengths", ("even", "odd"), "multiclass", {"scorer": "lengths"})

    @property
    def card(self) -> ScorerCard:
        return self.card_of

    def score(self, texts: Sequence[str], advance: Advance | None = None) -> Scores:
        if self.breaks_after is not None and len(self.asked) >= self.breaks_after:
            raise KeyboardInterrupt
        self.asked += texts
        odd = np.array([len(text) % 2 for text in texts], dtype=np.float32)
        known = {"refuse": Status.REFUSED, "garble": Status.UNPARSED, "absent": Status.ABSENT}
        status = np.array([known.get(text, Status.SCORED) for text in texts], dtype=np.uint8)
        probabilities = np.stack([1 - odd, odd], 1) * (status == Status.SCORED)[:, None]
        notes = [{"dropped_tokens": 1} if text == "long" else None for text in texts]
        if advance is not None:
            advance(len(texts))
        return Scores(probabilities, status, [f"about {text}" for text in texts], notes)


def csv(folder: Path, texts: list[str], **columns: list[str]) -> str:
    path = folder / "texts.csv"
    pd.DataFrame({"text": texts, **columns}).to_csv(path, index=False)
    return str(path)


def test_only_what_is_missing_is_asked_and_equal_texts_once(tmp_path: Path) -> None:
    source, store = csv(tmp_path, ["a", "bb", "a", "ccc", "dd"]), str(tmp_path / "store")
    first, second = Lengths(), Lengths()
    summary = score_table(first, source, store, limit=2)
    assert first.asked == ["a", "bb"]
    assert (summary.rows, summary.texts, summary.stored, summary.by_status[Status.SCORED]) == (5, 4, 0, 2)
    summary = score_table(second, source, store)
    assert second.asked == ["ccc", "dd"]
    assert (summary.stored, summary.by_status[Status.SCORED]) == (2, 2)
    joined = ScoreStore(store).join(["dd", "a"], ["lengths"], ["odd", "even"])
    assert joined.scores[:, 0].tolist() == [[0, 1], [1, 0]]


def test_a_stopped_run_loses_one_shard_at_most(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(10)]
    source, store = csv(tmp_path, texts), str(tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        score_table(Lengths(breaks_after=6), source, store, shard_size=3)
    again = Lengths()
    score_table(again, source, store, shard_size=3)
    assert again.asked == texts[6:]


def test_rows_without_a_score_are_counted_kept_by_status_and_asked_again_only_if_absent(tmp_path: Path) -> None:
    source, store = csv(tmp_path, ["refuse", "garble", "absent", "long"]), str(tmp_path / "store")
    summary = score_table(Lengths(), source, store)
    assert summary.by_status == {Status.ABSENT: 1, Status.SCORED: 1, Status.REFUSED: 1, Status.UNPARSED: 1}
    assert (summary.failed, summary.cut) == (3, 1)
    again = Lengths()
    score_table(again, source, store)
    assert again.asked == ["absent"]
    kept = ScoreStore(store)
    assert kept.rationales("lengths", ["long", "absent"]) == ["about long", None]
    assert kept.usage("lengths", ["long", "refuse"]) == [{"dropped_tokens": 1}, None]


def test_rows_are_chosen_by_value_words_and_sample(tmp_path: Path) -> None:
    texts = ["one two three", "one two four", "five", "six", "seven", "eight nine"]
    source = csv(tmp_path, texts, kind=["x", "x", "x", "x", "y", "y"], label=["p", "p", "q", "q", "p", "q"])
    scorer = Lengths()
    score_table(scorer, source, str(tmp_path / "s1"), where={"kind": "x"}, max_words=2)
    assert scorer.asked == ["one two", "five", "six"]
    scorer = Lengths()
    score_table(scorer, [source, source], str(tmp_path / "s2"), sample=4, sample_by="label", seed=1)
    labels = dict(zip(texts, ["p", "p", "q", "q", "p", "q"], strict=True))
    assert sorted(labels[text] for text in scorer.asked) == ["p", "p", "q", "q"]
    scorer = Lengths()
    score_table(scorer, source, str(tmp_path / "s3"), text_columns=["kind", "text"], limit=1)
    assert scorer.asked == ["x\none two three"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"where": {"kind": "z"}}, "no rows"),
        ({"where": {"knd": "x"}}, "no column 'knd'"),
        ({"sample": 2, "sample_by": "knd"}, "no column 'knd'"),
        ({"limit": 0}, "limit"),
        ({"max_failed": 1.5}, "max_failed"),
    ],
)
def test_what_cannot_be_scored_says_why(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        score_table(Lengths(), csv(tmp_path, ["a"], kind=["x"]), str(tmp_path / "store"), **changes)


@pytest.fixture
def config(tmp_path: Path, tiny_lm: str) -> Path:
    path = tmp_path / "score.yaml"
    path.write_text(
        f"""
source: {csv(tmp_path, ["a goal", "a vote", "a match"])}
store: {tmp_path / "store"}
scorer:
  class_path: lf_lightning.scoring.CausalLMScorer
  init_args:
    name: tiny
    model: {tiny_lm}
    labels: [sport, politics]
    template: "{{{{ text }}}}\\nTopic: {{{{ label }}}}"
    device: cpu
"""
    )
    return path


def test_the_command_from_a_yaml(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(config), "--limit", "2"]) == 0
    assert "left for another run" in capsys.readouterr().out
    assert main([f"--config={config}"]) == 0
    assert ScoreStore(tmp_path / "store").counts("tiny")[Status.SCORED] == 3
    assert main(["--config", str(config), "--store", str(tmp_path / "other"), "--limit", "1"]) == 0
    assert ScoreStore(tmp_path / "other").counts("tiny")[Status.SCORED] == 1


def test_too_many_without_a_score_end_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"text": ["a", "b", "c"], "llm": ["yes", "no", "perhaps"]}).to_csv(tmp_path / "t.csv", index=False)
    words = [
        f"--source={tmp_path / 't.csv'}",
        f"--store={tmp_path / 'store'}",
        "--scorer=lf_lightning.scoring.StatedLabelScorer",
    ]
    words += [
        "--scorer.name=llm",
        f"--scorer.tables=['{tmp_path / 't.csv'}']",
        "--scorer.labels=['yes','no']",
        "--scorer.label_column=llm",
    ]
    assert main([*words, "--max_failed=0.2"]) == 1
    assert "1 of 3 texts got no score" in capsys.readouterr().err
    assert ScoreStore(tmp_path / "store").join(["a"], ["llm"], ["yes", "no"]).scores[0, 0].tolist() == pytest.approx(
        [0.85, 0.15]
    )


def test_a_config_imports_allowed_packages_only(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "marker_scorer.py").write_text("from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "marker_scorer" not in imports.allowed()
    config.write_text(config.read_text().replace("lf_lightning.scoring.CausalLMScorer", "marker_scorer.Mine"))
    with pytest.raises(SystemExit) as end:
        main(["--config", str(config)])
    assert end.value.code == 2
    assert "not allowed" in capsys.readouterr().err
    assert not (tmp_path / "marker_scorer.ran").exists()


def test_a_mistyped_key_fails_at_once(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text() + "max_word: 3\n")
    with pytest.raises(SystemExit):
        main(["--config", str(config)])
    assert "max_word" in capsys.readouterr().err


# Scorers that cost something


def lengths(request: Request) -> Any:
    """A stated opinion of the parity of a text's length; of some texts none."""
    if "denied" in request.prompt:
        return ProviderError("denied", "no key")
    if "slow" in request.prompt:
        return ProviderError("timeout", "no reply")
    return "a word" if "garbled" in request.prompt else '{"scores": {"even": 30, "odd": 10}}'


def llm(folder: Path, mode: Any = "verbalized", **arguments: Any) -> LLMScorer:
    gateway = Gateway(str(folder / "responses"), attempts=1, concurrency=1, price=Price(1.0, 4.0))
    return LLMScorer("llm", FakeProvider(lengths), ["even", "odd"], mode=mode, gateway=gateway, **arguments)


def asked(scorer: LLMScorer) -> int:
    assert isinstance(scorer.provider, FakeProvider)
    return len(scorer.provider.asked)


def test_a_dry_run_says_what_it_would_cost_and_touches_nothing(tmp_path: Path) -> None:
    source, store = csv(tmp_path, ["a", "bb", "a", "ccc"]), tmp_path / "store"
    scorer = llm(tmp_path)
    summary = score_table(scorer, source, str(store), dry_run=True)
    assert summary.estimate is not None
    assert (summary.texts, summary.estimate.to_ask, asked(scorer)) == (3, 3, 0)
    assert not store.exists()
    store.mkdir()  # an empty folder is no store yet
    assert score_table(llm(tmp_path), source, str(store), dry_run=True).estimate == summary.estimate
    assert not list(store.iterdir())
    score_table(scorer, source, str(store), limit=1)
    again = score_table(llm(tmp_path), source, str(store), dry_run=True)
    assert again.estimate is not None
    assert (again.stored, again.estimate.to_ask) == (1, 2)
    assert again.estimate.cost_usd is not None
    assert again.estimate.upper_bound_usd is not None
    assert 0 < again.estimate.cost_usd <= again.estimate.upper_bound_usd
    assert score_table(Lengths(), source, str(tmp_path / "other"), dry_run=True).estimate is None


def test_what_halts_a_run_leaves_what_was_answered_in_the_store(tmp_path: Path) -> None:
    source, store = csv(tmp_path, ["a", "bb", "denied", "ccc"]), str(tmp_path / "store")
    summary = score_table(llm(tmp_path), source, store, shard_size=3)
    assert isinstance(summary.halt, ProviderAccessError)
    assert (summary.by_status[Status.SCORED], summary.tried) == (2, 2)
    assert ScoreStore(store).counts("llm")[Status.SCORED] == 2


def test_a_budget_is_held_over_runs(tmp_path: Path) -> None:
    source, store = csv(tmp_path, [f"text {i}" for i in range(20)]), str(tmp_path / "store")
    estimate = score_table(llm(tmp_path), source, store, dry_run=True).estimate
    assert estimate is not None
    assert estimate.upper_bound_usd is not None
    cap = estimate.upper_bound_usd / 20 * 1.5
    summary = score_table(llm(tmp_path), source, store, max_cost=cap)
    assert isinstance(summary.halt, BudgetError)
    scored = summary.by_status[Status.SCORED]
    assert 0 < scored < 20
    assert score_table(llm(tmp_path), source, store, max_cost=cap).by_status[Status.SCORED] < 20 - scored
    assert score_table(llm(tmp_path), source, store, max_cost=20 * cap).halt is None
    assert ScoreStore(store).counts("llm")[Status.SCORED] == 20


def test_failures_are_counted_by_their_reason_and_asked_again(tmp_path: Path) -> None:
    source, store = csv(tmp_path, ["a", "slow", "garbled"]), str(tmp_path / "store")
    summary = score_table(llm(tmp_path), source, store)
    assert dict(summary.reasons) == {"timeout": 1, "no JSON": 1}
    assert (summary.failed, summary.tried) == (2, 3)
    again = llm(tmp_path)
    score_table(again, source, store)
    assert asked(again) == 1


def test_reparse_reads_the_replies_that_are_there_and_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, store = csv(tmp_path, ["a", "bb", "slow"]), str(tmp_path / "store")
    score_table(llm(tmp_path), source, store)
    before = llm(tmp_path).card.fingerprint
    monkeypatch.setattr(verbalized, "HIGHEST", 29)  # a reader that takes 30 for no number
    again = llm(tmp_path)
    summary = score_table(again, source, store, reparse=True)
    assert (summary.by_status[Status.UNPARSED], summary.changed, asked(again)) == (2, 2, 0)
    assert ScoreStore(store).counts("llm")[Status.UNPARSED] == 2
    monkeypatch.setattr(verbalized, "HIGHEST", 100)
    monkeypatch.setattr("lf_lightning.scoring.questionnaire.PARSER", 2)  # and a newer version, which is another fingerprint
    newer = llm(tmp_path)
    summary = score_table(newer, source, store, reparse=True)
    assert (summary.by_status[Status.SCORED], asked(newer)) == (2, 0)
    assert list(ScoreStore(store).cards) == [newer.card.fingerprint] != [before]
    with pytest.raises(ConfigurationError, match="keeps no replies"):
        score_table(Lengths(), source, store, reparse=True)
    with pytest.raises(ConfigurationError, match="one of them"):
        score_table(newer, source, store, reparse=True, dry_run=True)


def test_a_newer_reading_of_fewer_texts_leaves_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score_table(llm(tmp_path), csv(tmp_path, ["a", "bb"]), str(tmp_path / "store"))
    monkeypatch.setattr("lf_lightning.scoring.questionnaire.PARSER", 2)
    score_table(llm(tmp_path), csv(tmp_path, ["a"]), str(tmp_path / "store"), reparse=True)
    assert len(ScoreStore(tmp_path / "store").cards) == 2


def test_a_low_label_mass_is_counted(tmp_path: Path) -> None:
    unsure = llm(tmp_path, mode="logprob")
    unsure.provider = FakeProvider(lambda request: {"A": -2.0, "B": -3.0, "The": -0.3})
    summary = score_table(unsure, csv(tmp_path, ["a", "bb"]), str(tmp_path / "store"))
    assert (summary.low_mass, summary.by_status[Status.SCORED]) == (2, 2)


def test_one_name_never_stands_for_two_modes(tmp_path: Path) -> None:
    source, store = csv(tmp_path, ["a"]), str(tmp_path / "store")
    score_table(llm(tmp_path), source, store)
    with pytest.raises(ConfigurationError, match="in mode 'verbalized', and this is mode 'label'"):
        score_table(llm(tmp_path, mode="label"), source, store)


def test_the_command_with_a_real_client_and_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("A_KEY", KEY)
    texts = [f"text number {number}" for number in range(30)]
    with FaultServer(faults={"refusal": 0.2}) as server:
        config = tmp_path / "llm.yaml"
        config.write_text(
            f"""
source: {csv(tmp_path, texts)}
store: {tmp_path / "store"}
scorer:
  class_path: lf_lightning.scoring.LLMScorer
  init_args:
    name: llm
    provider:
      class_path: lf_lightning.scoring.providers.OpenAICompatible
      init_args: {{model: small, base_url: "{server.url}", api_key_env: A_KEY}}
    labels: [sport, politics, science, travel]
    mode: logprob
    gateway: {{responses: {tmp_path / "responses"}, price: {{input: 1.0, output: 4.0}}}}
"""
        )
        assert main(["--config", str(config), "--dry-run"]) == 0
        assert "30" in capsys.readouterr().out
        assert server.record()["lines"] == {}
        assert main(["--config", str(config), "--max_failed", "0.5"]) == 0
        record = server.record()
        assert main(["--config", str(config), "--max_failed", "0.5"]) == 0
        assert main(["--config", str(config), "--reparse", "--max_failed", "0.5"]) == 0
        assert server.record()["lines"] == record["lines"]
        assert all(line["billed"] == 1 for line in record["lines"].values())
        counts = ScoreStore(tmp_path / "store").counts("llm")
        assert counts[Status.SCORED] + counts[Status.REFUSED] == 30
        assert counts[Status.REFUSED] == record["endings"]["refusal"] > 0
        monkeypatch.setenv("A_KEY", "sk-canary-wrong")
        capsys.readouterr()
        assert main(["--config", str(config), "--store", str(tmp_path / "new"), "--scorer.seed", "5"]) == 5
        told = capsys.readouterr()
        assert "stopped" in told.err
        assert "canary" not in told.err + told.out
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"canary" not in path.read_bytes(), path


@pytest.mark.config
@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_scoring_config_parses(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--config", str(path), "--print_config"])
    assert end.value.code in (0, None)
    assert "scorer:\n  class_path: lf_lightning." in capsys.readouterr().out
