"""The model card says what is known and what is not; what goes up to a hub comes down again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lf_lightning import AutoFusionClassifier
from tests.auto.conftest import Make
from tests.auto.loopback_hub import Hub

ROOT = Path(__file__).resolve().parents[2]


def metadata(card: str) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load(card.split("---\n")[1])
    return found


def test_without_test_rows_the_card_says_so(fused: AutoFusionClassifier) -> None:
    card = fused.model_card()
    said = metadata(card)
    assert said["library_name"] == "lf-lightning"
    assert said["pipeline_tag"] == "text-classification"
    assert "license" not in said
    assert "model-index" not in said
    for words in ("`politics`", "**no test.**", "| good | 18 |", "No test rows", "named no licence", "from_pretrained"):
        assert words in card


def test_with_test_rows_it_has_intervals(fused: AutoFusionClassifier, table: pd.DataFrame) -> None:
    card = fused.model_card((table["text"], table["label"]), license="mit")
    assert metadata(card)["license"] == "mit"
    accuracy = fused.score(table)
    assert f"| accuracy % | {100 * accuracy:.1f} [" in card
    assert "On 90 test rows" in card
    assert round(accuracy, 4) in yaml.safe_load(card.split("---\n")[1])["model-index"][0]["results"][0]["metrics"][0].values()
    assert fused.model_card(table, license="mit") == card


def test_a_label_is_no_markup(small: Make, table: pd.DataFrame) -> None:
    names = {"politics": "<script>alert(1)</script>", "science": "a | b", "sport": "`x`\n# y"}
    card = small(num_epochs=1).fit(table["text"], table["label"].map(names)).model_card()
    assert "`'x' # y`" in card
    assert "`a ¦ b`" in card
    assert "\n# y" not in card


def test_what_goes_up_comes_down(alone: AutoFusionClassifier, tmp_path: Path) -> None:
    alone.save(tmp_path / "saved")
    own = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    with Hub() as hub:
        command = [sys.executable, str(ROOT / "tests/auto/hub_client.py"), str(tmp_path / "saved"), str(tmp_path / "out.npz")]
        environment = {**os.environ, **own, "HF_ENDPOINT": hub.url}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "out.npz")
    assert np.array_equal(found["mine"], found["theirs"])
    assert str(found["address"]) == f"{hub.url}/me/model"
    assert "private" in json.dumps(hub.created)
    assert hub.tokens == {"Bearer hf_of_a_test"}
    saved = {path.relative_to(tmp_path / "saved").as_posix() for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert set(hub.files) == {*saved, "README.md"}
    assert b"license: mit" in hub.files["README.md"]
    assert not any(b"hf_of_a_test" in content for content in hub.files.values())
