"""Commands that are one function: its arguments are the options, from the command line and from configs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentParser

from lf_lightning.cli import configs
from lf_lightning.cli.import_limits import limit_imports
from lf_lightning.cli.quoted_texts import quote_texts
from lf_lightning.cli.secret_check import refuse_secrets


def arguments_of(
    function: Callable[..., Any], argv: Sequence[str], prog: str, description: str, switches: Sequence[str]
) -> dict[str, Any]:
    """Returns the arguments of a function, its objects made.

    Args:
        function: Whose signature has the options.
        argv: The words after the command.
        prog: The command, as its help calls it.
        description: What it does, for its help.
        switches: Names of options that need no value, such as `dry_run`; written with `-` or `_`.

    Raises:
        ConfigurationError: There is no such config, a value that cannot be, or a secret in the config.
    """
    limit_imports()
    quote_texts()
    parser = ArgumentParser(prog=prog, description=description, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="A YAML file, or a packaged config by name.")
    parser.add_function_arguments(function, fail_untyped=True, sub_configs=False)
    words, _ = configs.resolve(_spelled(argv, [f"--{name}" for name in switches]))
    given = parser.parse_args(words)
    refuse_secrets("the config", parser.dump(given, skip_validation=True))
    arguments = dict(parser.instantiate(given).as_dict())
    arguments.pop("config")
    return arguments


def _spelled(words: Sequence[str], switches: Sequence[str]) -> list[str]:
    """The command line as the parser wants it."""
    spelled = []
    for given, after in zip(words, [*words[1:], ""], strict=True):
        word = "--help" if given == "--help-all" else given
        word = next((switch for switch in switches if word == switch.replace("_", "-")), word)
        spelled.append(f"{word}=true" if word in switches and after not in ("true", "false") else word)
    return spelled
