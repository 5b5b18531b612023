"""What to say to a mistyped key: the parser's own message, shortened, and the nearest right name."""

from __future__ import annotations

import argparse
import difflib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator

_UNKNOWN_ARGUMENTS = re.compile(r"unrecognized arguments: (.+)")
_UNKNOWN_KEY = re.compile(r"(?:does not accept option|Option|Key) '([^']+)'")
_UNKNOWN_INIT_ARG = re.compile(r"Problem with given class_path '([^']+)':\s+Option '([^']+)' is not accepted")
_UNKNOWN_CLASS = re.compile(r"module '([^']+)' has no attribute '([^']+)'")
_NO_CLASS_PATH = re.compile(r"Expected a dot import path string: (\S+)")
_NO_TEXT = re.compile(r"Expected a <class 'str'>\. Got value: (?:True|False|[-+.\d])")
_SETTINGS_ADVICE = re.compile(r",? denied by the '[^']+' entry of the import path denylist\. Add the import path .*")
_DENIED = re.compile(r"Importing '([^']+)' is not allowed")


def complaint(parser: argparse.ArgumentParser, message: str) -> str:
    """Returns the text of a parse error, without the usage of all options, with a line for each hint.

    Args:
        parser: The parser that complains.
        message: What jsonargparse says.
    """
    hints = list(dict.fromkeys(_hints(parser, message)))
    message = _SETTINGS_ADVICE.sub("", message)
    return "\n".join([f"{parser.prog.replace(' [options]', '')}: error: {message}", *(f"hint: {hint}" for hint in hints)])


def _hints(parser: argparse.ArgumentParser, message: str) -> Iterator[str]:
    for denied in _DENIED.finditer(message):
        package = denied[1].split(".", 1)[0]
        yield f"{denied[1]} was not imported. If you trust it: lf --allow-imports {package} ... (or LF_ALLOW_IMPORTS={package})"
    if _NO_TEXT.search(message):
        yield 'YAML reads 007, 1e-3, 3.0, yes, no, on and off as numbers, true and false. As a text, put it in quotes: "007"'
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
