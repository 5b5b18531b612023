from __future__ import annotations

import io

import pytest
from lightning.pytorch import Callback
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


def test_elsewhere_than_on_a_terminal_few_epochs_are_a_line_each(run, capsys):
    run()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [["epoch 1/3", "fold 1/2"], ["epoch 2/3", "head"], ["epoch 3/3", "head"]]
    assert all("loss " in line and "validation macro-F1 " in line for line in lines)


@pytest.mark.parametrize(("stop", "lines", "last"), [(90, 20, "epoch 90/90"), (31, 7, "epoch 31/90")])
def test_many_epochs_are_twenty_lines_and_the_last_is_told(stop, lines, last, system, data, table, trainer, capsys):
    class Stop(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.should_stop = trainer.current_epoch + 1 == stop

    rows = {split: table(8, 3, "multiclass", (), 0) for split in ("train", "validation")}
    tool = trainer([CollectOutputs(), FitCalibrators(), PhaseProgress(), Stop()], enable_progress_bar=True, max_epochs=90)
    tool.fit(system(["a", "b", "c"]), data(rows))
    said = capsys.readouterr().out.splitlines()
    assert len(said) == lines
    assert said[-1].startswith(last)


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
