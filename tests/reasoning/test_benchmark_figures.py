"""The reasoning benchmark's figures and their table, from made-up cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.reasoning_figures import LLM, claim_of, table_of
from benchmarks.reasoning_tables import LLM_ROW, MAJORITY, reasoning

TRUTH = [0, 1] * 20


def cell(wrong: int, **more: Any) -> dict[str, Any]:
    """A cell that decides the first `wrong` of 40 rows wrong."""
    decided = [1 - truth if row < wrong else truth for row, truth in enumerate(TRUTH)]
    return {
        "labels": TRUTH,
        "decisions": decided,
        "probabilities": (0.2 + 0.6 * np.eye(2)[decided]).tolist(),
        "members": {},
        "steps": 8,
        "losses": [2.0] * 2 + [1.0] * 4 + [0.5] * 2,
        "seconds": 3.0,
        "seconds_per_text": 0.25,
        **more,
    }


@pytest.fixture
def figures(tmp_path: Path) -> dict[str, Any]:
    for name, rows in {"train": 30, "val": 4, "test": 40, "rest_train": 6}.items():
        labels = ["no", *["no", "yes"] * 20][:rows] if name == "train" else [["no", "yes"][k] for k in TRUTH[:rows]]
        table = pd.DataFrame({"text": [f"{name} {row}" for row in range(rows)], "label": labels, LLM: "no"})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    members = {
        name: {key: cell(wrong)[key] for key in ("decisions", "probabilities")} for name, wrong in (("encoder", 9), ("a", 6))
    }
    methods = {
        "label": {0: cell(10), 1: cell(6)},
        "multitask": {0: cell(8)},
        "fusion": {0: cell(2, members=members)},
    }
    return table_of(methods, tmp_path)


def test_figures_are_means_over_seeds_and_gaps_pair_them(figures: dict[str, Any]) -> None:
    label = figures["rows"]["label"]
    assert label["metrics"]["accuracy"]["mean"] == pytest.approx(0.8)
    assert label["metrics"]["accuracy"]["sd"] == pytest.approx(np.std([0.75, 0.85], ddof=1))
    assert label["accuracy"]["low"] < 0.8 < label["accuracy"]["high"]
    assert label["loss_of_quarters"] == {"first": 2.0, "last": 0.5}
    assert (label["seeds"], label["steps"]) == ([0, 1], 8)
    gap = figures["minus_label_only"]["multitask"]
    assert (gap["difference"], gap["seeds"]) == (pytest.approx(2 / 40), 1)  # against seed 0 of label, not both
    assert figures["rows"][MAJORITY]["metrics"]["accuracy"]["mean"] == 0.5
    assert figures["rows"][LLM_ROW]["metrics"]["macro_f1"]["mean"] == pytest.approx(1 / 3)


def test_fusion_is_held_against_the_member_that_is_best_on_test_rows(figures: dict[str, Any]) -> None:
    fused = figures["fusion"]
    assert fused["best_member_on_test"] == "a"
    assert fused["fusion_minus_best"]["difference"] == pytest.approx(4 / 40)


def test_the_table_shows_every_method_and_claims_what_the_figures_say(figures: dict[str, Any]) -> None:
    shown = reasoning({"sets": {"emotion": figures}, "speed": {"labels": 28.0, "times_faster": 20.04}})
    lines = {line.split(" | ")[0]: line for line in shown.splitlines()}
    assert lines["| `label`"].startswith("| `label` | 2 | 8 | **80.0 ± 7.1** [")
    assert "| +5.0 [" in lines["| `multitask`"]
    assert lines[f"| {LLM_ROW}"].endswith("| – |")
    assert "30 train rows, 40 test rows" in shown
    assert "learnt from 6 other rows" in shown
    assert "+10.0 [" in shown
    assert "28 labels of two tokens behind a prefix of 96: 20.0 times faster" in shown
    assert claim_of({"emotion": figures}).startswith(
        "Accuracy in points against label only at equal steps. emotion: multitask +5.0 ["
    )
    assert claim_of({}) == "No pair is finished."
