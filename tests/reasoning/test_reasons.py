"""`lf reason`: who writes, what is kept, what is counted, what lies in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lf_lightning import cli
from lf_lightning.cli.reason import Reasons, reason_table
from lf_lightning.errors import BudgetError, ConfigurationError, DataError
from lf_lightning.scoring.base import NOT_ASKED, Advance, Scorer, Scores
from lf_lightning.scoring.gateway import Gateway
from lf_lightning.scoring.prices import Price
from lf_lightning.scoring.reasons import CausalLMWriter, Distinct, LeadsToLabel, LLMWriter, RecoversLabel, Short
from lf_lightning.scoring.reasons.filters import Reasoned, ReasonFilter, masked
from lf_lightning.scoring.reasons.making import make_reasons
from lf_lightning.scoring.reasons.writer import Asked, ReasonWriter, Written
from lf_lightning.scoring.requests import Request
from lf_lightning.store import ScorerCard, ScoreStore, Status
from tests.reasoning.conftest import LABELS
from tests.scoring.fake_provider import FakeProvider, rejected


class Says(ReasonWriter):
    """Says what a function says; notes what it was asked."""

    def __init__(self, say: Any) -> None:
        self.say, self.asked = say, []  # type: ignore[var-annotated]

    @property
    def spec(self) -> dict[str, Any]:
        return {"writer": "says"}

    def write(self, asked: Sequence[Asked], advance: Advance | None = None) -> Written:
        self.asked += asked
        return Written([self.say(one) for one in asked], [{} for _ in asked])


class Words(Scorer):
    """Finds the label whose name stands in the text, else the first."""

    @property
    def card(self) -> ScorerCard:
        return ScorerCard("words", tuple(LABELS), "multiclass", {"w": 1})

    def score(self, texts: Sequence[str], advance: Advance | None = None) -> Scores:
        p = np.full((len(texts), 3), 0.1, dtype=np.float32)
        for row, text in enumerate(texts):
            p[row, next((k for k, label in enumerate(LABELS) if label in text), 0)] = 0.8
        return Scores(p, np.full(len(texts), Status.SCORED, dtype=np.uint8))


ROWS = [Asked("the cell", "science"), Asked("the goal", "sport"), Asked("the law", "politics"), Asked("no label", None)]


def test_a_reason_that_leads_elsewhere_is_rationalised() -> None:
    def say(one: Asked) -> str:
        return f"about {one.label or 'science'} {one.text}"

    writer = Says(say)
    made = make_reasons(writer, [LeadsToLabel(Words())], ROWS, "if_wrong")
    assert made.reasons == [
        "about science the cell",
        "about sport the goal",
        "about politics the law",
        "about science no label",
    ]
    assert [note["saw_label"] for note in made.notes] == [False, True, True, False]
    assert (made.written, made.rationalised, dict(made.dropped)) == (6, 2, {"LeadsToLabel": 2})
    assert [one.label for one in writer.asked] == [None] * 4 + ["sport", "politics"]

    made = make_reasons(Says(say), [LeadsToLabel(Words())], ROWS, "never")
    assert made.reasons[1:3] == [None, None]
    assert made.notes[1]["reason"] == "dropped: LeadsToLabel"
    made = make_reasons(Says(lambda _: "about science"), [LeadsToLabel(Words())], ROWS, "always")
    assert [reason is not None for reason in made.reasons] == [True, False, False, True]


def test_filters() -> None:
    def verdicts(judge: ReasonFilter, *reasons: str, label: str = "science") -> list[bool]:
        return judge.keep([Reasoned("text", label, reason) for reason in reasons])

    assert verdicts(Short(3, 2), "one", "one two", "a b c d") == [False, True, False]
    judge = Distinct()
    assert verdicts(judge, "A  cell.", "a cell", "a goal") == [True, False, True]
    judge.remember(["A goal!"])
    assert verdicts(judge, "a goal", "a cell") == [False, True]
    # Only the label's own name speaks for it: nothing is left once it is masked, and Words takes the first label.
    assert verdicts(RecoversLabel(Words()), "it is science") == [False]
    assert verdicts(RecoversLabel(Words()), "it is politics", label="politics") == [True]
    assert masked("Sports and sport, not passport", ["sport"]) == "___ and ___, not passport"
    with pytest.raises(ConfigurationError, match="none of scorer"):
        verdicts(LeadsToLabel(Words()), "why", label="music")


def test_the_store_has_reasons_their_provenance_and_no_opinion(world: Path, tmp_path: Path) -> None:
    writer = Says(lambda one: f"{one.text} {one.sample} {one.label}" if "market" not in one.text else None)
    given: dict[str, Any] = {"source": str(world / "train.csv"), "store": str(tmp_path / "s"), "labels": LABELS}
    first = reason_table(writer, **given, samples=2, sees_label="always", limit=40, shard_size=7)
    assert (first.wanted, first.stored, first.kept) == (128, 0, 80)
    second = reason_table(Says(lambda one: f"later {one.text} {one.sample}"), **given, samples=2, sees_label="always")
    assert (second.stored, second.kept) == (80, 48)
    assert reason_table(Says(None), **given, samples=2, sees_label="always").written == 0
    store = ScoreStore(tmp_path / "s")
    assert [card.name for card in store.cards.values()] == ["writer", "writer 2"]
    table = pd.read_csv(world / "train.csv")
    reasons = store.rationales("writer 2", table["text"].tolist())
    assert reasons[0] == f"{table['text'][0]} 1 {table['label'][0]}"
    assert store.usage("writer", table["text"].tolist())[0] == {"saw_label": True}
    np.testing.assert_allclose(store.table("writer").probabilities, 1 / 3)
    card = next(iter(store.cards.values()))
    assert card.spec["sees_label"] == "always"
    assert [judge["filter"] for judge in card.spec["filters"]] == ["short", "distinct"]


def test_a_second_try_that_was_stopped_is_still_to_come() -> None:
    class Stopped(Says):
        def write(self, asked: Sequence[Asked], advance: Advance | None = None) -> Written:
            return replace(super().write(asked, advance), halt=BudgetError("no more"))

    made = make_reasons(Stopped(lambda _: "about science"), [LeadsToLabel(Words())], ROWS, "if_wrong")
    assert made.asked == [True, False, False, True]
    assert made.notes[1] == made.notes[2] == {"reason": NOT_ASKED}


def test_dropped_reasons_are_not_written_again(world: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"source": str(world / "train.csv"), "store": str(tmp_path / "s"), "labels": LABELS}
    found = reason_table(Says(lambda _: "always the same"), **given, sees_label="if_wrong", shard_size=10)
    assert (found.kept, found.written, found.dropped["Distinct"]) == (1, 127, 126)
    assert ScoreStore(tmp_path / "s").counts("writer")[Status.REFUSED] == 63
    assert reason_table(Says(lambda _: "another word here"), **given, sees_label="if_wrong").written == 0


def test_an_llm_is_asked_once_and_a_failure_again(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    pd.DataFrame({"text": ["a b", "c d", "e f"], "label": ["sport", "science", ""]}).to_csv(table, index=False)
    fail = [True]

    def answer(request: Request) -> Any:
        if "c d" in request.prompt and fail[0]:
            return rejected()
        return (
            f"Reason for {'shown' if 'The label of this text' in request.prompt else 'open'} {request.prompt.splitlines()[1]}"
        )

    provider = FakeProvider(answer)

    def run(store: str, **options: Any) -> Reasons:
        writer = LLMWriter(provider, LABELS, gateway=Gateway(str(tmp_path / "responses"), price=Price(1, 1)))
        return reason_table(writer, str(table), str(tmp_path / store), LABELS, sees_label="always", **options)

    dry = run("s", dry_run=True)
    assert dry.estimate is not None
    assert dry.estimate.to_ask == 3
    assert not (tmp_path / "s").exists()
    assert (run("s").kept, len(provider.asked)) == (2, 3)
    fail[0] = False
    again = run("s")
    assert (again.stored, again.kept, len(provider.asked)) == (2, 1, 4)
    assert run("other").kept == 3
    assert len(provider.asked) == 4  # the replies are at rest
    assert ["label of this text is sport" in r.prompt for r in provider.asked[:3]].count(True) == 1


def test_no_more_is_paid_than_max_cost(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    pd.DataFrame({"text": ["a b"], "label": ["sport"]}).to_csv(table, index=False)
    writer = LLMWriter(FakeProvider(lambda _: "why not so"), LABELS, gateway=Gateway(str(tmp_path / "r"), price=Price(1, 1)))
    found = reason_table(writer, str(table), str(tmp_path / "s"), LABELS, max_cost=1e-7)
    assert isinstance(found.halt, BudgetError)
    assert found.kept == 0


def test_a_local_writer_is_seeded_and_knows_no_neighbours(lm: str) -> None:
    asked = [Asked("the cell", "science"), Asked("goal and match", None), Asked("the cell", "science", 1)]

    def writer(**options: Any) -> CausalLMWriter:
        return CausalLMWriter(lm, **{"device": "cpu", "max_new_tokens": 8, **options})

    whole = writer().write(asked).reasons
    assert whole[0] != whole[2]
    assert whole == writer(batch_size=1).write(asked).reasons
    assert whole[1:2] == writer().write(asked[1:2]).reasons
    assert whole != writer(seed=1).write(asked).reasons
    assert writer().spec != writer(seed=1).spec
    with pytest.raises(ConfigurationError, match="temperature=0"):
        writer(temperature=0).write(asked)
    with pytest.raises(ConfigurationError, match="the model takes 128"):
        writer(max_new_tokens=200).write(asked)


def test_from_a_config(lm: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "reasons.yaml"
    config.write_text(
        f"""
source: {world / "train.csv"}
store: {tmp_path / "store"}
labels: [politics, science, sport]
writer:
  class_path: lf_lightning.scoring.reasons.CausalLMWriter
  init_args: {{model: {lm}, max_new_tokens: 6, device: cpu}}
filters:
  - class_path: lf_lightning.scoring.reasons.Short
    init_args: {{most: 5, least: 1}}
  - class_path: lf_lightning.scoring.reasons.LeadsToLabel
    init_args:
      scorer:
        class_path: lf_lightning.scoring.CausalLMScorer
        init_args: {{name: judge, model: {lm}, labels: [politics, science, sport], template: "{{{{ text }}}} {{{{ label }}}}"}}
""",
        encoding="utf-8",
    )
    assert cli.main(["reason", "--config", str(config), "--dry-run"]) == 0
    assert "64 to write" in capsys.readouterr().out
    assert cli.main(["reason", "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert "dropped by Short" in said
    assert "rationalised" in said
    assert len(ScoreStore(tmp_path / "store").cards) == 1


def test_what_cannot_work_is_said(world: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"source": str(world / "train.csv"), "store": str(tmp_path / "s")}
    with pytest.raises(DataError, match="row 0: the label"):
        reason_table(Says(str), **given, labels=["music"])
    with pytest.raises(ConfigurationError, match="no such column"):
        reason_table(Says(str), **given, labels=LABELS, label_column="gold")
    with pytest.raises(ConfigurationError, match="sees_label: never"):
        reason_table(Says(str), **given, labels=LABELS, label_column=None)
