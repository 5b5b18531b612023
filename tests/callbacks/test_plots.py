from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.image import imread

from lf_lightning import figures
from lf_lightning.callbacks.calibrate import FitCalibrators
from lf_lightning.callbacks.collect import CollectOutputs
from lf_lightning.callbacks.metrics import LogMetrics
from lf_lightning.callbacks.plots import SavePlots, save
from lf_lightning.metrics import ece

ODD = ["$x^2$", "a $", "emoji 🫠", "שלום", "日本", "long " * 20, "new\nline", "", "nul\0", "half \ud800"]
TEST_PLOTS = {"confusion_matrix.png", "reliability.png", "per_label_f1.png"}


def callbacks():
    return [CollectOutputs(), FitCalibrators(), LogMetrics(), SavePlots()]


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_figures_are_drawn_without_a_warning_whatever_labels_are_called(system, data, table, trainer, tmp_path, task):
    members = ("encoder", "llm [$]", "stack")
    rows = {split: table(60, len(ODD), task, members, seed) for seed, split in enumerate(("train", "validation", "test"))}
    module, given, run = system(ODD, task, members), data(rows), trainer(callbacks())
    folder = tmp_path / "experiment" / "run" / "plots"
    run.fit(module, given)
    assert {path.name for path in folder.iterdir()} == {"learning_curves.png"}
    run.test(module, given, verbose=False)
    assert {path.name for path in folder.iterdir()} == TEST_PLOTS | {"learning_curves.png"}
    for path in folder.iterdir():
        pixels = imread(path)
        assert min(pixels.shape[:2]) > 300
        assert pixels[..., :3].std() > 0.02  # something is drawn


def test_history_has_phases_and_losses_and_survives_a_checkpoint(system, data, table, trainer):
    rows = {split: table(20, 3, "multiclass", (), seed) for seed, split in enumerate(("train", "validation", "test"))}
    run = trainer(callbacks(), check_val_every_n_epoch=2)
    run.fit(system(["a", "b", "c"]), data(rows))
    history = run.callbacks[3].history
    assert [row["phase"] for row in history] == ["fold 1/2", "head", "head"]
    assert [row["epoch"] for row in history] == [0, 1, 2]
    assert all(row["train_loss"] > 0 for row in history)
    assert ["validation/nll" in row for row in history] == [False, True, False]
    other = SavePlots()
    other.load_state_dict(run.callbacks[3].state_dict())
    assert other.history == history


def test_an_epoch_that_is_run_again_takes_the_place_of_the_first(system, data, table, trainer):
    plots = SavePlots()
    plots.history = [{"epoch": e, "phase": "head", "train_loss": 9.0} for e in range(5)]
    run = type("At", (), {"callback_metrics": {}, "current_epoch": 2})()
    plots.on_train_epoch_end(run, system(["a", "b"]))
    assert [row["epoch"] for row in plots.history] == [0, 1, 2]
    assert plots.history[-1]["train_loss"] is None


def test_confusion_matrix_shows_the_counts():
    made, true = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
    axes = figures.confusion_matrix(made, true, ["no", "yes"]).axes[0]
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {((0, 0), "1"), ((1, 0), "1"), ((1, 1), "2")}
    assert axes.images[0].get_array().tolist() == [[0.5, 0.5], [0.0, 1.0]]


@pytest.mark.parametrize(("k", "step"), [(100, 1), (300, 3)])
def test_a_confusion_matrix_of_many_labels_has_names_that_can_be_read_and_the_worst_mistakes_in_words(k, step):
    rng = np.random.default_rng(0)
    true = rng.integers(k, size=2000)
    made = np.where(rng.random(2000) < 0.8, true, rng.integers(k, size=2000))
    true, made = np.r_[true, [7] * 60, [8] * 50], np.r_[made, [3] * 60, [9] * 50]
    figure = figures.confusion_matrix(made, true, [f"label number {i}" for i in range(k)])
    axes = figure.axes[0]
    assert max(figure.get_size_inches()) * figure.dpi < 2500
    assert len(axes.texts) == 0
    title = axes.get_title(loc="left")
    assert "most often mistaken: label number 7 as label number 3 (6" in title
    assert title.index("label number 8 as label number 9 (5") > title.index("label number 7")
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == [f"label number {i}" for i in range(0, k, step)]
    assert ("one label in 3 is named" in axes.get_xlabel()) == (step == 3)
    figure.draw_without_rendering()
    for texts, low in ((axes.get_yticklabels(), "y"), (axes.get_xticklabels(), "x")):
        boxes = sorted((getattr(e, f"{low}0"), getattr(e, f"{low}1")) for e in (text.get_window_extent() for text in texts))
        assert all(below[1] <= above[0] + 0.5 for below, above in pairwise(boxes))


def test_label_counts_add_up():
    made, true = np.array([[1, 0], [1, 1], [0, 1]]), np.array([[1, 1], [0, 1], [0, 1]])
    axes = figures.label_counts(made, true, ["rare", "often"]).axes[0]
    widths = [[bar.get_width() for bar in bars] for bars in axes.containers]
    assert widths == [[2, 1], [1, 0], [0, -1]]  # found, missed, wrongly given; the frequent label first


def test_reliability_titles_carry_the_calibration_error():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], size=500)
    truth = np.array([rng.choice(3, p=row) for row in p])
    sharp = p**3 / (p**3).sum(1, keepdims=True)
    before, after = (axes.get_title(loc="left") for axes in figures.reliability(sharp, p, truth, "multiclass").axes[::2])
    assert before == f"before calibration: ECE {ece(sharp, truth, 'multiclass'):.3f}"
    assert float(before[-5:]) > 0.1 > float(after[-5:])


@pytest.mark.parametrize("k", [2, 28])
def test_tick_labels_do_not_overlap(k):
    labels, rng = [f"label number {i}" for i in range(k)], np.random.default_rng(0)
    true = rng.integers(k, size=500)
    f1 = {"fusion": rng.random(k), "encoder alone": rng.random(k)}
    figure = figures.per_label_f1(f1, np.bincount(true, minlength=k), labels)
    figure.canvas.draw()
    boxes = sorted((text.get_window_extent().y0, text.get_window_extent().y1) for text in figure.axes[0].get_yticklabels())
    assert all(below[1] <= above[0] for below, above in pairwise(boxes))


def test_learning_curves_of_an_epoch_without_any_value(tmp_path):
    save(figures.learning_curves([{"epoch": 0, "phase": "joint", "train_loss": None}]), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name", "plain name"),
        ("$a$", r"\$a\$"),
        ("naïve", "naïve"),
        ("א", r"\u05d0"),
        ("a\tb", r"a\tb"),
        ("日", r"\u65e5"),
        ("\ud800", r"\ud800"),
        ("", "''"),
        ("x" * 40, "x" * 28 + "…"),
    ],
)
def test_printable(text, shown):
    assert figures.printable(text) == shown
