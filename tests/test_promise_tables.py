"""The tables of deferral and of promises say what their records say."""

from __future__ import annotations

from typing import Any

from benchmarks.promise_tables import DEFAULT, conformal, deferral


def between(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def part(area: float) -> dict[str, Any]:
    gap = between(-0.01, -0.02, 0.005)
    return {"area": between(area, 0, 1), "gain": between(0.05, 0, 1), "minus_all_calls": gap, "calls_for_95_percent": 0.25}


def test_deferral() -> None:
    methods = {
        DEFAULT: {m: part(0.031) for m in ("accuracy", "macro_f1")},
        "margin": {m: part(0.02) for m in ("accuracy", "macro_f1")},
    }
    every = {"gain_of_all": between(0.06, 0, 1)}
    above, beside = {"margin": between(0.011, 0.002, 0.02)}, {"margin": between(0.011, -0.002, 0.02)}
    cell = {"methods": methods, "accuracy": every, "macro_f1": every}
    text = deferral(
        {"share": 0.3, "sets": {"fomc": {**cell, "area_of_default_minus": {"accuracy": above, "macro_f1": beside}}}}
    )
    assert "| FOMC | +6.0 | +5.0 | -1.0 [-2.0, +0.5] | +6.0 | +5.0 | -1.0 [-2.0, +0.5] | 25% |" in text
    assert f"| {DEFAULT} | 3.10 | 3.10 |" in text
    assert text.endswith("differs significantly: above margin (FOMC, accuracy +1.10).")


def test_conformal() -> None:
    shape = {"calls": "all calls", "validation": "held out"}
    mean = {"mean": 0.901, "sd": 0.02}
    coverage = [{**shape, "sets": "LAC", "promise": p, "coverage": mean, "size": {"mean": 1.54, "sd": 0.1}} for p in (0.8, 0.9)]
    answer = {**shape, "promise": 0.1, "answered": {"mean": 0.42, "sd": 0.1}, "error": {"mean": 0.05, "sd": 0.1}}
    text = conformal(
        {"sets": {"fomc": {"splits": 20, "coverage": coverage, "answers": [{**answer, "splits_above_promise": 1}]}}}
    )
    assert text.count("| LAC, all calls | 90.1 ± 2.0 (1.5) |") == 1
    assert "| 10%, all calls | 42%, 5.0, 1 |" in text
