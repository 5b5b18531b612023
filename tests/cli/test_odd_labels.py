"""Labels that read like numbers, booleans or nothing: the same names on every way in and out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from lf_lightning import Predictor, cli
from lf_lightning.callbacks.judging import label_cells
from lf_lightning.data.labels import LabelReader
from lf_lightning.data.tables import read_table
from lf_lightning.results.predictions import label_numbers, write_table
from lf_lightning.store import ScorerCard, ScoreStore
from tests.conftest import TableFactory

ODD = ["1e-3", "007", "yes", "null", "3.0", "1.5e3", "off", "NaN", "NA", "~", "0x1f", "1_000", "12:30:45", "2026-01-02", "True"]
ODD += ["-1", "._", ".5", "+1e5", "=1", "'q'", "a: b", "# no", "[1]", "- x", "*a", "1e3", "\"x\"", "é", "e"]  # fmt: skip


def labels_of(printed: str) -> list[Any]:
    data = yaml.safe_load(printed)["data"]
    found: list[Any] = data.get("init_args", data)["labels"]
    return found


@pytest.mark.parametrize("how", ["--print_config", "--print_config=comments"])
def test_a_printed_config_keeps_them_and_is_read_again(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd.yaml").write_text(json.dumps({"data": {"train": "train.csv", "labels": ODD}}), encoding="utf-8")
    assert cli.main(["fit", "--config", "odd.yaml", "--data.label_column", "1e-3", how]) == 0
    printed = capsys.readouterr().out
    assert labels_of(printed) == ODD
    Path("printed.yaml").write_text(printed, encoding="utf-8")
    assert cli.main(["fit", "--config", "printed.yaml", how]) == 0
    again = capsys.readouterr().out
    assert again == printed
    assert yaml.safe_load(again)["data"]["init_args"]["label_column"] == "1e-3"


def test_a_printed_config_of_a_scorer_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {"name": "s", "tables": ["t.csv"], "labels": ODD}
    scorer = {"class_path": "lf_lightning.scoring.StatedLabelScorer", "init_args": arguments}
    Path("score.yaml").write_text(json.dumps({"scorer": scorer, "source": "t.csv", "store": "scores"}), encoding="utf-8")
    assert cli.main(["score", "--config", "score.yaml", "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["scorer"]["init_args"]["labels"] == ODD


@pytest.mark.parametrize("name", ["007", "1e-3", "yes", "3.0"])
def test_without_quotes_in_a_config_the_way_out_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd.yaml").write_text(f"data: {{train: t.csv, labels: [{name}, b]}}", encoding="utf-8")
    assert cli.main(["fit", "--config", "odd.yaml", "--print_config"]) == 2
    assert "put it in quotes" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_tables_keep_them(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"t.{kind}"
    table = pd.DataFrame({"text": [f"text {row}" for row in range(len(ODD))], "label": pd.Series(ODD, dtype=object)})
    if kind == "jsonl":
        table.to_json(file, orient="records", lines=True)
    elif kind == "parquet":
        table.to_parquet(file)
    else:
        table.to_csv(file, index=False, sep="," if kind == "csv" else "\t")
    reader = LabelReader("multiclass")
    assert reader.names_in(read_table(str(file)), "train") == sorted(ODD)
    assert reader.encode(read_table(str(file)), ODD, "train").tolist() == list(range(len(ODD)))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_of_predictions_keep_them(kind: str, tmp_path: Path) -> None:
    write_table(tmp_path / f"p.{kind}", {"label": label_cells(np.arange(len(ODD)), ODD)})
    read = read_table(str(tmp_path / f"p.{kind}"))["label"].tolist()
    assert label_numbers(read, ODD, "multiclass").tolist() == list(range(len(ODD)))


def test_the_store_keeps_them(tmp_path: Path) -> None:
    said = np.eye(len(ODD), dtype=np.float32)
    ScoreStore(tmp_path / "s", create=True).append(ScorerCard("a", tuple(ODD), "multiclass", {}), ODD, said)
    found = ScoreStore(tmp_path / "s")
    assert next(iter(found.cards.values())).labels == tuple(ODD)
    assert found.join(ODD, ["a"], ODD[::-1]).scores[:, 0].argmax(1).tolist() == list(range(len(ODD)))[::-1]


def test_a_run_keeps_them_from_its_config_to_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, topic_table: TableFactory, tiny_encoder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LF_RUN_DIR", raising=False)
    table, names = topic_table(90), {"politics": "1e-3", "science": "null", "sport": "007"}
    table["label"] = table["label"].map(names)
    table.to_csv("train.csv", index=False)
    config = {
        "seed_everything": 1,
        "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "logger": False},
        "data": {"train": "train.csv", "labels": list(names.values()), "validation_share": 0.2, "test_share": 0.2},
        "model": {"encoder": tiny_encoder, "evidence": "holdout", "encoder_epochs": 1, "head_epochs": 1},
    }
    Path("odd.yaml").write_text(json.dumps(config), encoding="utf-8")
    assert cli.main(["fit", "--config", "odd.yaml"]) == 0
    assert cli.main(["test", "--run", "runs/odd/latest"]) == 0  # its config is read again
    record = json.loads(Path("runs/odd/latest/results.json").read_text(encoding="utf-8"))
    assert record["labels"] == list(names.values())
    said = pd.read_csv("runs/odd/latest/predictions_test.csv", dtype=str, keep_default_na=False)
    assert set(said["label"]) == set(names.values())
    assert set(said["predicted"]) <= set(names.values())
    assert Predictor.of_run("runs/odd/latest", device="cpu").labels == list(names.values())
