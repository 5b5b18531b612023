"""Files inside installed packages, named `package:NAME/PATH`, so that configs can name a model or texts that pip brought."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from lf_lightning.errors import ConfigurationError, MissingDependencyError

PREFIX = "package:"


def locate(name: str, *, extra: str = "quickstart") -> str:
    """Returns the path behind `package:NAME/PATH`, and any other name unchanged.

    The package is found, never imported.

    Args:
        name: A path, a hub name, or `package:NAME/PATH`.
        extra: The extra of this project that brings the package, for the error message.

    Raises:
        MissingDependencyError: The package is not installed.
        ConfigurationError: The package has no such file.
    """
    if not name.startswith(PREFIX):
        return name
    package, _, inside = name[len(PREFIX) :].partition("/")
    if package == "lf_lightning" and inside.startswith("configs/"):
        return _existing(name, configs_folder().parent, inside)
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError.of(package, extra)
    return _existing(name, Path(next(iter(spec.submodule_search_locations))), inside)


def configs_folder() -> Path:
    """Returns the folder of the configs that come with this package: inside the wheel, or `configs/` of a source tree."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def _existing(name: str, root: Path, inside: str) -> str:
    path = (root / inside).resolve()
    if not path.is_relative_to(root.resolve()) or not path.exists():
        raise ConfigurationError(f"{name!r}: there is no {inside!r} in {root}.")
    return str(path)
