"""Run folders whose records, tables or configs are damaged: `lf compare` and `lf report` name them or leave them out."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from lf_lightning import cli
from lf_lightning.errors import DataError
from lf_lightning.results import ResultsManager
from lf_lightning.results.configs import read_config
from tests.made_runs import write_run
from tests.robustness.mutation import damaged, mutated, told

CONFIG = "seed_everything: 1\nmodel: {class_path: X, init_args: {a: 2026-01-01, b: !!set {c}}}\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        run = folder / "e" / str(seed)
        write_run(
            run,
            seed=seed,
            rows=12,
            config={"seed_everything": seed, "model": {"class_path": "X", "init_args": {"a": [1, {"b": None}]}}},
            rationales={"llm": [f"because {row}" for row in range(12)]},
        )
        (run / "config.yaml").write_text(CONFIG, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["results.json", "predictions_test.csv", "config.yaml"])
def test_damage_ends_with_a_message_or_not_at_all(name: str, runs: Path, tmp_path: Path, capsys: Any) -> None:
    copy = tmp_path / "runs"
    failures, codes = [], []
    for seed in range(6 if name == "config.yaml" else 26):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(runs, copy)
        file = copy / "e" / "1" / name
        content = file.read_bytes()
        if name == "results.json" and seed % 4:
            file.write_text(json.dumps(mutated(json.loads(content), seed)), encoding="utf-8")
        else:
            file.write_bytes(damaged(content, seed))
        commands = [["report", str(file.parent), "--out", str(tmp_path / "o.html")], ["compare", str(copy), "--format", "csv"]]
        for words in commands[: 2 if seed % 3 == 0 else 1]:
            try:
                codes.append(cli.main(words))
            except Exception as error:  # whatever is not ours is what this test looks for
                failures.append((f"{words[0]} {seed}", error))
            assert "Traceback" not in capsys.readouterr().err
    assert not failures, told(failures)
    assert set(codes) <= {0, 2, 3}
    assert (3 in codes) is (name != "config.yaml")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("time", 5, "time is 5, not a text"),
        ("labels", ["a", 3], r"labels\[1\] is 3"),
        ("metrics", {"test": {"system": {"rows": "many"}}}, "metrics.test.system.rows is many, not a finite number"),
        ("metrics", {"test": {"system": {"accuracy": 1.0}}}, "metrics.test.(system|llm|encoder) has no 'rows'"),
        ("intervals", {"nll": {"low": 0.1}}, "intervals.nll has no 'high'"),
        ("cost_usd", 10**400, "not a finite number"),
        ("cost_usd", float("nan"), "cost_usd is nan"),
        ("reliability", {"before": {"ece": 0.1, "confidence": [], "accuracy": [], "count": []}}, "one of before and after"),
        ("deferral", {"x": {"cost": [0.0, 1.0], "accuracy": [0.5]}}, "deferral.x has columns of"),
        ("decision", {"thresholds": [0.5]}, "1 numbers for 3 labels"),
        ("config", [], "config is no mapping"),
    ],
)
def test_a_field_of_another_kind_is_named(field: str, value: Any, says: str, runs: Path, tmp_path: Path) -> None:
    record = json.loads((runs / "e" / "1" / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps({**record, field: value}), encoding="utf-8")
    with pytest.raises(DataError, match=f"is damaged: .*{says}.*lf test"):
        ResultsManager(tmp_path).read()


def test_brackets_without_end_are_damage(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes(b"[" * 100_000)
    with pytest.raises(DataError, match="is damaged"):
        ResultsManager(tmp_path).read()


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('"predicted"', '"predictee"', "what the system said is missing"),
        ('"p_a"', '"p_q"', "what the system said is missing"),
        (',"c","c",', ',"c","",', "a labelled row has no label, or no decision"),
        (",0.", ",9.", "what are no probabilities"),
        (",0.", ",-0.", "what are no probabilities"),
    ],
)
def test_a_table_of_predictions_that_cannot_be(
    before: str, after: str, says: str, runs: Path, tmp_path: Path, capsys: Any
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(runs / "e" / "1", copy)
    file = copy / "predictions_test.csv"
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after, 1), encoding="utf-8")
    assert cli.main(["report", str(copy)]) == 3
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"a: 2026-99-99\n", b"[" * 1200, b"\xff", b"a: [", b"? [a]\n: b\n", b"5\n"])
def test_a_config_that_cannot_be_read_counts_as_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    assert read_config(tmp_path) == {}


def test_a_damaged_record_hides_no_other(runs: Path, tmp_path: Path, capsys: Any) -> None:
    copy = tmp_path / "runs"
    shutil.copytree(runs, copy)
    file = random.Random(0).choice(sorted(copy.glob("e/*/results.json")))
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "time": 5}), encoding="utf-8")  # which could not be sorted among the others
    assert cli.main(["compare", str(copy), "--format", "csv"]) == 0
    assert "left out" in capsys.readouterr().err
    assert len(ResultsManager(copy).list()) == 1
