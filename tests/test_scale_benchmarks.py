"""Scaling, peers, start-up, the plan and the small run: what they compute, against another way, and what they say."""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import peers, small
from benchmarks.plan import ASSUMED, RESULTS, SOURCES, plan
from benchmarks.plan import table as plan_table
from benchmarks.record import ROOT
from benchmarks.scale_tables import peers as peers_table
from benchmarks.scale_tables import scaling, startup
from benchmarks.scaling import exponent


def records() -> dict[str, Any]:
    return {name: json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in SOURCES}


class TestScaling:
    def test_the_interval_holds_the_true_exponent_nineteen_times_in_twenty(self) -> None:
        rng = np.random.default_rng(0)
        sizes = np.repeat([1.0, 2.0, 4.0, 8.0], 3)
        inside = 0
        for _ in range(400):
            found = exponent(sizes.tolist(), (3 * sizes**0.7 * np.exp(rng.normal(0, 0.2, len(sizes)))).tolist())
            inside += found["low"] <= 0.7 <= found["high"]
        assert 0.91 < inside / 400 < 0.985

    def test_the_slope_is_that_of_least_squares(self) -> None:
        sizes, values = [1.0, 3.0, 9.0, 27.0], [2.0, 5.0, 21.0, 50.0]
        design = np.column_stack([np.ones(4), np.log(sizes)])
        (_, slope), *_ = np.linalg.lstsq(design, np.log(values), rcond=None)
        assert exponent(sizes, values)["exponent"] == pytest.approx(slope)

    def test_its_table(self) -> None:
        fitted = {"exponent": 0.9, "low": 0.8, "high": 1.0}
        curve = {"sizes": [1000, 3000], "seconds": [0.5, 1.25], "extra_mb": [3.0, 9.4], "time": fitted}
        base = {"join": {"rows": 30_000, "labels": 10}}
        figures = {"base": base, "epochs": 10, "batch": 32, "curves": {"join": {"rows": curve}}}
        assert "| join a store, rows: 1,000 to 3,000 | 0.50 · 1.25 | 3 · 9 | 0.90 [0.80, 1.00] |" in scaling(figures)


class TestPlan:
    def test_the_committed_plan_is_what_the_records_say(self) -> None:
        made = json.loads((RESULTS / "plan.json").read_text(encoding="utf-8"))["figures"]
        again = plan({name: found["figures"] for name, found in records().items()}, made["usd_per_text"], made["assumed"])
        assert {name: made[name] for name in again} == again, "python -m benchmarks.plan"

    def test_by_hand(self) -> None:
        given = {name: found["figures"] for name, found in records().items()}
        found = plan(given, 1e-4, ASSUMED)
        rate = given["prediction"]["sets"]["bbc_news"]["texts_per_second"]["bfloat16"] / 2 * 16 * 100
        assert found["prediction"]["bbc_news"]["bfloat16"]["days"] == pytest.approx(1e9 / rate / 86_400, abs=0.006)
        assert found["calls"]["1"]["usd"] == 100_000
        assert found["calls"]["0.3"]["usd_in_batches"] == 15_000
        assert found["store"]["join_memory_gb"] * 8 <= 32
        assert found["store"]["stores"] * found["store"]["rows_per_store"] >= 1e9

    def test_twice_the_machines_take_half_the_days_and_cost_the_same(self) -> None:
        given = {name: found["figures"] for name, found in records().items()}
        one, two = (plan(given, 1e-4, {**ASSUMED, "machines": machines})["prediction"]["bbc_news"] for machines in (10, 20))
        assert one["lf_lightning"]["days"] == pytest.approx(2 * two["lf_lightning"]["days"], rel=1e-3)
        assert one["lf_lightning"]["usd"] == two["lf_lightning"]["usd"]
        assert one["lf_lightning"]["failures"] == two["lf_lightning"]["failures"]

    def test_every_assumption_is_told(self) -> None:
        figures = json.loads((RESULTS / "plan.json").read_text(encoding="utf-8"))["figures"]
        said = plan_table(figures)
        for name, number in figures["assumed"].items():
            shown = f"{number:.0%}" if name == "share_of_calls" else f"{number:,}"
            assert shown in said, name


class TestPeers:
    def test_a_cell(self, tmp_path: Path) -> None:
        labels = np.arange(200) % 4
        rng = np.random.default_rng(0)

        def kept(right: float) -> dict[str, NDArray[Any]]:
            decisions = np.where(rng.random(200) < right, labels, (labels + 1) % 4)
            return {"probabilities": np.eye(4)[decisions] * 0.6 + 0.1, "decisions": decisions, "seconds": np.array(2.5)}

        found = {"tfidf": [kept(0.5) for _ in range(2)], "fusion": [kept(0.9) for _ in range(3)]}
        cell = peers.cell_of(found, labels)
        gap = cell["fusion_minus"]["tfidf"]["accuracy"]
        means = [np.mean([(one["decisions"] == labels).mean() for one in found[name][:2]]) for name in ("fusion", "tfidf")]
        assert gap["difference"] == pytest.approx(means[0] - means[1])
        assert 0 < gap["low"] < gap["difference"] < gap["high"]
        said = peers_table({"cells": {"bbc_news_8": cell}, "left_out": {"setfit": "not installed"}})
        assert "**BBC News, 8 per class**, 200 test rows" in said
        assert "| TF-IDF + logistic regression, 2 seeds |" in said
        assert "SetFit: not installed." in said

    def test_words_vectors_and_scores_are_each_enough(self) -> None:
        rng = np.random.default_rng(0)
        labels = np.arange(160) % 2
        texts = [f"{'goal match' if y else 'vote law'} w{rng.integers(50)}" for y in labels]
        noise: Any = {"texts": ["the same"] * 160, "scores": np.full((160, 2), 0.5), "vectors": lambda: np.zeros((160, 3))}
        telling: list[Any] = [
            {"texts": texts},
            {"scores": np.where(labels[:, None] == [0, 1], 0.9, 0.1)},
            {"vectors": lambda: np.stack([labels, -labels, labels], 1) + rng.normal(0, 0.1, (160, 3))},
        ]
        for part in telling:
            rows = peers.Rows(**{**noise, **part}, labels=labels[:80], data=None, model=None, seed=0)  # type: ignore[arg-type]
            assert (peers.stacking(rows).argmax(1) == labels[80:]).mean() > 0.95
        rows = peers.Rows(**{**noise, "texts": texts}, labels=labels[:80], data=None, model=None, seed=0)  # type: ignore[arg-type]
        assert (peers.tfidf(rows).argmax(1) == labels[80:]).mean() > 0.95


def test_the_start_up_table() -> None:
    kinds = {"median": 1.0, "low": 0.5, "high": 2.0}
    said = startup({"sides": {"lf --help": {"wall": kinds, "cpu": kinds}}, "left_out": ["import setfit"]})
    assert "| `lf --help` | 1.00 [0.50, 2.00] | 1.00 [0.50, 2.00] |" in said
    assert "Not installed: import setfit." in said


class TestSmall:
    @pytest.mark.parametrize("one", small.BENCHMARKS, ids=lambda one: one.name)
    def test_its_arguments_are_those_of_the_benchmark(self, one: small.Small, monkeypatch: pytest.MonkeyPatch) -> None:
        class Parsed(Exception):
            pass

        def parsed(self: Any, *_: Any) -> Any:
            raise Parsed(parse(self, [*shlex.split(one.words), "--out", "x.json", *(["--data", "x"] if one.data else [])]))

        from argparse import ArgumentParser

        parse = ArgumentParser.parse_args
        monkeypatch.setattr(ArgumentParser, "parse_args", parsed)
        with pytest.raises(Parsed):
            importlib.import_module(f"benchmarks.{one.name}").main()

    def test_every_benchmark_is_among_them(self) -> None:
        known = {one.name for one in small.BENCHMARKS}
        texts = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").glob("*.py")}
        modules = {name for name, text in texts.items() if "results/" in text or "parser_of(" in text}
        others = {"plan", "record", "render", "small"}  # the plan is computed from the others' records
        with_data = {"cotraining_weights"}  # reads what the cells of `cotraining` leave
        assert modules - others - with_data <= known

    def test_what_is_left_out_is_named_and_the_records_stay(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = (
            small.Small("store_join", "--rows 200"),
            small.Small("peers", "", ("a_package_that_is_not_there",)),
            small.Small("goemotions", "", (), 1, True),
            small.Small("startup", "--turns nonsense"),
        )
        monkeypatch.setattr(small, "BENCHMARKS", words)
        before = {path: path.stat().st_mtime_ns for path in RESULTS.iterdir()}
        monkeypatch.setattr(sys, "argv", ["small", "--out", str(tmp_path)])
        assert small.main() == 1
        said = capsys.readouterr().out
        assert "peers " in said
        assert "skipped: needs a_package_that_is_not_there" in said
        assert "skipped: needs --data FOLDER" in said
        assert "failed with exit code 2: startup.log" in said
        assert "| 200 |" in said
        assert "| 200 |" in (tmp_path / "tables.md").read_text(encoding="utf-8")
        assert {path: path.stat().st_mtime_ns for path in RESULTS.iterdir()} == before

    def test_the_full_records_are_no_place_for_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "argv", ["small", "--out", str(RESULTS)])
        with pytest.raises(SystemExit):
            small.main()
