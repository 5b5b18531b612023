from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lf_lightning.errors import ConfigurationError, DataError
from lf_lightning.metrics import evaluate, mcnemar, paired_bootstrap
from lf_lightning.results import ResultsManager
from lf_lightning.results.comparison import compare_runs, holm
from lf_lightning.results.configs import differing, settings
from lf_lightning.results.finding import find_runs, short_names
from lf_lightning.results.measures import MEASURES, of_sums, resampled, row_statistics
from lf_lightning.results.predictions import label_numbers, read_predictions
from tests.made_runs import write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs of one experiment: two heads, two seeds each."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, head, strength in ((0, "A", 1.0), (1, "A", 0.95), (0, "B", 0.5), (1, "B", 0.45)):
        config = {
            "seed_everything": seed,
            "model": {"class_path": "FusionLightningModule", "init_args": {"head": f"lf_lightning.heads.{head}", "seed": seed}},
        }
        write_run(
            folder / "exp" / f"{head}{seed}", seed=seed, rows=200, strength=strength, config=config, seeds={"model": seed}
        )
    return folder / "exp"


@pytest.mark.parametrize("by", [measure for measure in MEASURES if measure != "roc_auc"])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_measures_as_sums_over_rows_are_those_of_the_record(by, task, tmp_path):
    record = write_run(tmp_path / "e" / "1", rows=120, task=task)
    run = read_predictions(tmp_path / "e" / "1", record)
    statistics = row_statistics(by, run)
    assert float(of_sums(by, statistics.sum(0), 120)) == pytest.approx(record.metrics["test"]["system"][by], abs=2e-6)


def test_resampled_values_scatter_as_a_plain_bootstrap_does(tmp_path):
    record = write_run(tmp_path / "e" / "1", rows=150, strength=0.4)
    run = read_predictions(tmp_path / "e" / "1", record)
    drawn = {by: resampled(by, [run], n=4000)[:, 0] for by in ("macro_f1", "nll")}
    rng, made, p, y = np.random.default_rng(5), run.decisions["system"], run.probabilities["system"], run.truth
    rows = [rng.integers(150, size=150) for _ in range(1500)]
    f1 = [evaluate(p[i], y[i], "multiclass", made[i])["macro_f1"] for i in rows]
    loss = [-np.log(p[i, y[i]]).mean() for i in rows]
    for ours, plain in ((drawn["macro_f1"], f1), (drawn["nll"], loss)):
        spread = np.std(plain)
        assert np.quantile(ours, [0.025, 0.5, 0.975]) == pytest.approx(
            np.quantile(plain, [0.025, 0.5, 0.975]), abs=0.3 * spread
        )


def test_every_run_is_measured_on_the_same_resamples(tmp_path):
    record = write_run(tmp_path / "e" / "1")
    run = read_predictions(tmp_path / "e" / "1", record)
    for by in ("accuracy", "macro_f1", "brier", "ece"):
        drawn = resampled(by, [run, run], n=50)
        assert (drawn[:, 0] == drawn[:, 1]).all()
        assert drawn[:, 0].std() > 0


def test_the_best_comes_first_with_interval_and_tests(runs):
    records = find_runs([runs]).records
    found = compare_runs(records, "accuracy")
    values = [one.figures["accuracy"] for one in found.standings]
    assert values == sorted(values, reverse=True)
    assert found.other == found.standings[0].name
    assert found.standings[0].against is None
    tables = {one.name: read_predictions(one.folders[0], records[one.folders[0]]) for one in found.standings}
    first, third = tables[found.other], tables[found.standings[2].name]
    raw = [
        mcnemar(tables[one.name].decisions["system"], first.decisions["system"], first.truth)["p"]
        for one in found.standings[1:]
    ]
    assert [one.against["mcnemar_p"] for one in found.standings[1:]] == pytest.approx(holm(raw))
    pair = paired_bootstrap(third.decisions["system"], first.decisions["system"], first.truth, "accuracy", n=2000)
    test = found.standings[2].against
    assert test["difference"] == pytest.approx(pair["difference"])
    assert (test["low"], test["high"]) == pytest.approx((pair["low"], pair["high"]), abs=0.012)
    low, high = found.standings[0].interval
    assert low < values[0] < high


def test_lower_is_better_for_losses(runs):
    values = [one.figures["nll"] for one in compare_runs(find_runs([runs]).records, "nll").standings]
    assert values == sorted(values)


def test_only_what_differs_is_shown(runs):
    found = compare_runs(find_runs([runs]).records)
    assert set(found.differs) == {"seed_everything", "model.head", "model.seed"}
    assert sorted(found.differs["model.head"]) == ["A", "A", "B", "B"]


def test_seeds_of_one_config_become_one_line(runs):
    found = compare_runs(find_runs([runs]).records, "accuracy", group=True)
    assert [one.seeds for one in found.standings] == [2, 2]
    assert set(found.differs) == {"model.head"}
    first = found.standings[0]
    own = [ResultsManager(folder).read().metrics["test"]["system"]["accuracy"] for folder in first.folders]
    assert first.figures["accuracy"] == pytest.approx(np.mean(own))
    assert first.sd == pytest.approx(np.std(own, ddof=1))
    assert found.standings[1].against["difference"] < 0
    assert "mcnemar_p" not in found.standings[1].against


def test_top_shows_the_best_and_the_one_that_they_are_held_against(runs):
    records = find_runs([runs]).records
    worst = compare_runs(records, "accuracy").standings[-1]
    found = compare_runs(records, "accuracy", against=worst.folders[0], top=1)
    assert (len(found.standings), found.total, found.other) == (2, 4, worst.name)
    assert found.standings[0].against["difference"] > 0


def test_another_run_may_be_outside(runs, tmp_path):
    write_run(tmp_path / "exp" / "other", seed=7, rows=200, strength=0.2)
    found = compare_runs(find_runs([runs]).records, against=tmp_path / "exp" / "other")
    assert found.total == 5
    assert found.other.endswith("other")


def test_the_same_as_a_data_frame(runs):
    frame = ResultsManager(runs).compare("accuracy", top=3)
    assert isinstance(frame, pd.DataFrame)
    assert (len(frame), frame.index.name) == (3, "run")
    assert frame["value"].is_monotonic_decreasing
    assert np.isnan(frame["p"].iloc[0])
    assert (frame["p"].iloc[1:] <= 1).all()
    assert {"macro_f1", "nll", "cost_usd", "model.head"} <= set(frame)
    assert frame["cost_usd"].isna().all()


def test_other_test_rows_are_refused_by_name_with_a_way_out(runs, tmp_path):
    write_run(tmp_path / "short" / "1", rows=100)
    with pytest.raises(ConfigurationError, match="tested on different rows") as told:
        compare_runs(find_runs([runs, tmp_path / "short"]).records)
    text = str(told.value)
    assert "100 rows" in text
    assert str(tmp_path / "short" / "1") in text
    assert f"lf compare {runs}" in text


def test_other_labels_are_refused(runs, tmp_path):
    write_run(tmp_path / "x" / "1", rows=200, labels=("a", "b", "d"))
    with pytest.raises(ConfigurationError, match="have different labels"):
        compare_runs(find_runs([runs, tmp_path]).records)


def test_a_run_that_does_not_tell_its_test_rows_is_refused(runs, tmp_path):
    write_run(tmp_path / "x" / "1", rows=200, dataset_fingerprint={})
    with pytest.raises(ConfigurationError, match="does not say on which rows"):
        compare_runs(find_runs([runs, tmp_path]).records)
    assert compare_runs(find_runs([tmp_path]).records).total == 1


def test_predictions_that_contradict_the_record_are_named(runs, tmp_path):
    record = write_run(tmp_path / "x" / "1", rows=100)
    same = ResultsManager(next(iter(find_runs([runs]).records))).read().dataset_fingerprint
    ResultsManager(tmp_path / "x" / "1").write(replace(record, dataset_fingerprint=same))
    with pytest.raises(DataError, match="of other rows"):
        compare_runs(find_runs([runs, tmp_path]).records)


def test_a_run_without_predictions_has_figures_and_no_test(runs, tmp_path):
    for name in ("1", "2"):
        write_run(tmp_path / "x" / name, seed=int(name))
    (tmp_path / "x" / "2" / "predictions_test.csv").unlink()
    found = compare_runs(find_runs([tmp_path]).records)
    lacking = next(one for one in found.standings if one.name == "2")
    assert lacking.interval is not None
    assert all(one.against is None for one in found.standings)
    assert found.notes == ["2: no predictions_test table, so no test."]


@pytest.mark.parametrize(
    ("options", "message"), [({"by": "f1"}, "by='f1'"), ({"top": 0}, "top=0"), ({"against": "nowhere"}, "there is no run")]
)
def test_wrong_options_are_named(runs, options, message):
    with pytest.raises(ConfigurationError, match=message):
        compare_runs(find_runs([runs]).records, **options)


def test_holm_rejects_what_the_step_down_method_rejects():
    p = np.random.default_rng(0).random(12) ** 3
    corrected = np.array(holm(p.tolist()))
    for level in (0.01, 0.05, 0.2):
        order, rejected = np.argsort(p), np.zeros(12, dtype=bool)
        for step, place in enumerate(order):  # Holm (1979): stop at the first that is not significant
            if p[place] > level / (12 - step):
                break
            rejected[place] = True
        assert ((corrected <= level) == rejected).all()
    assert holm([]) == []


def test_places_are_folders_links_patterns_and_records(runs, tmp_path):
    (tmp_path / "latest").symlink_to(runs / "A0", target_is_directory=True)
    places = [str(runs / "A*"), str(runs / "B0" / "results.json"), str(tmp_path / "latest")]
    assert sorted(folder.name for folder in find_runs(places).records) == ["A0", "A1", "B0"]
    assert len(find_runs([runs.parent]).records) == 4
    with pytest.raises(ConfigurationError, match="there is no run"):
        find_runs([tmp_path / "nowhere"])


def test_damaged_records_are_told_and_do_not_hide_others(tmp_path):
    write_run(tmp_path / "e" / "1")
    (tmp_path / "e" / "2").mkdir()
    (tmp_path / "e" / "2" / "results.json").write_text("{")
    found = find_runs([tmp_path])
    assert len(found.records) == 1
    assert "damaged" in found.damaged[0]
    with pytest.raises(DataError, match="damaged"):
        find_runs([tmp_path / "e" / "2"])


def test_a_record_of_schema_1_takes_its_config_from_the_folder(tmp_path):
    record = write_run(tmp_path / "e" / "1", config={}, schema=1)
    assert settings(record, tmp_path / "e" / "1") == {
        "seed.model": 0,
        "scores of llm": "cdcdcdcdcdcd",
        "train rows": "abababababab",
    }
    (tmp_path / "e" / "1" / "config.yaml").write_text("model:\n  class_path: lf_lightning.X\n  init_args: {lr: 1.0e-05}\n")
    told = settings(record, tmp_path / "e" / "1")
    assert (told["model"], told["model.lr"]) == ("lf_lightning.X", 1e-5)


def test_an_argument_of_a_class_that_only_some_have_follows_the_class():
    runs = [{"head": "A", "head.dim": 1}, {"head": "B"}, {"head": "A", "head.dim": 2}]
    assert differing(runs) == {"head": ["A", "B", "A"], "head.dim": ["1", "—", "2"]}
    assert differing(runs[:2]) == {"head": ["A", "B"]}


def test_names_tell_runs_apart():
    assert short_names([Path("r/a/1"), Path("r/b/1")]) == ["a/1", "b/1"]


def test_a_strange_label_in_a_table_is_refused():
    with pytest.raises(ValueError, match="'z'"):
        label_numbers(["a", "z"], ["a", "b"], "multiclass")


def test_two_thousand_runs_take_no_longer_than_a_glance(tmp_path):
    record = write_run(tmp_path / "e" / "0", rows=200)
    table = (tmp_path / "e" / "0" / "predictions_test.csv").read_bytes()
    text = json.dumps(
        {**json.loads((tmp_path / "e" / "0" / "results.json").read_text()), "config": {f"k{i}": i for i in range(150)}}
    )
    for number in range(1, 2000):
        folder = tmp_path / "e" / str(number)
        folder.mkdir()
        (folder / "results.json").write_text(text.replace('"k7": 7', f'"k7": {number}'))
        (folder / "predictions_test.csv").write_bytes(table)
    code = (
        "import sys, time; start = time.process_time()\n"
        "from lf_lightning.cli import main\n"
        f"assert main(['compare', {str(tmp_path)!r}]) == 0\n"
        "print(time.process_time() - start, 'torch' in sys.modules, 'lightning' in sys.modules)"
    )
    start = time.process_time()
    for path in tmp_path.glob("e/*/results.json"):
        json.loads(path.read_bytes())
    reading = time.process_time() - start
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    seconds, *heavy = done.stdout.splitlines()[-1].split()
    assert "10 of 2,000 runs shown" in done.stdout
    assert heavy == ["False", "False"]
    assert float(seconds) < 30 * reading  # about 5 times, and any way that is quadratic is far above
    assert record.metrics["test"]["system"]["accuracy"] > 0.5


def test_evaluation_needs_no_torch():
    code = "import sys, lf_lightning.metrics, lf_lightning.results.comparison; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert evaluate([[0.9, 0.1]], [0], "multiclass")["accuracy"] == 1
