"""Finding a config: a file of the working folder first, else the packaged one of that name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lf_lightning.cli.secret_check import refuse_secrets
from lf_lightning.errors import ConfigurationError
from lf_lightning.packaged import configs_folder


def packaged_names() -> list[str]:
    """Returns the packaged configs, such as `ag_news.yaml` and `debug/overfit.yaml`, sorted."""
    folder = configs_folder()
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml"))


def find(name: str) -> Path:
    """Returns the file of a config.

    Args:
        name: A path, seen from the working folder; or a packaged config's name, with or without `configs/` and `.yaml`.

    Raises:
        ConfigurationError: There is neither; the message lists the packaged ones and the nearest name.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    packaged = packaged_names()
    wanted = path.as_posix().removeprefix("./").removeprefix("configs/")
    for candidate in (wanted, f"{wanted}.yaml"):
        if candidate in packaged:
            return configs_folder() / candidate
    here = [file.name for file in Path().glob("*.yaml")]
    near = difflib.get_close_matches(f"{wanted.removesuffix('.yaml')}.yaml", [*packaged, *here], n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigurationError(
        f"--config {name!r}: no such file in {Path.cwd()}, and no packaged config of that name.{guess} "
        f"Packaged: {', '.join(packaged) or 'none'}."
    )


def text_of(file: Path) -> str:
    """Returns the text of a config.

    Raises:
        ConfigurationError: It cannot be read, or is no UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{str(file)!r} cannot be read: {error}. Way out: a YAML file in UTF-8.") from error


def tree_of(file: Path) -> Any:
    """Returns what a config says, as plain values.

    Raises:
        ConfigurationError: It cannot be read, or is no YAML.
    """
    import yaml

    try:
        return yaml.safe_load(text_of(file))
    # The others: a date that is none, a number of too many digits, brackets without end.
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"{str(file)!r} is not YAML: {' '.join(str(error).split())[:300]}.") from error


def resolve(words: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Puts files in the place of the names that `--config` gives, and reads each for secrets.

    Args:
        words: A command line; `-c` and `--config=NAME` are understood too.

    Returns:
        The command line with `--config FILE`, and the files in order.

    Raises:
        ConfigurationError: A config is not found, or holds something like a key.
    """
    resolved: list[str] = []
    files: list[Path] = []
    remaining = iter(words)
    for word in remaining:
        option, equals, value = word.partition("=")
        if option not in ("-c", "--config"):
            resolved.append(word)
            continue
        file = find(value if equals else next(remaining, ""))
        refuse_secrets(str(file), text_of(file))
        files.append(file)
        resolved += ["--config", str(file)]
    return resolved, files
