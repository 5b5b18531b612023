"""Texts and labels of every odd kind through fit, test, table, page, saved model and prediction; and 100 classes of one row."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lf_lightning import Predictor, cli
from lf_lightning.cli import runs
from lf_lightning.data.tables import read_table
from lf_lightning.results import ResultsManager
from lf_lightning.results.predictions import read_predictions
from tests.robustness.conftest import LABELS, write_config, write_lines


def test_tables_keep_every_character(odd_world: Path) -> None:
    want = [json.loads(line) for line in (odd_world / "test.jsonl").read_text(encoding="ascii").split("\n") if line]
    found = read_table(str(odd_world / "test.jsonl"))
    assert found["text"].tolist() == [row["text"] for row in want]
    assert found["label"].tolist() == [row["label"] for row in want]


def test_the_record_and_the_table_tell_labels_and_texts_as_they_were(odd_run: Path, odd_world: Path) -> None:
    record = ResultsManager(odd_run).read()
    assert sorted(record.labels) == sorted(LABELS)
    truth = read_table(str(odd_world / "test.jsonl"))
    run = read_predictions(odd_run, record)
    assert run is not None
    assert [record.labels[number] for number in run.truth] == truth["label"].tolist()
    assert run.texts is not None
    assert len(run.texts) == 30
    assert run.texts[4] == truth["text"][4]  # the one of a megabyte
    p = run.probabilities["system"]
    assert np.allclose(p.sum(1), 1, atol=1e-4)
    csv.field_size_limit(2_000_000)
    with (odd_run / "predictions_test.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell[:20] for cell in cells if cell.startswith(("=", "@", "\t", "\r"))]


def test_the_page_runs_no_label_and_no_text(odd_run: Path, tmp_path: Path) -> None:
    assert cli.main(["report", str(odd_run), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "alert(1)" in page
    assert len(page) < 500_000
    assert cli.main(["compare", str(odd_run), "--format", "markdown"]) == 0


def test_a_saved_model_says_the_same_of_any_text(odd_run: Path, odd_texts: list[str], tmp_path: Path) -> None:
    predictor = Predictor.of_run(odd_run, device="cpu")
    want = predictor.predict_proba(odd_texts)
    assert np.isfinite(want).all()
    assert np.allclose(want.sum(1), 1, atol=1e-5)
    predictor.save(tmp_path / "saved")
    again = Predictor.of_run(tmp_path / "saved", device="cpu")
    assert again.labels == predictor.labels
    assert (again.predict_proba(odd_texts) == want).all()


def test_lf_predict_on_new_odd_texts(odd_run: Path, odd_texts: list[str], tmp_path: Path) -> None:
    write_lines(tmp_path / "new.jsonl", [{"text": text} for text in odd_texts])
    words = ["predict", "--run", str(odd_run), "--data.predict", str(tmp_path / "new.jsonl"), "--data.on_missing", "mask"]
    with pytest.warns(UserWarning, match="1 of 33 texts are empty"):
        assert cli.main(words) == 0
    csv.field_size_limit(2_000_000)
    with (odd_run / "predictions.csv").open(encoding="utf-8", newline="") as opened:
        assert len(list(csv.DictReader(opened))) == len(odd_texts)


@pytest.mark.slow  # a confusion matrix of 100 labels takes seconds to draw
def test_a_hundred_classes_with_one_row_each(tiny_encoder: str, tmp_path: Path, capsys: Any) -> None:
    rng = np.random.default_rng(0)
    for name in ("train", "validation", "test"):
        rows = [{"text": f"word{rng.integers(1e6)} of class {k} {name}", "label": f"class {k}"} for k in range(100)]
        write_lines(tmp_path / f"{name}.jsonl", rows)
    config = write_config(tmp_path, tiny_encoder)
    assert cli.main(["fit", "--config", str(config), "--runs-dir", str(tmp_path / "runs")]) == 0, capsys.readouterr().err
    run = runs.newest(tmp_path / "runs", "odd")
    assert cli.main(["test", "--run", str(run)]) == 0
    record = ResultsManager(run).read()
    assert len(record.labels) == 100
    assert record.metrics["test"]["system"]["rows"] == 100
    found = read_predictions(run, record)
    assert found is not None
    assert np.allclose(found.probabilities["system"].sum(1), 1, atol=1e-3)
    assert cli.main(["report", str(run)]) == 0


def test_a_label_that_test_alone_has_is_named(tiny_encoder: str, tmp_path: Path, capsys: Any) -> None:
    rows = [{"text": f"text {row}", "label": "ab"[row % 2]} for row in range(20)]
    for name in ("train", "validation", "test"):
        stranger = {"text": "nobody", "label": "a stranger"}
        own = [{**row, "text": f"{name} {row['text']}"} for row in rows]
        write_lines(tmp_path / f"{name}.jsonl", [*own, stranger] if name == "test" else own)
    config = write_config(tmp_path, tiny_encoder)
    words = ["--runs-dir", str(tmp_path / "runs")]
    assert cli.main(["fit", "--config", str(config), *words]) == 3
    said = capsys.readouterr().err
    assert "'a stranger'" in said
    assert "test" in said
