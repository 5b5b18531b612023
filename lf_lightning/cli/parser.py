"""The parser of fit, validate, test and predict: wrong keys end in one short message that names the nearest right one."""

from __future__ import annotations

import argparse
import difflib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from jsonargparse import set_parsing_settings
from lightning.pytorch.cli import LightningArgumentParser

from lf_lightning import imports

# Inside allowed packages, what reads or runs code that a config names.
_NEVER = [
    "torch.hub",
    "torch.load",
    "torch.package",
    "torch.serialization",
    "torch.utils.cpp_extension",
    "torch.utils.model_zoo",
]

_UNKNOWN_ARGUMENTS = re.compile(r"unrecognized arguments: (.+)")
_UNKNOWN_KEY = re.compile(r"(?:does not accept option|Option|Key) '([^']+)'")
_UNKNOWN_INIT_ARG = re.compile(r"Problem with given class_path '([^']+)':\s+Option '([^']+)' is not accepted")
_UNKNOWN_CLASS = re.compile(r"module '([^']+)' has no attribute '([^']+)'")
_NO_CLASS_PATH = re.compile(r"Expected a dot import path string: (\S+)")
_SETTINGS_ADVICE = re.compile(r",? denied by the '[^']+' entry of the import path denylist\. Add the import path .*")
_DENIED = re.compile(r"Importing '([^']+)' is not allowed")


def limit_imports() -> None:
    """Lets a config name classes of the allowed packages only; the others are refused before they are imported."""
    set_parsing_settings(import_path_denylist=["*", *_NEVER], import_path_allowlist=list(imports.allowed()))


class CommandParser(LightningArgumentParser):
    """LightningCLI's parser with exact keys and short errors."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A prefix that argparse completes would make a mistyped key pass on the command line and fail in a YAML.
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints the message with the nearest right names, without the usage of all options, and exits with 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        hints = list(dict.fromkeys(_hints(self, message)))
        message = _SETTINGS_ADVICE.sub("", message)
        lines = [f"{self.prog.replace(' [options]', '')}: error: {message}", *(f"hint: {hint}" for hint in hints)]
        print("\n".join(lines), file=sys.stderr)
        self.exit(2)


def _hints(parser: argparse.ArgumentParser, message: str) -> Iterator[str]:
    for denied in _DENIED.finditer(message):
        package = denied[1].split(".", 1)[0]
        yield f"{denied[1]} was not imported. If you trust it: lf --allow-imports {package} ... (or LF_ALLOW_IMPORTS={package})"
    for path, name in _UNKNOWN_INIT_ARG.findall(message):
        yield from _nearest(name, _init_args(path), f"an argument of {path}")
    for module, name in _UNKNOWN_CLASS.findall(message):
        yield from _nearest(name, _public_names(module), f"in {module}")
    for name in _NO_CLASS_PATH.findall(message):
        yield from _nearest(name, _own_classes(), "a class of this package")
    keys = sorted({key for known in _with_subparsers(parser) for key in _keys(known)})
    for text in _UNKNOWN_ARGUMENTS.findall(message):
        for word in text.split():
            if word.startswith("--"):
                yield from _nearest(word[2:].partition("=")[0], keys, "an option", dashes="--")
    if not _UNKNOWN_INIT_ARG.search(message):
        for name in _UNKNOWN_KEY.findall(message):
            yield from _nearest(name, keys, "a key")


def _nearest(name: str, known: Iterable[str], what: str, dashes: str = "") -> Iterator[str]:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    if near:
        yield f"{dashes}{name} is not {what}. Did you mean {' or '.join(dashes + word for word in near)}?"


def _with_subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action.choices, dict):
            yield from (known for known in action.choices.values() if isinstance(known, argparse.ArgumentParser))


def _keys(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from (option[2:] for option in action.option_strings if option.startswith("--"))
        if action.dest and "." in action.dest:
            yield action.dest.split(".", 1)[0]


def _init_args(path: str) -> set[str]:
    # The class was imported when the parser looked at it, so nothing is imported for the sake of a hint.
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    classes = inspect.getmro(found) if inspect.isclass(found) else []
    names = {key for cls in classes if "__init__" in vars(cls) for key in inspect.signature(vars(cls)["__init__"]).parameters}
    return names - {"self", "args", "kwargs"}


def _public_names(module: str) -> list[str]:
    return [name for name in dir(sys.modules.get(module)) if not name.startswith("_")]


def _own_classes() -> set[str]:
    modules = [module for name, module in sys.modules.items() if name.split(".", 1)[0] == "lf_lightning" and module is not None]
    return {name for module in modules for name, value in vars(module).items() if inspect.isclass(value)}
