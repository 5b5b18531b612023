from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lf_lightning.callbacks.calibrate import FitCalibrators
from lf_lightning.callbacks.collect import CollectOutputs
from lf_lightning.callbacks.comparing import best_members, friendly, sentence
from lf_lightning.callbacks.metrics import LogMetrics
from lf_lightning.callbacks.record import RecordResults
from lf_lightning.metrics import bootstrap_interval, mcnemar, paired_bootstrap
from lf_lightning.results import ResultsManager

LABELS = ["a", "b", "c"]
MEMBERS = ("encoder", "tiny/llm", "average", "stack")


def rows_of(table, members=MEMBERS, n=90, task="multiclass"):
    return {split: table(n, 3, task, members, seed) for seed, split in enumerate(("train", "validation", "test"))}


def callbacks():
    return [CollectOutputs(), FitCalibrators(), LogMetrics(), RecordResults()]


def test_the_record_of_a_fit_and_a_test(system, data, table, trainer, capsys, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "11")
    module, rows = system(LABELS, members=MEMBERS), rows_of(table)
    run, given = trainer(callbacks()), data(rows)
    run.fit(module, given)
    run.test(module, given)
    record = ResultsManager(run.default_root_dir).read()
    true, made = rows["test"]["labels"], rows["test"]["system"].argmax(1)
    encoder, llm = rows["test"]["encoder"].argmax(1), rows["test"]["tiny/llm"].argmax(1)
    assert (record.experiment, record.system, record.task, record.labels) == ("experiment", "GivenLogits", "multiclass", LABELS)
    assert record.rows == {s: {"rows": 90, "labelled": 90} for s in ("train", "validation", "test")}
    assert record.dataset_fingerprint == {"train": "ab" * 32}
    assert record.scores == {"tiny/llm": "cd" * 32}
    assert record.seeds == {"model": 3, "data": 5, "global": 11}
    assert record.metrics["test"]["encoder"]["accuracy"] == pytest.approx(float((encoder == true).float().mean()))
    assert set(record.metrics["validation"]) == {"system", *MEMBERS}
    assert record.intervals["accuracy"] == bootstrap_interval("accuracy", made, true, num_labels=3)
    assert set(record.tests) == set(MEMBERS)
    assert record.tests["tiny/llm"]["accuracy"]["p"] == mcnemar(made, llm, true)["p"]
    assert record.tests["encoder"]["macro_f1"] == paired_bootstrap(made, encoder, true, "macro_f1", num_labels=3)
    assert record.chosen_by == "validation"
    own = {name: record.metrics["validation"][name]["accuracy"] for name in ("encoder", "tiny/llm")}
    assert record.best_member["accuracy"] == max(own, key=own.get)
    assert record.calibrator["class"] == "TemperatureScaling"
    assert record.calibrator["temperature"] == pytest.approx(float(module.calibrator.temperature))
    assert record.cost_usd == 0
    assert set(record.score_costs) == {"train", "validation"}  # this data's summary has no test split
    assert record.score_cost_usd == 0.5
    assert record.reliability["after"]["ece"] == pytest.approx(record.metrics["test"]["system"]["ece"])
    assert sum(record.reliability["before"]["count"]) == 90
    assert record.decision == {}
    assert "results.json" in record.files
    printed = capsys.readouterr().out
    assert "macro-F1 %" in printed
    assert "test/macro_f1" not in printed  # one table: Lightning's own is silent
    names = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("|")][1:]
    assert names == ["LLM: tiny/llm", "encoder alone", "average", "stack (logistic regression)", "given-logits"]
    assert "McNemar p" in printed
    assert f"Run folder: {run.default_root_dir}" in printed
    assert "\x1b" not in printed


def test_a_validation_prints_its_table_and_records_nothing(system, data, table, trainer, capsys):
    module, rows = system(LABELS, members=MEMBERS), rows_of(table)
    run, given = trainer(callbacks()), data(rows)
    run.fit(module, given)
    capsys.readouterr()
    run.validate(module, given)
    printed = capsys.readouterr().out
    assert "experiment: 90 validation rows" in printed
    assert "validation/macro_f1" not in printed
    names = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("|")][1:]
    assert names == ["LLM: tiny/llm", "encoder alone", "average", "stack (logistic regression)", "given-logits"]
    own = {m: float((rows["validation"][m].argmax(1) == rows["validation"]["labels"]).float().mean()) for m in MEMBERS[:2]}
    assert f"given-logits vs {friendly(max(own, key=own.get), 'GivenLogits')}: " in printed
    assert "Best member chosen by validation rows" in printed
    assert not list(Path(run.default_root_dir).glob("results.json"))


def test_a_test_in_a_new_process_knows_the_validation_of_its_checkpoint(system, data, table, trainer, tmp_path):
    module, rows = system(LABELS, members=MEMBERS), rows_of(table)
    run, given = trainer(callbacks()), data(rows)
    run.fit(module, given)
    path = tmp_path / "model.ckpt"
    run.save_checkpoint(path)
    assert set(torch.load(path, weights_only=True)["callbacks"]["LogMetrics"]["validation"]) == {"system", *MEMBERS}
    later, fresh = trainer(callbacks()), system(LABELS, members=MEMBERS)
    later.test(fresh, data({"test": rows["test"]}), ckpt_path=path, weights_only=True)
    record = ResultsManager(later.default_root_dir).read()
    assert record.chosen_by == "validation"
    assert record.rows["train"] == {"rows": 90, "labelled": 90}
    assert record.calibrator["method"] == "temperature"


def test_without_validation_figures_the_best_on_the_test_rows_is_the_one_to_beat(system, data, table, trainer, capsys):
    module, rows = system(LABELS, members=MEMBERS), rows_of(table)
    for calibrator in (module.calibrator, *module.member_calibrators):
        calibrator.fit(rows["validation"]["system"], rows["validation"]["labels"])
    run = trainer(callbacks())
    run.test(module, data(rows))
    record = ResultsManager(run.default_root_dir).read()
    assert record.chosen_by == "test"
    assert "validation" not in record.metrics
    assert "chosen by test rows" in capsys.readouterr().out


def test_a_member_without_an_opinion_on_some_rows_is_compared_on_the_others(system, data, table, trainer, capsys):
    module, rows = system(LABELS, members=MEMBERS), rows_of(table)
    rows["test"]["tiny/llm"][:25] = torch.nan
    run, given = trainer(callbacks()), data(rows)
    run.fit(module, given)
    run.test(module, given)
    assert ResultsManager(run.default_root_dir).read().tests["tiny/llm"]["rows"] == 65
    assert "LLM: tiny/llm: no opinion on 25 of 90 rows" in capsys.readouterr().out


def test_a_system_that_is_its_only_member_has_one_line_and_no_test(system, data, table, trainer, capsys):
    rows = rows_of(table, members=())
    for split in rows.values():
        split["encoder"] = split["system"]
    module, run, given = system(LABELS, members=["encoder"]), trainer(callbacks()), data(rows)
    run.fit(module, given)
    run.test(module, given)
    record = ResultsManager(run.default_root_dir).read()
    assert (record.tests, record.best_member, record.chosen_by) == ({}, {}, None)
    printed = capsys.readouterr().out
    assert "encoder alone" not in printed
    assert "McNemar" not in printed


def test_multilabel_and_names_that_look_like_markup(system, data, table, trainer, capsys):
    members = ("encoder", "[red]llm[/red]")
    module, rows = system(["x", "y", "z"], "multilabel", members), rows_of(table, members, task="multilabel")
    run, given = trainer(callbacks()), data(rows)
    run.fit(module, given)
    run.test(module, given)
    assert "LLM: [red]llm[/red]" in capsys.readouterr().out
    record = ResultsManager(run.default_root_dir).read()
    assert (record.task, record.best_member["accuracy"] in members) == ("multilabel", True)


def test_best_members_are_no_combinations_and_speak_of_most_rows():
    def values(accuracy, macro_f1, rows=100.0):
        return {"accuracy": accuracy, "macro_f1": macro_f1, "rows": rows}

    figures = {
        "system": values(0.9, 0.9),
        "encoder": values(0.7, 0.8),
        "llm": values(0.8, 0.6),
        "silent": values(1.0, 1.0, 10.0),
        "stack": values(0.99, 0.99),
    }
    assert best_members(figures) == {"accuracy": "llm", "macro_f1": "encoder"}
    assert best_members({"system": values(1, 1)}) == {}


def test_the_sentence():
    def test(difference, p):
        return {"difference": difference, "low": difference - 0.011, "high": difference + 0.011, "p": p}

    tests = {name: {"accuracy": test(0.021, 0.0003), "macro_f1": test(-0.001, 0.00001)} for name in ("encoder", "llm")}
    assert sentence(tests, {"accuracy": "encoder", "macro_f1": "encoder"}, "FusionLightningModule") == (
        "fusion vs encoder alone: +2.1 points accuracy (95 % CI +1.0 to +3.2), McNemar p = 0.0003; "
        "-0.1 points macro-F1 (95 % CI -1.2 to +1.0), paired bootstrap p < 0.0001"
    )
    assert "; fusion vs LLM: llm: -0.1" in sentence(tests, {"accuracy": "encoder", "macro_f1": "llm"}, "FusionLightningModule")
    assert sentence({}, {}, "FusionLightningModule") == ""


def test_friendly_names():
    assert friendly("system", "CoTrainingLightningModule") == "co-training"
    assert friendly("system", "LightningModule") == "lightning-module"
