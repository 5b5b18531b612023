"""Runs by folder, experiment, or pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lf_lightning.errors import ConfigurationError, DataError
from lf_lightning.results.record import FILE_NAME, RunRecord, read_record, run_folders


@dataclass(frozen=True)
class Found:
    """Runs that were found, each once.

    Attributes:
        records: By run folder, oldest first.
        damaged: Why other records could not be read, one line each.
    """

    records: dict[Path, RunRecord]
    damaged: list[str] = field(default_factory=list)


def find_runs(places: Sequence[str | os.PathLike[str]]) -> Found:
    """Returns the runs that some places name.

    Args:
        places: Run folders (`latest` too), their `results.json`, folders of experiments, folders of those, or patterns (`*`).

    Raises:
        ConfigurationError: A place has no run in it or below it.
        DataError: A place is a run folder whose record cannot be read.
    """
    records: dict[Path, RunRecord] = {}
    damaged: list[str] = []
    seen: set[Path] = set()
    for place in places:
        before = len(seen)
        for path in _matches(place):
            folders = list(run_folders(path))
            for folder in folders:
                real = folder.resolve()
                if real in seen:
                    continue
                seen.add(real)
                # A link is shown as what it points to: `latest` is another run tomorrow.
                name = folder.parent / real.name if folder.is_symlink() and real.parent == folder.parent.resolve() else folder
                try:
                    records[name] = read_record(folder)
                except DataError as error:
                    if folders == [path]:
                        raise
                    damaged.append(str(error))
            before -= bool(folders)
        if len(seen) == before:
            raise ConfigurationError(
                f"{os.fspath(place)!r}: there is no run ({FILE_NAME}) in it or in two levels below it. Way out: the folder of "
                "a run, of an experiment (runs/quickstart), or of all (runs); lf test writes the record."
            )
    return Found(dict(sorted(records.items(), key=lambda item: (item[1].time, str(item[0])))), damaged)


def short_names(folders: Sequence[Path]) -> list[str]:
    """Returns what tells run folders apart: the path below the folder that holds all of them, of one run its last two parts.

    Example:
        >>> short_names([Path("runs/a/1"), Path("runs/a/2")]), short_names([Path("runs/a/1")])
        (['1', '2'], ['a/1'])
    """
    if len(folders) == 1:
        return ["/".join(folders[0].parts[-2:])]
    real = [folder.absolute() for folder in folders]
    above = Path(os.path.commonpath([folder.parent for folder in real]))
    return [folder.relative_to(above).as_posix() for folder in real]


def _matches(place: str | os.PathLike[str]) -> list[Path]:
    path = Path(place).expanduser()
    if path.name == FILE_NAME:
        return [path.parent]
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    matches = sorted(Path(match) for match in glob.glob(str(path)))  # noqa: PTH207 (a pattern may be absolute)
    return [match.parent if match.name == FILE_NAME else match for match in matches]
