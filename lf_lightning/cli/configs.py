"""Finding a config: a file of the working folder first, else the packaged one of that name."""

from __future__ import annotations

import difflib
from pathlib import Path

from lf_lightning.errors import ConfigurationError


def packaged_folder() -> Path:
    """Returns the folder of the configs that come with the package: inside the wheel, or `configs/` of a source tree."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def packaged_names() -> list[str]:
    """Returns the packaged configs, such as `ag_news.yaml` and `debug/overfit.yaml`, sorted."""
    folder = packaged_folder()
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
            return packaged_folder() / candidate
    here = [file.name for file in Path().glob("*.yaml")]
    near = difflib.get_close_matches(f"{wanted.removesuffix('.yaml')}.yaml", [*packaged, *here], n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigurationError(
        f"--config {name!r}: no such file in {Path.cwd()}, and no packaged config of that name.{guess} "
        f"Packaged: {', '.join(packaged) or 'none'}."
    )
