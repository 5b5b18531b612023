from __future__ import annotations

import subprocess
import sys
import time

import pytest

from lf_lightning import __version__, cli
from lf_lightning.errors import DataError, LFError

HELPS = [[], ["--help"], ["--version"], *([command, "--help"] for command in cli.COMMANDS)]


@pytest.mark.parametrize("words", HELPS, ids=lambda words: " ".join(words) or "nothing")
def test_help_answers(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert ("usage: lf" in out) != (words == ["--version"])
    assert "{" not in out  # no place of a template was left open


def test_help_of_fit_is_short_and_names_the_full_one(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["fit", "--help"])
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 40
    assert "--help-all" in out
    assert out.count("\n  lf fit ") == 3


def test_help_imports_neither_torch_nor_lightning() -> None:
    code = (
        "import sys; from lf_lightning.cli import main\n"
        f"assert not any(main(words) for words in {HELPS!r})\n"
        "assert main(['fti']) == 2\n"
        "heavy = {'torch', 'lightning', 'jsonargparse', 'pandas', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_help_is_several_times_faster_than_importing_torch() -> None:
    def seconds(*arguments: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        return time.perf_counter() - start

    help_page = min(seconds("-m", "lf_lightning", "fit", "--help") for _ in range(3))
    assert help_page < seconds("-c", "import torch") / 3


def test_importing_the_package_is_light_and_its_names_are_there() -> None:
    code = "import sys, lf_lightning; assert 'FusionMLP' in dir(lf_lightning); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["--version"])
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(("typed", "meant"), [("fti", "fit"), ("tets", "test"), ("docter", "doctor")])
def test_unknown_command_names_the_nearest(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([typed]) == 2
    assert f"Did you mean: lf {meant}?" in capsys.readouterr().err


def _raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(_: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_function", lambda _: run)


def test_own_errors_print_one_line_and_exit_with_their_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _raising(monkeypatch, DataError("label 'x' is unknown"))
    assert cli.main(["doctor"]) == DataError.exit_code
    assert capsys.readouterr().err == "lf: label 'x' is unknown\n"


@pytest.mark.parametrize("by_option", [True, False])
def test_traceback_on_request(by_option: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _raising(monkeypatch, LFError("broken"))
    if not by_option:
        monkeypatch.setenv("LF_TRACEBACK", "1")
    assert cli.main(["doctor", "--traceback"] if by_option else ["doctor"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_keyboard_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    _raising(monkeypatch, KeyboardInterrupt())
    assert cli.main(["doctor"]) == 130


def test_a_programming_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    _raising(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor"])


def test_command_line_is_not_edited(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["lf", "doctor", "--allow-imports", "mine", "--traceback"]
    monkeypatch.setattr(sys, "argv", list(words))
    seen: list[object] = []
    monkeypatch.setattr(cli, "_function", lambda _: lambda rest: seen.append(rest) or 0)
    monkeypatch.setattr(cli, "_allow", seen.append)
    assert cli.main() == 0
    assert sys.argv == words
    assert seen == ["mine", []]


@pytest.mark.parametrize("words", [["fit", "--run"], ["fit", "--run", "--config"], ["fit", "--run="]])
def test_an_option_without_a_value_is_refused(words: list[str]) -> None:
    with pytest.raises(LFError, match="--run needs a value"):
        cli.take_option(words, "--run")


def test_take_option_knows_both_spellings_and_repeats() -> None:
    words, value = cli.take_option(["--allow_imports=a", "x", "--allow-imports", "b"], "--allow-imports")
    assert (words, value) == (["x"], "a,b")


def test_allow_imports_takes_top_level_names_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--allow-imports", "a.b"]) == 2
    assert "'a.b'" in capsys.readouterr().err
