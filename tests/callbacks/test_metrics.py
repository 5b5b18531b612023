from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torchmetrics.functional.classification import multiclass_f1_score

from lf_lightning.callbacks.calibrate import FitCalibrators
from lf_lightning.callbacks.collect import CollectOutputs
from lf_lightning.callbacks.judging import figures_of, judge, label_cells
from lf_lightning.callbacks.metrics import LogMetrics, logged_names
from lf_lightning.contract import Outputs
from lf_lightning.errors import NotFiniteError, NotFittedError

LABELS = ["a", "b", "c", "d"]
MEMBERS = ("encoder", "tiny/llm", "average")


def callbacks(**options):
    return [CollectOutputs(), FitCalibrators(), LogMetrics(**options)]


def splits(table, task="multiclass", k=4, members=MEMBERS, n=67):
    return {split: table(n, k, task, members, seed) for seed, split in enumerate(("train", "validation", "test"))}


def test_multiclass_values_are_scikit_learns_on_calibrated_probabilities(system, data, table, trainer):
    module, rows = system(LABELS, members=MEMBERS), splits(table)
    run, given = trainer(callbacks()), data(rows)
    run.fit(module, given)
    (logged,) = run.test(module, given, verbose=False)
    p = (rows["test"]["system"].double() / module.calibrator.temperature.double()).softmax(-1).numpy()
    true, made = rows["test"]["labels"].numpy(), p.argmax(1)
    assert float(module.calibrator.temperature) != 1.0
    assert logged["test/accuracy"] == pytest.approx(accuracy_score(true, made))
    assert logged["test/nll"] == pytest.approx(log_loss(true, p, labels=range(4)), rel=1e-5)
    for average in ("macro", "micro", "weighted"):
        expected = f1_score(true, made, average=average, labels=range(4), zero_division=0)
        assert logged[f"test/{average}_f1"] == pytest.approx(expected)
    each = f1_score(true, made, average=None, labels=range(4), zero_division=0)
    assert [logged[f"test/f1/{label}"] for label in LABELS] == pytest.approx(each.tolist())
    member = rows["test"]["tiny/llm"].numpy().argmax(1)
    assert logged["test/tiny_llm/accuracy"] == pytest.approx(accuracy_score(true, member))
    assert "test/encoder/ece" in logged
    assert "validation/nll" not in logged


def test_multilabel_decisions_follow_the_thresholds(system, data, table, trainer):
    module, rows = system(LABELS, "multilabel"), splits(table, "multilabel", members=())
    run, given = trainer(callbacks()), data(rows)
    run.fit(module, given)
    (logged,) = run.test(module, given, verbose=False)
    p = (rows["test"]["system"] / module.calibrator.temperature).sigmoid()
    made, true = (p >= module.decision.thresholds).int().numpy(), rows["test"]["labels"].int().numpy()
    assert not np.array_equal(made, (p >= 0.5).int().numpy())
    assert logged["test/macro_f1"] == pytest.approx(f1_score(true, made, average="macro", zero_division=0))
    assert logged["test/recall/b"] == pytest.approx((made * true)[:, 1].sum() / true[:, 1].sum())


def test_macro_f1_counts_an_absent_class_like_scikit_learn_and_unlike_torchmetrics(system, data, table, trainer):
    rows = splits(table, members=())
    for split in rows.values():  # nobody is, and nobody is called, d
        split["labels"] = split["labels"].clamp(max=2)
        split["system"][:, 3] = -50.0
    module = system(LABELS)
    run = trainer(callbacks())
    run.fit(module, data(rows))
    true, made = rows["validation"]["labels"], rows["validation"]["system"].argmax(1)
    expected = f1_score(true.numpy(), made.numpy(), average="macro", labels=range(4), zero_division=0)
    assert float(run.callback_metrics["validation/macro_f1"]) == pytest.approx(expected)
    assert float(multiclass_f1_score(made, true, num_classes=4, average="macro")) > expected + 0.1


def test_one_label_is_enough_for_a_multilabel_task(system, data, table, trainer):
    module, rows = system(["spam"], "multilabel"), splits(table, "multilabel", k=1, members=())
    run = trainer(callbacks(per_label=True))
    run.fit(module, data(rows))
    logged = {name: float(value) for name, value in run.callback_metrics.items()}
    assert logged["validation/f1/spam"] == pytest.approx(logged["validation/macro_f1"])


def test_sanity_checking_logs_nothing_and_members_that_are_not_there_yet_have_no_figures(system, data, table, trainer):
    module, rows = system(LABELS, members=MEMBERS), splits(table)
    module.validation_step = lambda batch, batch_idx: Outputs(batch["index"], batch["system"], batch["labels"])
    log = LogMetrics()
    run = trainer([CollectOutputs(), FitCalibrators(), log], max_epochs=1)
    log.on_validation_epoch_end(type("Checking", (), {"sanity_checking": True})(), module)
    assert log.validation == {}
    run.fit(module, data(rows))
    assert set(log.validation) == {"system"}


def test_unlabelled_rows_do_not_count_and_a_test_without_labels_says_so(system, data, table, trainer):
    module, rows = system(LABELS), splits(table, members=())
    run = trainer(callbacks())
    run.fit(module, data(rows))
    half = {key: value.clone() for key, value in rows["test"].items()}
    half["labels"][30:] = -1
    (logged,) = run.test(module, data({"test": half}), verbose=False)
    right = half["system"][:30].argmax(1) == half["labels"][:30]
    assert logged["test/accuracy"] == pytest.approx(float(right.float().mean()))
    half["labels"][:] = -1
    with pytest.warns(UserWarning, match="no labelled row"):
        (logged,) = run.test(module, data({"test": half}), verbose=False)
    assert logged == {}


def test_logits_that_are_not_finite_stop_the_run(system, data, table, trainer):
    module, rows = system(LABELS), splits(table, members=())
    run = trainer(callbacks())
    run.fit(module, data(rows))
    rows["test"]["system"][13, 2] = torch.nan
    with pytest.raises(NotFiniteError, match=r"1 of 67 test rows .* row 13"):
        run.test(module, data(rows), verbose=False)


def test_a_calibrator_that_was_never_fitted_is_not_skipped(system, table):
    module = system(LABELS)
    rows = table(5, 4, "multiclass", (), 0)
    module.evaluated["test"] = Outputs(torch.arange(5), rows["system"], rows["labels"])
    with pytest.raises(NotFittedError):
        judge(module, "test")


def test_members_are_judged_on_the_rows_that_they_have_an_opinion_on(system, table):
    module, rows = system(LABELS, members=("llm", "silent")), table(40, 4, "multiclass", ("llm",), 0)
    rows["llm"][:10] = torch.nan
    silent = torch.full_like(rows["llm"], torch.nan)
    module.evaluated["test"] = Outputs(torch.arange(40), rows["system"], rows["labels"], {"llm": rows["llm"], "silent": silent})
    for calibrator in (module.calibrator, *module.member_calibrators):
        calibrator.fit(rows["system"], rows["labels"])
    judged = judge(module, "test")
    figures = figures_of(judged)
    assert judged.members["llm"].decisions[:10].tolist() == [-1] * 10
    assert figures["llm"]["rows"] == 30
    right = rows["llm"][10:].argmax(1) == rows["labels"][10:]
    assert figures["llm"]["accuracy"] == pytest.approx(float(right.float().mean()))
    assert "silent" not in figures
    rows["llm"][20, 1] = torch.inf
    with pytest.raises(NotFiniteError, match="member 'llm'"):
        judge(module, "test")


def test_members_take_their_own_thresholds_where_the_module_has_them(system, table):
    module, rows = system(LABELS, "multilabel", ["encoder"]), table(60, 4, "multilabel", ["encoder"], 0)
    module.evaluated["test"] = Outputs(torch.arange(60), rows["system"], rows["labels"], {"encoder": rows["encoder"]})
    for calibrator in (module.calibrator, *module.member_calibrators):
        calibrator.fit(rows["system"], rows["labels"])
    module.decision.thresholds.fill_(0.5)
    at_half = judge(module, "test").members["encoder"].decisions
    module.member_decisions = torch.nn.ModuleList([type(module.decision)(4)])
    module.member_decisions[0].thresholds.fill_(0.9)
    assert judge(module, "test").members["encoder"].decisions.sum() < at_half.sum()


def test_the_last_validation_travels_in_the_state():
    first, second = LogMetrics(), LogMetrics()
    first.validation = {"system": {"accuracy": 0.5}}
    second.load_state_dict(first.state_dict())
    assert second.validation == {"system": {"accuracy": 0.5}}


def test_logged_names_are_plain_and_distinct():
    names = ["a/b", "a_b", "a?b", "😀", "🎉", "..", "joy", "naïve x-1", "a/dataloader_idx_0"]
    plain = logged_names(names)
    assert len(set(plain)) == len(names)
    assert plain[6:8] == ["joy", "naïve x-1"]
    assert plain[1] == "a_b"
    assert all("/" not in name and name for name in plain)


def test_label_cells_of_rows_without_an_answer_are_empty():
    assert label_cells(np.array([[-1, -1], [0, 1], [1, 1]]), ["x", "y"]) == ["", "y", "x|y"]
