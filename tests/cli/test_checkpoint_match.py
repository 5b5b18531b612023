"""A checkpoint and a config of another model: told by argument, before a figure is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lf_lightning import cli
from tests.conftest import TableFactory

CONFIG = """\
seed_everything: 1
trainer: {{accelerator: cpu, devices: 1}}
data: {{train: train.csv, predict: train.csv, validation_share: 0.2, test_share: 0.2, batch_size: 32}}
model: {{encoder: {encoder}, encoder_epochs: 1, encoder_lr: 0.001}}
"""


def told(words: list[str], capfd: pytest.CaptureFixture[str], code: int = 2) -> str:
    capfd.readouterr()
    assert cli.main(words) == code
    err = capfd.readouterr().err
    assert "Traceback" not in err
    return err.split("lf: ", 1)[-1]


def test_arguments_that_change_answers_must_be_those_of_the_fit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    topic_table: TableFactory,
    tiny_encoder: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LF_RUN_DIR", raising=False)
    topic_table(60).to_csv("train.csv", index=False)
    Path("tiny.yaml").write_text(CONFIG.format(encoder=tiny_encoder), encoding="utf-8")
    config = ["--config", "tiny.yaml"]
    fitted = ["--model.pooling", "cls", "--model.calibrator", "TemperatureScaling"]
    assert cli.main(["fit", *config, *fitted]) == 0
    for command in ("validate", "test", "predict"):
        said = told([command, *config], capfd)
        assert "pooling is 'mean' here and 'cls' there" in said
        assert f"Way out: lf {command} --run {tmp_path}/runs/tiny/" in said

    platt = ["--model.pooling", "cls", "--model.calibrator", "PlattScaling"]
    said = told(["test", *config, *platt], capfd)
    assert "calibrator is 'PlattScaling' here and 'TemperatureScaling' there" in said
    assert "pooling" not in said
    said = told(["fit", *config, *platt, "--ckpt_path", "last"], capfd)  # torch's own complaint, in words
    assert "calibrator is 'PlattScaling' here" in said
    assert "--ckpt_path last" in said

    # What only a fit reads may differ, and so may the folder that holds the same encoder.
    moved = tmp_path / "elsewhere" / Path(tiny_encoder).name
    moved.parent.mkdir()
    moved.symlink_to(tiny_encoder)
    others = ["--model.encoder_lr", "0.5", "--model.dropout", "0", "--model.encoder", str(moved)]
    assert cli.main(["test", *config, *fitted, *others]) == 0
    assert cli.main(["test", "--run", "runs/tiny/latest"]) == 0


@pytest.mark.usefixtures("workspace")
def test_weights_of_another_shape_in_a_module_of_ones_own(capfd: pytest.CaptureFixture[str]) -> None:
    config = yaml.safe_load(Path("small.yaml").read_text(encoding="utf-8"))
    config["model"] = {"class_path": "small_system.UnlinkedModule"}
    Path("small.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    words = ["--config", "small.yaml", "--allow-imports", "small_system"]
    assert cli.main(["fit", *words, "--trainer.max_epochs=1"]) == 0
    said = told(["test", *words, "--model.width=3"], capfd)
    assert "width is 3 here and 2 there" in said
    assert "without --config and --model" in said
