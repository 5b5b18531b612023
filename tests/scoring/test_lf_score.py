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
from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.base import Advance, Scorer, Scores
from lf_lightning.store import ScorerCard, ScoreStore, Status

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


@pytest.mark.config
@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_scoring_config_parses(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--config", str(path), "--print_config"])
    assert end.value.code in (0, None)
    assert "class_path: lf_lightning.scoring." in capsys.readouterr().out
