from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lf_lightning.callbacks.calibrate import FitCalibrators
from lf_lightning.callbacks.collect import CollectOutputs
from lf_lightning.callbacks.judging import judge
from lf_lightning.callbacks.predictions import WritePredictions, prediction_columns
from lf_lightning.contract import Outputs
from lf_lightning.results import RunRecord
from lf_lightning.results.predictions import defuse, read_predictions, write_table

FORMULAS = ["=cmd|'/C calc'!A0", "+1+2", "-2+3", "@SUM(A1)", "\t=1", "\r=1"]
PLAIN = ['say "hi", you', "two\nlines", "bare\rreturn"]
NASTY = [*FORMULAS, *PLAIN, "nul\0", "half \ud800", "ünï 😀"]
ESCAPED = ["nul\\x00", "half \\ud800", "ünï 😀"]


@pytest.fixture
def fitted(system, data, table, trainer):
    """Returns a function that fits and returns trainer, module, rows."""

    def make(task="multiclass", labels=("=a", "b"), members=("encoder",), **options):
        rows = {s: table(12, len(labels), task, members, i) for i, s in enumerate(("train", "validation", "test", "predict"))}
        module = system(labels, task, members)
        run = trainer([CollectOutputs(), FitCalibrators(), WritePredictions(**options)], max_epochs=1)
        given = data(rows, dict.fromkeys(rows, NASTY))
        run.fit(module, given)
        return run, module, given

    return make


def test_a_test_writes_rows_texts_labels_probabilities_and_members(fitted):
    run, module, given = fitted()
    run.test(module, given, verbose=False)
    path = run.default_root_dir + "/predictions_test.csv"
    frame = pd.read_csv(path, keep_default_na=False)
    assert list(frame) == [
        *["row", "text", "label", "predicted", "p_=a", "p_b"],
        *["predicted_encoder", "p:encoder:=a", "p:encoder:b"],
    ]
    assert frame["row"].tolist() == list(range(100, 112))
    p = (given.rows["test"]["system"].double() / module.calibrator.temperature.double()).softmax(-1)
    assert np.abs(frame[["p_=a", "p_b"]].to_numpy() - p.numpy()).max() < 1e-6
    p = (given.rows["test"]["encoder"].double() / module.member_calibrators[0].temperature.double()).softmax(-1)
    assert np.abs(frame["p:encoder:b"].to_numpy() - p[:, 1].numpy()).max() < 1e-4
    p = (given.rows["test"]["system"].double() / module.calibrator.temperature.double()).softmax(-1)
    # A label that a spreadsheet would run is defused as well.
    assert frame["predicted"].tolist() == [["'=a", "b"][k] for k in p.argmax(1).tolist()]
    assert frame["label"].tolist() == [["'=a", "b"][k] for k in given.rows["test"]["labels"].tolist()]


def test_no_cell_starts_a_formula_and_every_text_stays_one_row(fitted):
    run, module, given = fitted()
    run.test(module, given, verbose=False)
    with Path(run.default_root_dir, "predictions_test.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["text"] for line in lines] == [*(f"'{text}" for text in FORMULAS), *PLAIN, *ESCAPED]
    assert not any(cell and cell[0] in "=+@\t\r\n" for line in lines for cell in line.values())


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("-1", "-1"), ("+3.5", "+3.5"), ("-1+1", "'-1+1"), ("-1\n", "'-1\n"), ("a=b", "a=b"), ("", ""), ("'=1", "'=1")],
)
def test_defuse(cell, expected):
    assert defuse(cell) == expected


def test_validate_and_predict_have_files_of_their_own_and_a_fit_writes_none(fitted, tmp_path):
    run, module, given = fitted(texts=False)
    folder = tmp_path / "experiment" / "run"
    assert not list(folder.glob("predictions*"))
    run.validate(module, given, verbose=False)
    given.rows["predict"]["labels"][:] = -1
    run.predict(module, given)
    assert {path.name for path in folder.glob("predictions*")} == {"predictions_validation.csv", "predictions.csv"}
    assert list(pd.read_csv(folder / "predictions.csv")) == [
        *["row", "predicted", "p_=a", "p_b", "predicted_encoder", "p:encoder:=a", "p:encoder:b"],
    ]


def test_parquet_keeps_texts_as_they_are(fitted):
    run, module, given = fitted(format="parquet")
    run.test(module, given, verbose=False)
    frame = pd.read_parquet(run.default_root_dir + "/predictions_test.parquet")
    assert frame["text"].tolist() == [*FORMULAS, *PLAIN, *ESCAPED]
    assert frame["p_b"].dtype == float


def test_multilabel_cells_and_partly_labelled_rows(system, table):
    module, rows = system(["x", "y", "z"], "multilabel"), table(30, 3, "multilabel", (), 0)
    module.calibrator.fit(rows["system"], rows["labels"])
    module.decision.thresholds.fill_(0.5)
    rows["labels"][0] = torch.nan
    rows["labels"][1] = torch.tensor([1.0, 0.0, 1.0])
    rows["labels"][2] = 0.0
    module.evaluated["test"] = Outputs(torch.arange(30), rows["system"], rows["labels"])
    columns = prediction_columns(judge(module, "test"), range(30), None)
    assert columns["label"][:3] == ["", "x|z", ""]
    assert columns["labelled"][:3] == [False, True, True]
    assert columns["predicted"][5] == "|".join(n for n, v in zip("xyz", rows["system"][5].tolist(), strict=True) if v >= 0)


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_what_was_written_is_read_back(system, table, tmp_path, format, task):
    labels = ["=a", "a,b", "nul\0", "<b>\n😀"]
    module, rows = system(labels, task, ["encoder", "gpt"]), table(12, 4, task, ("encoder", "gpt"), 0)
    for calibrator in (module.calibrator, *module.member_calibrators):
        calibrator.fit(rows["system"], rows["labels"])
    if task == "multilabel":
        module.decision.thresholds.fill_(0.5)
        rows["labels"][3] = torch.nan
    rows["gpt"][:5] = torch.nan
    module.evaluated["test"] = Outputs(
        torch.arange(12), rows["system"], rows["labels"], {"encoder": rows["encoder"], "gpt": rows["gpt"]}
    )
    judged = judge(module, "test")
    columns = prediction_columns(judged, range(12), NASTY, {"gpt": [None, "=1", *["because"] * 10]})
    write_table(tmp_path / f"predictions_test.{format}", columns)
    record = RunRecord("e", "t", "S", task, labels, metrics={"test": {"system": {}, "encoder": {}, "gpt": {}}})
    read = read_predictions(tmp_path, record)
    assert read.texts == [*FORMULAS, *PLAIN, *ESCAPED]
    assert read.rows == [str(row) for row in range(12)]
    assert (read.labelled == judged.labelled).all()
    assert (read.truth[judged.labelled] == judged.truth[judged.labelled]).all()
    for name, opinion in judged.opinions.items():
        assert (read.decisions[name] == opinion.decisions).all()
        assert np.allclose(read.probabilities[name], opinion.probabilities, rtol=1e-3, atol=0, equal_nan=True)
    assert read.rationales == {"gpt": ["", "=1", *["because"] * 10]}
    assert read_predictions(tmp_path, record, system_only=True).texts is None


def test_reasons_of_the_scorers_are_written_where_texts_are(fitted, tmp_path):
    run, module, given = fitted(members=("tiny/llm",))
    run.test(module, given, verbose=False)
    path = tmp_path / "experiment" / "run" / "predictions_test.csv"
    frame = pd.read_csv(path, keep_default_na=False)
    assert frame["rationale_tiny/llm"].tolist()[:4] == ["", "reason 1", "", "reason 3"]
    run.callbacks[2].texts = False
    run.test(module, given, verbose=False)
    assert not {"text", "rationale_tiny/llm"} & set(pd.read_csv(path))


def test_small_probabilities_keep_their_digits(system, table):
    module, rows = system(["x", "y"]), table(2, 2, "multiclass", (), 0)
    module.calibrator.temperature.fill_(1.0)
    module.evaluated["test"] = Outputs(torch.arange(2), torch.tensor([[20.0, 0.0], [0.0, 30.0]]), rows["labels"])
    assert prediction_columns(judge(module, "test"), range(2), None)["p_y"][0] == pytest.approx(np.exp(-20.0), rel=1e-5)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "predictions.csv"
    write_table(path, {"row": [1]})
    before = path.read_text()
    with pytest.raises(ValueError, match="zip"):
        write_table(path, {"row": [1, 2], "text": ["a"]})
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["predictions.csv"]
