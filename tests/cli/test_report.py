from __future__ import annotations

import pytest

from lf_lightning import cli
from tests.made_runs import write_run


def test_a_run_and_a_comparison_have_their_pages(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        write_run(tmp_path / "exp" / str(seed), seed=seed)
    assert cli.main(["report", "exp/0"]) == 0
    assert "exp/0/report.html" in capsys.readouterr().out
    assert cli.main(["report", "exp", "--by", "nll"]) == 0
    assert "Ranked by NLL (lower is better)" in (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert cli.main(["report", "exp/1", "--out", "x/page.html", "--rows", "3"]) == 0
    assert "of which 3 are on this page" in (tmp_path / "x" / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"), [([], "required: RUN"), (["nowhere"], "there is no run"), (["exp/0", "--rows", "-1"], "rows=-1")]
)
def test_mistakes_are_named(tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "exp" / "0")
    assert cli.main(["report", *words]) == 2
    assert message in capsys.readouterr().err
