"""The command `lf`: a dispatcher that imports per command, so that help and typing errors answer at once.

Only fit, validate, test and predict import Lightning; nothing on this page imports torch.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from lf_lightning import imports
from lf_lightning.errors import ConfigurationError, LFError

COMMANDS = {
    "fit": "lf_lightning.cli.train:fit",
    "validate": "lf_lightning.cli.train:validate",
    "test": "lf_lightning.cli.train:test",
    "predict": "lf_lightning.cli.train:predict",
    "init": "lf_lightning.cli.init:main",
    "score": "lf_lightning.cli.score:main",
    "reason": "lf_lightning.cli.reason:main",
    "compare": "lf_lightning.cli.compare:main",
    "report": "lf_lightning.cli.report:main",
    "ensemble": "lf_lightning.cli.ensemble:main",
    "serve": "lf_lightning.cli.serve:main",
    "cache": "lf_lightning.cli.cache:main",
    "doctor": "lf_lightning.cli.doctor:main",
}
"""Each command and the function `(arguments) -> exit code` behind it, imported when it is called."""

INTERRUPTED_BY_KEYBOARD = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command of `lf`.

    Args:
        argv: The words after `lf`; None takes them from `sys.argv`, which is never changed (DDP runs it again).

    Returns:
        The exit code: 0, 2 for a wrong command line or config, an error's own `exit_code`, 130 after Ctrl-C, 143 after SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    with_traceback = "--traceback" in words or os.environ.get("LF_TRACEBACK") == "1"
    words = [word for word in words if word != "--traceback"]
    try:
        return _dispatch(words)
    except LFError as error:
        if with_traceback:
            traceback.print_exc()
        else:
            print(f"lf: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("lf: stopped by the keyboard.", file=sys.stderr)
        return INTERRUPTED_BY_KEYBOARD
    except SystemExit as end:  # argparse ends a wrong command line and --help this way
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _dispatch(words: list[str]) -> int:
    from lf_lightning.cli import help_texts

    if not words or words[0] in ("-h", "--help", "help"):
        print(help_texts.OVERVIEW)
        return 0
    if words[0] in ("-V", "--version"):
        from lf_lightning import __version__

        print(f"lf_lightning {__version__}")
        return 0
    words, packages = take_option(words, "--allow-imports")
    command, *rest = words or [""]
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        guess = f" Did you mean: lf {near[0]}?" if near else ""
        raise ConfigurationError(f"there is no command {command!r}.{guess} Commands: {', '.join(COMMANDS)}. Help: lf --help")
    if any(word in ("-h", "--help") for word in rest):
        print(help_texts.of(command))
        return 0
    from lf_lightning.cli.secret_check import refuse_secrets

    refuse_secrets("the command line", " ".join(rest))
    _allow(packages or os.environ.get("LF_ALLOW_IMPORTS", ""))
    return _function(COMMANDS[command])(rest)


def take_option(words: Sequence[str], option: str) -> tuple[list[str], str | None]:
    """Takes `--option VALUE` or `--option=VALUE` out of a command line; given more than once, the values are joined by commas.

    Args:
        words: A command line.
        option: The option with its dashes; `--runs-dir` is also found as `--runs_dir`.

    Returns:
        The other words, and the value, None where the option is absent.

    Raises:
        ConfigurationError: The option stands without a value.

    >>> take_option(["fit", "--run", "a", "-x"], "--run")
    (['fit', '-x'], 'a')
    """
    spellings = (option, "--" + option[2:].replace("-", "_"))
    kept: list[str] = []
    values: list[str] = []
    remaining = iter(words)
    for word in remaining:
        name, equals, value = word.partition("=")
        if name not in spellings:
            kept.append(word)
            continue
        if not equals:
            value = next(remaining, "")
        if not value or value.startswith("--"):
            raise ConfigurationError(f"{option} needs a value, for example {option}=NAME.")
        values.append(value)
    return kept, ",".join(values) if values else None


def _allow(packages: str) -> None:
    names = [name.strip() for name in packages.split(",") if name.strip()]
    for name in names:
        if not name.isidentifier():
            raise ConfigurationError(f"--allow-imports {name!r}: expected names of top-level packages, separated by commas.")
    if names:
        imports.allow(names)
        if (
            folder := str(Path.cwd())
        ) not in sys.path:  # the console script leaves out the folder that a user's own module lies in
            sys.path.insert(0, folder)


def _function(path: str) -> Callable[[Sequence[str]], int]:
    module, _, name = path.partition(":")
    function: Callable[[Sequence[str]], int] = getattr(importlib.import_module(module), name)
    return function
