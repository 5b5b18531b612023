"""The parser of fit, validate, test and predict: exact keys, short errors, no defaults of a class that was replaced."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import jsonargparse._typehints
from lightning.pytorch.cli import LightningArgumentParser

from lf_lightning.cli.hints import complaint

_typehints: Any = jsonargparse._typehints  # its functions have no annotations
_discard_what_the_new_class_lacks = _typehints.discard_init_args_on_class_path_change


def _discard_defaults_too(parser_or_action: Any, replaced: Any, value: Any) -> None:
    # jsonargparse hands the arguments of a replaced class on to the new one where names agree. What the user chose may well
    # be meant for both; a default of the replaced class is nobody's choice, and the new class has its own.
    if replaced and replaced.get("init_args") and replaced["class_path"] != value["class_path"]:
        defaults = _typehints.ActionTypeHint.get_class_parser(replaced["class_path"]).get_defaults()
        given = replaced["init_args"]
        for name in [name for name in vars(given) if name in defaults and given[name] == defaults[name]]:
            given.pop(name)
    _discard_what_the_new_class_lacks(parser_or_action, replaced, value)


_typehints.discard_init_args_on_class_path_change = _discard_defaults_too


class CommandParser(LightningArgumentParser):
    """LightningCLI's parser, without completion of prefixes and without the usage of all options after an error."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A prefix that argparse completes would make a mistyped key pass on the command line and fail in a YAML.
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints the message with the nearest right names and exits with 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        print(complaint(self, message), file=sys.stderr)
        self.exit(2)
