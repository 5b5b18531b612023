"""`lf serve`: a fitted system as an HTTP service."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from jsonargparse import ArgumentParser

from lf_lightning.cli import configs, take_option
from lf_lightning.cli.import_limits import limit_imports
from lf_lightning.cli.secret_check import refuse_secrets
from lf_lightning.errors import ConfigurationError, MissingDependencyError
from lf_lightning.scoring.base import Scorer


def main(argv: Sequence[str]) -> int:
    """`lf serve --model FOLDER [--scorer CONFIG --llm-budget SHARE] [any argument of serving.serve]`.

    Args:
        argv: The words after `lf serve`.

    Returns:
        0 once it was told to stop.
    """
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        if find_spec(package) is None:
            raise MissingDependencyError.of(package, "serve")
    from lf_lightning.serving.server import serve

    limit_imports()
    words, scorers = take_option(argv, "--scorer")
    parser = ArgumentParser(prog="lf serve", description="Serve a fitted system over HTTP.", allow_abbrev=False)
    parser.add_function_arguments(serve, fail_untyped=True, skip={"scorers"})
    arguments = parser.parse_args([_spelled(word) for word in words]).as_dict()
    serve(**arguments, scorers=[_scorer(name) for name in (scorers or "").split(",") if name])
    return 0


def _spelled(word: str) -> str:
    """An option as the parser has it: `--llm-budget` is `--llm_budget`."""
    option, equals, value = word.partition("=")
    option = {"--help-all": "--help"}.get(option, option)
    return word if not option.startswith("--") else option[:2] + option[2:].replace("-", "_") + equals + value


def _scorer(name: str) -> Scorer:
    """The scorer of a config as `lf score` has it; where its texts come from and go to is not read."""
    file = configs.find(name)
    refuse_secrets(str(file), configs.text_of(file))
    content = configs.tree_of(file)
    if not isinstance(content, dict) or "scorer" not in content:
        raise ConfigurationError(
            f"--scorer {name!r} has no scorer. Way out: a config as for lf score, with scorer: at its top."
        )
    parser = ArgumentParser(prog="lf serve", exit_on_error=True)
    parser.add_argument("--scorer", type=Scorer, required=True)
    found: Scorer = parser.instantiate(parser.parse_object({"scorer": content["scorer"]})).scorer
    return found
