from __future__ import annotations

import importlib.metadata
import os
import socket
from pathlib import Path

import pytest
from rich.console import Console

from lf_lightning import cli
from lf_lightning.cli import doctor
from lf_lightning.errors import ConfigurationError

CANARY = "CANARY-value-of-a-key"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def report(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[list[str]]]:
    code = cli.main(["doctor", *words])
    return code, [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_report_has_every_part_and_no_connection_is_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    code, lines = report(capsys)
    parts = {line[0] for line in lines}
    assert {"python", "cores", "device", "package", "extra", "key", "hub", "configs"} <= parts
    assert code == int(any(line[2] == "missing" for line in lines)) == 0
    assert ["key", "OPENAI_API_KEY", "ok", "set"] in lines
    assert CANARY not in str(lines)


def test_packages_are_held_against_the_floors(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.6.3" if name == "lightning" else found(name))
    code, lines = report(capsys)
    (line,) = [line for line in lines if line[1] == "lightning"]
    assert line[2] == "missing"
    assert "2.6.3, but" in line[3]
    assert code == 1


def test_an_extra_that_is_absent_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.metadata.version

    def without_wandb(name: str) -> str:
        if name == "wandb":
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "version", without_wandb)
    (wandb,) = [finding for finding in doctor.extras() if finding.name == "wandb"]
    assert wandb.state == "absent"
    assert wandb.note == 'without wandb: pip install "lf-lightning[wandb]"'


def test_a_config_says_what_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("there.csv").touch()
    Path("needs.yaml").write_text(
        """\
model:
  class_path: FusionLightningModule
  encoder: package:no_such_package_at_all/model
  head: {class_path: no_such_heads.Mine}
  loss: {class_path: lf_lightning.losses.CrossEntropy}
data:
  train: there.csv
  test: not/there.csv
  predict: hf:some/set:test
  scores: package:lf_lightning/configs/quickstart.yaml
  tokenizer: some-org/some-model
scorer: {api_key_env: LF_TEST_KEY}
trainer: {default_root_dir: not/made/yet}
""",
        encoding="utf-8",
    )
    monkeypatch.setenv("LF_TEST_KEY", CANARY)
    code, lines = report(capsys, "--config", "needs.yaml")
    needs = {line[1]: line[2] for line in lines if line[0] == "config needs"}
    assert needs == {
        "package:no_such_package_at_all/model": "missing",
        "no_such_heads.Mine": "missing",
        "there.csv": "ok",
        "not/there.csv": "missing",
        "hf:some/set:test": "absent",
        "package:lf_lightning/configs/quickstart.yaml": "ok",
        "some-org/some-model": "absent",
        "$LF_TEST_KEY": "ok",
    }
    assert code == 1
    monkeypatch.delenv("LF_TEST_KEY")
    assert doctor.Finding(
        "config needs", "$LF_TEST_KEY", "missing", "not set. Way out: export LF_TEST_KEY=..."
    ) in doctor.needs(Path("needs.yaml"))


@pytest.mark.parametrize("text", ["- a\n- list\n", "a: [\n"])
def test_a_config_that_is_no_mapping(text: str) -> None:
    Path("bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"bad\.yaml"):
        doctor.needs(Path("bad.yaml"))


def test_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(doctor.urllib.request, "urlopen", fail)
    (finding,) = doctor.hub(online=True)
    assert finding.state == "absent"
    assert "no network" in finding.note


def test_brackets_of_an_extra_survive_the_table() -> None:
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(force_terminal=True, width=200, record=True, file=nowhere)
        doctor.show([doctor.Finding("extra", "wandb", "absent", 'pip install "lf-lightning[wandb]"')], console)
    assert 'pip install "lf-lightning[wandb]"' in console.export_text()


def test_wrong_option_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--onlin"]) == 2
    assert "lf doctor" in capsys.readouterr().err
