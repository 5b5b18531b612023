from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from lf_lightning.errors import ConfigurationError
from lf_lightning.report import drawings, write_report
from lf_lightning.report.rows import LONGEST_TEXT, chosen_rows
from lf_lightning.results import ResultsManager
from lf_lightning.results.predictions import read_predictions
from tests.made_runs import write_run


def data_of(path):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    return json.loads(found[1])


def test_the_page_stands_alone(tmp_path):
    write_run(tmp_path / "e" / "1")
    path = write_report([tmp_path / "e" / "1"])
    assert path == tmp_path / "e" / "1" / "report.html"
    html = path.read_text(encoding="utf-8")
    assert "default-src 'none'" in html
    assert not re.search(r"""(src|href)=["'](?!#)|url\(|@import|https?://""", html)


def test_what_the_script_gets_is_what_was_predicted(tmp_path):
    record = write_run(tmp_path / "e" / "1", rationales={"llm": ["why", *[None] * 79]})
    run = read_predictions(tmp_path / "e" / "1", record)
    data = data_of(write_report([tmp_path / "e" / "1"]))
    assert [one["name"] for one in data["opinions"]] == ["fusion", "encoder alone", "LLM: llm"]
    assert (len(data["rows"]), data["total"]) == (80, 80)
    assert data["mistakes"] == int((run.decisions["system"] != run.truth).sum())
    for row in data["rows"]:
        n = int(row["n"])
        assert row["y"] == [run.truth[n]]
        for (right, made, top), name in zip(row["o"], ("system", "encoder", "llm"), strict=True):
            assert made == [run.decisions[name][n]]
            assert right == (run.decisions[name][n] == run.truth[n])
            assert dict(map(tuple, top))[made[0]] == pytest.approx(run.probabilities[name][n].max(), abs=1e-4)
    assert next(row for row in data["rows"] if row["n"] == "0")["r"] == {"llm": "why"}
    wrong = [row["o"][0][0] == 0 for row in data["rows"]]
    assert wrong == sorted(wrong, reverse=True)


def test_a_member_without_an_opinion_is_none_and_not_wrong(tmp_path):
    write_run(tmp_path / "e" / "1", silent={"llm": 30})
    data = data_of(write_report([tmp_path / "e" / "1"]))
    assert sum(row["o"][2] == [-1, [], []] for row in data["rows"]) == 30
    assert "no opinion on 30 rows" in (tmp_path / "e" / "1" / "report.html").read_text(encoding="utf-8")


def test_many_rows_are_cut_and_the_page_says_so(tmp_path):
    write_run(tmp_path / "e" / "1", rows=10_000, texts=["word " * 60] * 10_000)
    path = write_report([tmp_path / "e" / "1"])
    data = data_of(path)
    assert (len(data["rows"]), data["total"]) == (2000, 10_000)
    assert "of which 2,000 are on this page" in path.read_text(encoding="utf-8")
    assert path.stat().st_size < 3e6
    assert len(data_of(write_report([tmp_path / "e" / "1"], most_rows=7))["rows"]) == 7


def test_a_text_of_a_megabyte_is_cut_with_a_note(tmp_path):
    write_run(tmp_path / "e" / "1", texts=["x" * 1_000_000, *["short"] * 79])
    path = write_report([tmp_path / "e" / "1"])
    row = next(row for row in data_of(path)["rows"] if row["n"] == "0")
    assert (len(row["x"]), row["c"]) == (LONGEST_TEXT, 1_000_000)
    assert path.stat().st_size < 1e6


def test_no_text_ends_the_data(tmp_path):
    texts = ["</script><!--<script>", "\u2028", "half \ud800", "nul \0", *["x"] * 76]
    write_run(tmp_path / "e" / "1", texts=texts)
    path = write_report([tmp_path / "e" / "1"])
    rows = {row["n"]: row["x"] for row in data_of(path)["rows"]}
    assert [rows["0"], rows["1"]] == texts[:2]
    assert path.read_text(encoding="utf-8").count("</script>") == 2


def test_without_predictions_or_texts_there_is_still_a_page(tmp_path):
    write_run(tmp_path / "e" / "1")
    (tmp_path / "e" / "1" / "predictions_test.csv").unlink()
    html = write_report([tmp_path / "e" / "1"]).read_text(encoding="utf-8")
    assert "kept no predictions" in html
    assert "macro-F1" in html


def test_a_run_of_schema_1_has_a_page(tmp_path):
    record = write_run(tmp_path / "e" / "1", config={}, reliability={}, decision={}, schema=1)
    path = tmp_path / "e" / "1" / "predictions_test.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    kept = [place for place, name in enumerate(lines[0]) if not name.startswith('"p:')]
    path.write_text("\n".join(",".join(line[place] for place in kept) for line in lines) + "\n")
    assert list(read_predictions(path.parent, record).probabilities) == ["system"]
    html = write_report([path.parent]).read_text(encoding="utf-8")
    assert "Who was right when" in html
    assert "What asking the LLM buys" not in html
    assert "Is it as sure" not in html


def test_a_recorded_deferral_is_drawn(tmp_path):
    record = write_run(tmp_path / "e" / "1")
    curve = {"cost": [0, 0.5, 1], "accuracy": [0.8, 0.9, 0.9], "macro_f1": [0.8, 0.9, 0.9]}
    ResultsManager(tmp_path / "e" / "1").write(replace(record, deferral={"ExpectedGain": curve, "random": curve}))
    html = write_report([tmp_path / "e" / "1"]).read_text(encoding="utf-8")
    assert "ExpectedGain: 50 % asked, accuracy 90.0 %" in html
    assert "As recorded by the run." in html


def test_the_curve_begins_at_the_encoder_and_ends_at_the_system(tmp_path):
    record = write_run(tmp_path / "e" / "1")
    html = write_report([tmp_path / "e" / "1"]).read_text(encoding="utf-8")
    figures = record.metrics["test"]
    assert f"least sure first: 0 % asked, accuracy {100 * figures['encoder']['accuracy']:.1f} %" in html
    assert f"least sure first: 100 % asked, accuracy {100 * figures['system']['accuracy']:.1f} %" in html


def test_costs_are_shown_where_they_are_known_and_never_made_up(tmp_path):
    cost = {"texts": 80, "input_tokens": 1000, "output_tokens": None, "cost_usd": 0.5}
    record = write_run(tmp_path / "e" / "1", score_costs={"validation": {"llm": cost}, "test": {"llm": cost}})
    assert record.score_cost_usd == 1.0
    html = write_report([tmp_path / "e" / "1"]).read_text(encoding="utf-8")
    assert "<td>160</td><td>2,000</td><td>not noted</td><td>1.0000</td>" in html


def test_runs_that_cannot_be_compared_have_no_page(tmp_path):
    write_run(tmp_path / "e" / "1")
    write_run(tmp_path / "e" / "2", rows=90)
    with pytest.raises(ConfigurationError, match="different rows"):
        write_report([tmp_path / "e"], tmp_path / "c.html")
    assert not (tmp_path / "c.html").exists()


@pytest.mark.parametrize("options", [{"most_rows": -1}, {"out": "/proc/nowhere/x.html"}])
def test_what_cannot_be_written_is_named(tmp_path, options):
    write_run(tmp_path / "e" / "1")
    with pytest.raises(ConfigurationError, match=r"rows=-1|cannot be written"):
        write_report([tmp_path / "e" / "1"], **options)


def test_mistakes_come_first_then_disagreements_the_surest_on_top():
    wrong, split = np.array([0, 1, 0, 1, 0], dtype=bool), np.array([1, 0, 0, 0, 0], dtype=bool)
    assert chosen_rows(wrong, split, np.array([0.1, 0.6, 0.9, 0.8, 0.95]), 4).tolist() == [3, 1, 0, 4]


def test_wilson_is_that_of_scipy():
    from scipy.stats import binomtest

    for right, n in ((90, 100), (0, 7), (3, 3)):
        expected = binomtest(right, n).proportion_ci(method="wilson")
        assert drawings.wilson(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-6)
