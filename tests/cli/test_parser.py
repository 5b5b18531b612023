from __future__ import annotations

from typing import Any

import pytest
import yaml

from lf_lightning import cli


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert cli.main(["fit", "--config", "quickstart.yaml", *arguments, "--print_config"]) == 0
    model: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    return model


def test_a_class_that_takes_anothers_place_has_its_own_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    vector = printed(capsys, "--model.calibrator", "VectorScaling")["calibrator"]
    assert vector["init_args"] == {"strength": 4.0, "min_rows": 5}
    gated = printed(capsys, "--model.head", "GatedFusion")["head"]
    assert gated["init_args"] == {"hidden": 32, "use_representation": False}


def test_what_the_user_chose_outlives_the_class_and_comes_before_its_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    before = printed(capsys, "--model.calibrator.strength", "7", "--model.calibrator", "VectorScaling")
    after = printed(capsys, "--model.calibrator", "VectorScaling", "--model.calibrator.strength", "3")
    assert [model["calibrator"]["init_args"]["strength"] for model in (before, after)] == [7.0, 3.0]
