"""Configs as YAML in which a text is quoted wherever it would be read as something else."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import jsonargparse._formatters
import jsonargparse._loaders_dumpers
import yaml
from jsonargparse import set_dumper

_formatters: Any = jsonargparse._formatters
_loaders: Any = jsonargparse._loaders_dumpers
_import_ruamel = _formatters.import_ruamel


def quote_texts() -> None:
    """Lets every parser write a config that it reads back as it was: `--print_config`, and the config of a run.

    jsonargparse reads more texts as numbers than it quotes, so that a label "1e-3" became the number 0.001; and
    `--print_config=comments` takes quotes away where YAML 1.2 needs none, so that a label "yes" became true.
    """
    set_dumper("yaml", _dump)
    _formatters.import_ruamel = _ruamel_that_keeps_quotes


def _dump(data: Any) -> str:
    text: str = yaml.dump(data, Dumper=_dumper(), **_loaders.dump_yaml_kwargs)
    return text


@cache
def _dumper() -> type[yaml.SafeDumper]:
    """A dumper that quotes what PyYAML, or what jsonargparse's loader, would read as something else."""

    class Dumper(yaml.SafeDumper):
        pass

    for first, known in _loaders.get_yaml_default_loader().yaml_implicit_resolvers.items():
        for tag, pattern in known:
            Dumper.add_implicit_resolver(tag, pattern, [first])
    return Dumper


def _ruamel_that_keeps_quotes(importer: str) -> Any:
    ruamel = _import_ruamel(importer)

    def reader() -> Any:
        made = ruamel.YAML()
        made.preserve_quotes = True
        return made

    return SimpleNamespace(YAML=reader)
