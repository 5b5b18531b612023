"""Run folders: `runs/<experiment>/<time>/`, one for each fit, the same one for all processes of a fit.

A later `lf test` finds the newest one and writes into it.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

from lf_lightning.errors import ConfigurationError

RUN_VARIABLE = "LF_RUN_DIR"
"""Set by the process that chose the folder; the other processes of a DDP run inherit it and choose none themselves."""

LATEST = "latest"
CHECKPOINTS = "checkpoints"
KEYWORDS = ("best", "last")

_NAME = re.compile(r"(\d{8}-\d{6})(?:-(\d+))?")


def process_rank() -> int | None:
    """Returns this process's rank as its launcher tells it, None in a process that nothing launched."""
    for variable in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if os.environ.get(variable, "").isdigit():
            return int(os.environ[variable])
    return None


def create(runs_dir: Path, experiment: str) -> Path:
    """Makes a new run folder, which no other run has or gets, and points `latest` at it.

    Args:
        runs_dir: The folder of all experiments.
        experiment: One plain name.

    Raises:
        ConfigurationError: The name is not plain, or the folder cannot be made.
    """
    _check_experiment(experiment)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    counter = 1
    while True:
        run = runs_dir / experiment / (stamp if counter == 1 else f"{stamp}-{counter}")
        try:
            run.mkdir(parents=True)
            break
        except FileExistsError:
            if not run.is_dir():
                raise _unwritable(runs_dir, f"{run} exists and is no folder") from None
            counter += 1
        except OSError as error:
            raise _unwritable(runs_dir, error.strerror or str(error)) from error
    _point_latest_at(run)
    return run


def open_existing(folder: Path) -> Path:
    """Returns a run folder that `--run` names, made if it is new.

    Raises:
        ConfigurationError: It cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error.strerror or str(error)) from error
    if not os.access(folder, os.W_OK):
        raise _unwritable(folder, "permission denied")
    return folder


def discard_empty(run: Path) -> None:
    """Removes a run folder that nothing was written into, and points `latest` at the run before it."""
    if any(run.iterdir()):
        return
    run.rmdir()
    pointer = run.parent / LATEST
    if not pointer.is_symlink() or pointer.exists():
        return
    pointer.unlink()
    before = listed(run.parent.parent, run.parent.name)
    if before:
        _point_latest_at(before[-1])


def listed(runs_dir: Path, experiment: str) -> list[Path]:
    """Returns the run folders of an experiment, oldest first."""
    _check_experiment(experiment)
    folder = runs_dir / experiment
    runs = [path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()] if folder.is_dir() else []
    return sorted(runs, key=_age)


def newest(runs_dir: Path, experiment: str) -> Path:
    """Returns the newest run folder of an experiment.

    Raises:
        ConfigurationError: There is none; the message lists the experiments that have runs.
    """
    runs = listed(runs_dir, experiment)
    if runs:
        return runs[-1]
    folders = sorted(path.name for path in runs_dir.iterdir() if path.is_dir()) if runs_dir.is_dir() else []
    others = [name for name in folders if listed(runs_dir, name)]
    raise ConfigurationError(
        f"there is no run of the experiment {experiment!r} in {runs_dir}. "
        f"Experiments with runs there: {', '.join(others) or 'none'}. "
        "Way out: lf fit first, or name one by --experiment NAME, --runs-dir FOLDER or --run FOLDER."
    )


def checkpoint(run: Path, keyword: str) -> Path:
    """Returns `checkpoints/best.ckpt` or `checkpoints/last.ckpt` of a run.

    Raises:
        ConfigurationError: The run has no such checkpoint; the message lists its runs beside it that have one.
    """
    path = run / CHECKPOINTS / f"{keyword}.ckpt"
    if path.exists():
        return path
    with_it = sorted(other.parent.parent for other in run.parent.glob(f"*/{CHECKPOINTS}/{keyword}.ckpt"))
    names = ", ".join(str(other) for other in with_it if other.name != LATEST) or "none"
    raise ConfigurationError(
        f"--ckpt_path {keyword}: {path} does not exist. Runs of this experiment that have one: {names}. "
        "Way out: --run FOLDER, --ckpt_path FILE, or lf fit again."
    )


def run_of_checkpoint(path: Path) -> Path | None:
    """Returns the run folder that a checkpoint file lies in, None if it lies in none."""
    folder = path.resolve().parent
    return folder.parent if folder.name == CHECKPOINTS else None


def _check_experiment(experiment: str) -> None:
    if not experiment or experiment in (".", "..", LATEST) or "/" in experiment or os.sep in experiment:
        raise ConfigurationError(f"--experiment {experiment!r}: expected one plain name, such as `ag_news`.")


def _age(run: Path) -> tuple[str, int]:
    match = _NAME.fullmatch(run.name)
    assert match is not None
    return match[1], int(match[2] or 1)


def _point_latest_at(run: Path) -> None:
    pointer = run.parent / LATEST
    fresh = run.parent / f".{LATEST}-{os.getpid()}"
    try:
        fresh.symlink_to(run.name, target_is_directory=True)
        fresh.replace(pointer)
    except OSError:  # a file system without links: the pointer is for people only, `newest` reads the names
        fresh.unlink(missing_ok=True)
        (run.parent / f"{LATEST}.txt").write_text(run.name + "\n", encoding="utf-8")


def _unwritable(folder: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"the run folder in {folder} cannot be made: {reason}. Way out: --runs-dir FOLDER that can be written to."
    )
