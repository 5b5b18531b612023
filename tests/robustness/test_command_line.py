"""Any words after `lf`, and any bytes in its configs: an exit code of the documented ones, a message, and no traceback."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lf_lightning import cli
from tests.robustness.conftest import write_config
from tests.robustness.mutation import damaged, told

CODES = {0, 1, 2, 3, 4, 5, 6}
"""As `lf_lightning.errors` and `cli.main` have them; 130 and 143 are interruptions, which do not happen here."""
LIGHT = ["compare", "report", "cache", "init", "doctor", "--help", "--version", "help", "fti", "serv"]
WORDS = [
    *LIGHT, "stats", "verify", "repair", "export", "prune", "--by", "nll", "--top", "-1", "0", "1e9", "--group", "--format",
    "csv", "--out", "--rows", "--responses", "nowhere", "--to", "a.jsonl", "--backend", "os.system", "--config", "odd.yaml",
    "--llm", "openai", "--labels", "--text", "--force", "--traceback", "--allow-imports", "no-name", "--allow-imports=", "-h",
    "", " ", "--", "-", "=", "--=", "\0", "🙂", "é", "[red]", "../..", "*", "**", "[", "a" * 5000, "%s", "{}", "~nobody",
    "--run", "--runs-dir", "--experiment", "--unknown=1", "odd.csv", "odd.jsonl", "--api_key", "sk-abcdefghijklmnop",
]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "odd.csv").write_text("text,label\n" + 'a goal,"=x"\na vote,b\n' * 12, encoding="utf-8")
    (tmp_path / "odd.jsonl").write_text('{"text": 3}\n', encoding="utf-8")
    write_config(tmp_path, "nowhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), max_size=7), st.sampled_from([*LIGHT, ""]))
def test_any_words_end_with_a_documented_code(here: Path, capsys: Any, words: list[str], first: str) -> None:
    code = cli.main([first, *words] if first else words)
    said = capsys.readouterr()
    assert code in CODES, (words, code)
    if "--traceback" not in words:
        assert "Traceback" not in said.err + said.out, words
    assert code == 0 or said.err, words
    assert "sk-abcdefghijklmnop" not in said.err + said.out


@pytest.mark.parametrize("command", ["fit", "test", "score", "reason", "serve", "predict", "validate"])
def test_mutated_lines_of_the_heavy_commands(command: str, here: Path, capsys: Any) -> None:
    chance = random.Random(command)
    failures = []
    for _ in range(2):
        words = [command, "--print_config"] if command in ("fit", "test", "validate") else [command, "--dry-run"]
        words += chance.sample([word for word in WORDS if word not in ("--traceback", "-h", "--help")], 3)
        chance.shuffle(rest := words[1:])
        try:
            code = cli.main([command, *rest])
        except Exception as error:  # whatever is not ours is what this test looks for
            failures.append((words, error))
            continue
        said = capsys.readouterr()
        assert code in CODES, words
        assert "Traceback" not in said.err, words
        assert code == 0 or said.err, words
    assert not failures, told(failures)


def test_damaged_configs_are_told(here: Path, capsys: Any) -> None:
    good = (here / "odd.yaml").read_bytes()
    score = b"source: [odd.csv]\nstore: s\nscorer:\n  class_path: OpenAI\n  init_args: {labels: [a, b], task: multiclass}\n"
    failures, codes = [], []
    for seed in range(8):
        (here / "z.yaml").write_bytes(damaged(good, seed))
        (here / "y.yaml").write_bytes(damaged(score, seed))
        for words in (
            ["fit", "--config", "z.yaml", "--print_config"],
            ["doctor", "--config", "z.yaml"],
            ["score", "--config", "y.yaml", "--dry-run"],
            ["serve", "--model", "nowhere", "--scorer", "y.yaml"],
        )[: 4 if seed % 5 == 0 else 1]:
            try:
                codes.append(cli.main(words))
            except Exception as error:  # whatever is not ours is what this test looks for
                failures.append(((words[0], seed), error))
            assert "Traceback" not in capsys.readouterr().err
    assert not failures, told(failures)
    assert set(codes) <= CODES
    assert 2 in codes


@pytest.mark.parametrize("command", ["fit", "doctor", "score"])
def test_a_config_that_is_none_exits_with_2(command: str, here: Path, capsys: Any) -> None:
    for content in (b"\xff\xfe", b"a: 2026-99-99\n", b"[" * 1200, b"a: [", b"!!python/object/apply:os.system [x]"):
        (here / "z.yaml").write_bytes(content)
        assert cli.main([command, "--config", "z.yaml"]) == 2
        assert capsys.readouterr().err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("words", [[b"compare", b"\xff"], [b"f\xfft"], [b"init", b"\xff.csv"]])
def test_words_that_are_no_text(words: list[bytes]) -> None:
    done = subprocess.run([sys.executable, "-m", "lf_lightning", *words], capture_output=True, check=False)
    assert done.returncode == 2, done.stderr
    assert b"Traceback" not in done.stderr


def test_an_encoder_that_no_hub_could_have_is_reported(here: Path, capsys: Any) -> None:
    (here / "z.yaml").write_text("model: {encoder: ../a/b/c}\nother: {class_path: .x}\n", encoding="utf-8")
    assert cli.main(["doctor", "--config", "z.yaml"]) in (0, 1)
    assert "../a/b/c" in " ".join(capsys.readouterr().out.split())


def test_a_planted_yaml_runs_nothing(here: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = here / "ran"
    (here / "planted_module.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n", encoding="utf-8")
    monkeypatch.syspath_prepend(here)
    good = (here / "odd.yaml").read_text(encoding="utf-8")
    for planted in (
        f"{good}\nx: !!python/object/apply:os.system ['touch {mark}']\n",
        good.replace("model: {", "model: {class_path: planted_module.Model}\nother: {"),
        good.replace("head_epochs", "head: planted_module.Head, head_epochs"),
        good.replace("trainer: {", "trainer: {callbacks: [{class_path: planted_module.Call}], "),
        good.replace("trainer: {", "trainer: {logger: {class_path: subprocess.Popen, init_args: {args: [touch, ran]}}, x: {"),
        good.replace("model: {", f"model: {{loss: {{class_path: os.system, init_args: {{command: touch {mark}}}}}, "),
    ):
        (here / "z.yaml").write_text(planted, encoding="utf-8")
        assert cli.main(["fit", "--config", "z.yaml"]) in CODES - {0}, planted
        assert "Traceback" not in capsys.readouterr().err
    assert not mark.exists()
    assert "planted_module" not in sys.modules


def test_help_of_every_command_brings_no_torch() -> None:
    code = (
        "import sys, io, contextlib\nfrom lf_lightning import cli\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    codes = [cli.main([command, '--help']) for command in cli.COMMANDS] + [cli.main([]), cli.main(['fti'])]\n"
        "sys.exit(codes[:-1] != [0] * (len(codes) - 1) or codes[-1] != 2 or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
