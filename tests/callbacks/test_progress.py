from __future__ import annotations

import io

import pytest
from rich.console import Console

from lf_lightning.callbacks import progress
from lf_lightning.callbacks.calibrate import FitCalibrators
from lf_lightning.callbacks.collect import CollectOutputs
from lf_lightning.callbacks.metrics import LogMetrics
from lf_lightning.callbacks.progress import PhaseProgress


@pytest.fixture
def run(system, data, table, trainer):
    def go():
        rows = {split: table(30, 3, "multiclass", (), len(split)) for split in ("train", "validation", "test", "predict")}
        module, given = system(["a", "b", "c"]), data(rows)
        tool = trainer([CollectOutputs(), FitCalibrators(), LogMetrics(), PhaseProgress()], enable_progress_bar=True)
        tool.fit(module, given)
        tool.validate(module, given, verbose=False)
        tool.test(module, given, verbose=False)
        tool.predict(module, given)
        return tool

    return go


def test_elsewhere_than_on_a_terminal_each_epoch_is_one_line(run, capsys):
    run()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [["epoch 1/3", "fold 1/2"], ["epoch 2/3", "head"], ["epoch 3/3", "head"]]
    assert all("loss " in line and "validation macro-F1 " in line for line in lines)


def test_a_terminal_gets_a_bar_with_the_phase_and_is_given_back(run, monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160)
    monkeypatch.setattr(progress, "Console", lambda: console)
    monkeypatch.setattr("rich.progress.get_console", lambda: console)
    tool = run()
    shown = screen.getvalue()
    assert "epoch 2/3  head" in shown
    assert "validation macro-F1" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") > 0  # the cursor is hidden and shown again
    assert tool.progress_bar_callback._bar is None


def test_other_ranks_say_nothing(capsys):
    bar = PhaseProgress()
    bar.disable()
    bar.print("hello")
    assert capsys.readouterr().out == ""
