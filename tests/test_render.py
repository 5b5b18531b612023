from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import render
from benchmarks.cells import bold_best, difference_cell, mark, ordered, scorers_of, value


def number(mean: float, sd: float = 0.01) -> dict[str, float]:
    return {"mean": mean, "sd": sd}


def cell(fusion: float, low: float, high: float, scorer: str = "gpt") -> dict[str, Any]:
    """What `fits.table` writes of a set in which fusion is between `low` and `high` above an encoder of 0.7."""
    rows = {"fusion": fusion, "encoder": 0.7, "average": 0.71, "stack": 0.72, scorer: 0.6}
    gap = {"difference": fusion - 0.7, "low": low, "high": high}
    return {
        "test_rows": 1234,
        "labelled_rows": {"train": 40, "validation": 40},
        "rows": {
            name: {"accuracy": number(x), "macro_f1": number(x - 0.05), "nll": number(1 - x), "ece": number(0.1)}
            for name, x in rows.items()
        },
        "best_member_on_test": {"accuracy": "encoder", "macro_f1": "encoder"},
        "fusion_minus": {"encoder": {"accuracy": gap, "macro_f1": gap}, scorer: {"accuracy": gap, "macro_f1": gap}},
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    def write(name: str, figures: dict[str, Any]) -> None:
        record = {
            "claim": "It is best.",
            "figures": figures,
            "seeds": [0, 1, 2],
            "command": f"python -m benchmarks.{name}",
            "date": "2026-01-02",
            "machine": {"cpus": 2, "gpu": None},
            "versions": {"torch": "2.9"},
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")

    sets = {"kaikoura": cell(0.75, 0.01, 0.09), "fomc": cell(0.66, -0.08, -0.01, "gemma"), "maria": cell(0.69, -0.03, 0.01)}
    write("fusion_llm_labels", {"sets": sets, "mean_accuracy_above_best_member": 0.0})
    write("fusion_low_data", {"cells": {"bbc_8": cell(0.9, 0.1, 0.3)}})
    write("quickstart", {"sets": {"bbc_news": cell(0.9, 0.1, 0.3)}, "seconds_per_seed": 30.0})
    half = {"accuracy": number(0.3), "macro_f1": number(0.2), "micro_f1": number(0.4), "nll": number(0.1), "ece": number(0.1)}
    tuned = {**half, "macro_f1": number(0.3)}
    gain = {"macro_f1": {"difference": 0.1, "low": 0.08, "high": 0.12, "p": 0.01}}
    rows = {"threshold 0.5": half, "tuned thresholds": tuned}
    write("goemotions", {"goemotions": {"test_rows": 50, "labels": 28, "rows": rows, "tuned_minus_half": gain}})
    return tmp_path


def test_the_documents_are_as_rendered() -> None:
    assert [path.name for path, _ in render.outdated()] == [], "make results"


@pytest.mark.parametrize("document", render.DOCUMENTS)
def test_the_markers_of_the_documents_name_tables(document: str) -> None:
    text = (render.ROOT / document).read_text(encoding="utf-8")
    names = [found[2] for found in render._MARKED.finditer(text)]
    assert len(names) == text.count("<!-- results:") == text.count("<!-- /results:") > 0
    assert set(names) <= set(render.TABLES)


def test_rendering_twice_changes_nothing(results: Path) -> None:
    text = "a\n<!-- results:quickstart -->\nold\n<!-- /results:quickstart -->\nb\n"
    once = render.rendered(text, results)
    assert once.startswith("a\n<!-- results:quickstart -->\nBBC News, 40 labelled")
    assert once.endswith("<!-- /results:quickstart -->\nb\n")
    assert "old" not in once
    assert render.rendered(once, results) == once


def test_a_missing_record_names_its_command(tmp_path: Path) -> None:
    assert "`python -m benchmarks.throughput` makes" in render.block("throughput", tmp_path)
    assert "--data FOLDER` makes" in render.block("fusion_llm_labels-all", tmp_path)


def test_an_unknown_table_is_an_error(results: Path) -> None:
    with pytest.raises(KeyError, match="nothing"):
        render.rendered("<!-- results:nothing -->\n<!-- /results:nothing -->", results)


def test_where_fusion_loses_is_said(results: Path) -> None:
    shown = render.block("fusion_llm_labels", results)
    lines = {line.split(" | ")[0]: line for line in shown.splitlines() if line.startswith("| ")}
    assert lines["| HumAID Kaikoura"].endswith("+5.0 [+1.0, +9.0] ▲ |")
    assert lines["| FOMC"].endswith("-4.0 [-8.0, -1.0] ▼ |")
    assert lines["| HumAID Maria"].endswith("-1.0 [-3.0, +1.0] ▽ |")
    assert "below its better member (▼): FOMC (accuracy -4.0), FOMC (macro-F1 -4.0)." in shown
    assert "within the interval (▽): HumAID Maria (accuracy -1.0)" in shown
    assert "above (▲): 2 of 6." in shown
    assert "It is best." not in shown  # a claim is written before the figures are known


def test_one_column_for_scorers_of_different_names(results: Path) -> None:
    header = render.block("fusion_llm_labels", results).splitlines()[0]
    assert header.count("LLM alone") == 1
    assert "gpt" not in header


def test_a_table_of_members_names_the_scorer_and_bolds_the_best(results: Path) -> None:
    shown = render.block("quickstart", results)
    assert "| LLM alone: gpt | 60.0 ± 1.0 |" in shown
    assert "| fusion | **90.0 ± 1.0** | **85.0 ± 1.0** | **0.100 ± 0.010** |" in shown
    assert "3 seeds · 2 CPU cores · torch 2.9 · 2026-01-02 · `python -m benchmarks.quickstart`" in shown


def test_few_labels_are_named_by_set_and_number(results: Path) -> None:
    assert "| BBC News, 8 per class |" in render.block("fusion_low_data", results)


def test_thresholds_are_no_llms(results: Path) -> None:
    shown = render.block("goemotions", results)
    assert "LLM" not in shown
    assert "| tuned thresholds | **30.0 ± 1.0** | **30.0 ± 1.0** | **40.0 ± 1.0** |" in shown
    assert "macro-F1: +10.0 [+8.0, +12.0] ▲ points, 28 labels" in shown


def test_marks_and_values() -> None:
    assert [mark({"difference": d, "low": d - 1, "high": d + 1}) for d in (2, 0.5, 0, -0.5, -2)] == ["▲", "", "", "▽", "▼"]
    assert difference_cell({"difference": 0.0, "low": -0.01, "high": 0.01}) == "+0.0 [-1.0, +1.0]"
    assert value("ece", number(0.02, 0.0)) == "0.020"
    assert bold_best("nll", [number(0.5), None, number(0.4)]) == ["0.500 ± 0.010", "–", "**0.400 ± 0.010**"]


def test_rows_go_from_the_parts_to_the_whole() -> None:
    made = cell(0.9, 0.1, 0.2)
    assert ordered(made) == ["gpt", "encoder", "average", "stack", "fusion"]
    assert scorers_of(made) == ["gpt"]


def test_speed_is_a_table_of_three_rivals(tmp_path: Path) -> None:
    quartiles = {"median": 1.5, "low": 1.4, "high": 1.6}
    kind = {"ratio": {"loop": quartiles, "loop_padded_to_256": quartiles}, "rows_per_second": {"lf_lightning": 12.34}}
    figures = {"training": kind, "prediction": kind}
    record = {
        "figures": figures,
        "seeds": [0],
        "command": "c",
        "date": "d",
        "machine": {"cpus": 2, "gpu": None},
        "versions": {},
    }
    (tmp_path / "throughput.json").write_text(json.dumps(record), encoding="utf-8")
    shown = render.block("throughput", tmp_path)
    assert "hand-written loop | 1.50 [1.40, 1.60] | 1.50 [1.40, 1.60] |" in shown
    assert "| rows a second | 12.3 | 12.3 |" in shown
    assert "transformers" not in shown
