from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lf_lightning import cli
from tests.made_runs import write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("c") / "exp"
    for seed, lr in ((0, "=1+1"), (1, "=1+1"), (2, "a|b")):
        write_run(folder / f"[red]{seed}", seed=seed, rows=120, config={"model": {"lr": lr, "seed": seed}})
    return folder


def test_the_table_ranks_tests_and_shows_what_differs(runs, capsys):
    assert cli.main(["compare", str(runs)]) == 0
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if "[red]" in line]
    assert [line.split("|")[1].strip() for line in lines] == ["1", "2", "3"]
    assert "3 runs by macro-F1 (higher is better), 120 test rows" in out
    assert "both corrected for 2 comparisons (Holm)" in out
    assert "model.lr" in out
    assert "\x1b" not in out


def test_groups_and_another_measure(runs, capsys):
    assert cli.main(["compare", str(runs), "--group", "--by", "nll"]) == 0
    out = capsys.readouterr().out
    assert "2 groups by NLL (lower is better)" in out
    assert "and 1 more" in out
    assert " ± " in out
    assert "McNemar" not in out


def test_markdown_cannot_be_broken_by_a_value(runs, capsys):
    assert cli.main(["compare", str(runs), "--format", "markdown"]) == 0
    tables = [block.splitlines() for block in capsys.readouterr().out.split("\n\n") if block.startswith("|")]
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "a\\|b" in "".join(tables[1])


def test_csv_is_defused_and_json_is_exact(runs, capsys):
    cli.main(["compare", str(runs), "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["model.lr"] for row in rows} == {"'=1+1", "a|b"}
    cli.main(["compare", str(runs), "--format", "json", "--by", "accuracy"])
    told = json.loads(capsys.readouterr().out)
    assert [float(row["accuracy"]) for row in rows] == pytest.approx(
        [next(run["figures"]["accuracy"] for run in told["runs"] if run["name"] == row["run"]) for row in rows]
    )
    assert told["by"] == "accuracy"


def test_a_pattern_and_another_run(runs, capsys):
    assert cli.main(["compare", f"{runs}/*[01]", "--against", str(runs / "[red]2"), "--top", "3"]) == 0
    out = capsys.readouterr().out
    assert "3 runs by macro-F1" in out
    assert "shown (--top)" not in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere"], 2, "there is no run"),
        (["--by", "f2"], 2, "invalid choice"),
        (["--top", "0"], 2, "top=0"),
        (["--against", "nowhere"], 2, "there is no run"),
    ],
)
def test_mistakes_are_named(runs, words, code, message, capsys):
    places = [] if words[0] == "nowhere" else [str(runs)]
    assert cli.main(["compare", *places, *words]) == code
    assert message in capsys.readouterr().err


def test_runs_on_other_rows_are_refused(runs, tmp_path, capsys):
    write_run(tmp_path / "other" / "1", rows=60)
    assert cli.main(["compare", str(runs), str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "tested on different rows" in err
    assert f"lf compare {runs}" in err


def test_damaged_records_are_mentioned(runs, tmp_path, capsys):
    write_run(tmp_path / "e" / "1")
    write_run(tmp_path / "e" / "2", seed=2)
    (tmp_path / "e" / "2" / "results.json").write_text("[]")
    assert cli.main(["compare", str(tmp_path)]) == 0
    assert "lf compare: left out:" in capsys.readouterr().err


def test_comparing_and_reporting_import_no_torch(runs, tmp_path):
    code = (
        "import sys; from lf_lightning.cli import main\n"
        f"assert main(['compare', {str(runs)!r}]) == 0\n"
        f"assert main(['report', {str(runs)!r}, '--out', {str(tmp_path / 'c.html')!r}]) == 0\n"
        "assert not {'torch', 'lightning', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
