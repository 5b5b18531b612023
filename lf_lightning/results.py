"""Run records: one `results.json` in each run folder, written in one step and cheap to read by the thousand."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, cast

from lf_lightning.errors import ConfigurationError, DataError

SCHEMA = 1
"""Version of the record's layout; a record of a greater one is refused, missing fields of a smaller one take their defaults."""

FILE_NAME = "results.json"

PACKAGES = ("lf-lightning", "torch", "lightning", "transformers", "torchmetrics", "numpy", "scikit-learn", "pandas", "pyarrow")


@dataclass(frozen=True)
class RunRecord:
    """What a run did, on what, and what came out. Plain values only.

    Attributes:
        experiment: Name of the experiment.
        time: When the record was made, ISO 8601, UTC.
        system: Class name of the system.
        task: `multiclass` or `multilabel`.
        labels: The K label names in order.
        rows: By split: `rows`, and `labelled` ones among them.
        dataset_fingerprint: By split: identifies its texts and labels.
        scores: Fingerprint of each scorer by name; None where the data does not tell.
        seeds: By what they fix: `model`, `data`, `global`.
        environment: `python`, `system`, `cpu`, `cpus`, `gpu`, `packages`; no names of machines or people, no paths.
        commit: Of the repository that the run was started in, None if there is none.
        dirty: Whether tracked files differed from it.
        metrics: By split, then by name (`system`, then each member): `metrics.evaluate` and `rows`.
        intervals: By metric: `value`, `low`, `high` of the system on test rows, bootstrap, 95 %.
        best_member: By metric (`accuracy`, `macro_f1`): the member that was best in it; empty without members.
        chosen_by: The split on which `best_member` was best: `validation`, or `test` if the run knew no validation figures.
        tests: By member: `rows` that both have an opinion on; `accuracy` (`difference`, `low`, `high`, McNemar's `p`,
            `system_only`, `member_only`) and `macro_f1` (`difference`, `low`, `high`, `p` of the paired bootstrap).
        calibrator: Class name and what its fit reported.
        cost_usd: What the run itself paid. Training reads stored scores, so it is 0.
        files: What lies in the run folder, relative to it.
        schema: See `SCHEMA`.
    """

    experiment: str
    time: str
    system: str
    task: str
    labels: list[str]
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    dataset_fingerprint: dict[str, str] = field(default_factory=dict)
    scores: dict[str, str | None] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    commit: str | None = None
    dirty: bool | None = None
    metrics: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    intervals: dict[str, dict[str, float]] = field(default_factory=dict)
    best_member: dict[str, str] = field(default_factory=dict)
    chosen_by: str | None = None
    tests: dict[str, dict[str, Any]] = field(default_factory=dict)
    calibrator: dict[str, Any] = field(default_factory=dict)
    cost_usd: float = 0.0
    files: list[str] = field(default_factory=list)
    schema: int = SCHEMA


class ResultsManager:
    """Reads and writes the records of one run, or lists those of many.

    Args:
        folder: A run folder for `write` and `read`; for `list` also a folder of experiments, or of one experiment's runs.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def write(self, record: RunRecord) -> Path:
        """Writes the record of the run folder, in the place of an earlier one, and returns its path.

        Raises:
            ConfigurationError: A value is NaN, infinite or not plain, or the folder cannot be written to.
        """
        path = self.folder / FILE_NAME
        try:
            text = json.dumps(asdict(record), indent=1, ensure_ascii=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"record: {error}. Way out: plain, finite values; leave out what there is no number for."
            ) from error
        try:
            with atomic_file(path) as file:
                file.write(text.encode("ascii") + b"\n")
        except OSError as error:
            raise ConfigurationError(
                f"{path} cannot be written: {error.strerror}. Way out: a run folder of your own."
            ) from error
        return path

    def read(self) -> RunRecord:
        """Returns the record of the run folder.

        Raises:
            DataError: There is none, it is damaged, or a later version of this package wrote it.
        """
        return _read(self.folder / FILE_NAME)

    def list(self) -> dict[Path, RunRecord]:
        """Returns the records in the folder and up to two levels below it by run folder, oldest first.

        Damaged records, and those of a later version, are left out: one broken run must not hide the others. Links (`latest`)
        are not followed.
        """
        found: dict[Path, RunRecord] = {}
        for folder in _run_folders(self.folder, 2):
            with suppress(DataError):
                found[folder] = _read(folder / FILE_NAME)
        return dict(sorted(found.items(), key=lambda item: (item[1].time, str(item[0]))))


def environment() -> dict[str, Any]:
    """Returns versions and kind of machine; no names of machines or people, no paths, no environment variables."""
    packages = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            packages[package] = version(package)
    torch = sys.modules.get("torch")
    gpus = torch.cuda.device_count() if torch is not None and torch.cuda.is_available() else 0
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch is not None and gpus else None,
        "gpus": gpus,
        "packages": packages,
    }


def git_state() -> tuple[str | None, bool | None]:
    """Returns the commit of the repository around the working folder and whether tracked files differ; None without one."""
    commit = _git("rev-parse", "HEAD")
    changes = None if commit is None else _git("status", "--porcelain", "--untracked-files=no")
    return commit, None if changes is None else changes != ""


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Gives a file to write that takes the place of `path` when the block ends; an error changes nothing. Makes the folder.

    Raises:
        OSError: The file system refused.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            yield cast("BinaryIO", file)
            file.flush()
            os.fsync(file.fileno())
            file.close()
            temporary.chmod(0o666 & ~_umask())  # a temporary file is its owner's alone
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def _read(path: Path) -> RunRecord:
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. Way out: lf test writes it at its end.") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}. Way out: lf test on that run writes it anew.") from error
    schema = values.get("schema") if isinstance(values, Mapping) else None
    if not isinstance(schema, int):
        raise DataError(f"{path} is no run record: it has no `schema`. Way out: lf test on that run writes one.")
    if schema > SCHEMA:
        raise DataError(f"{path} has schema {schema}, this version reads up to {SCHEMA}. Way out: a newer lf-lightning.")
    known = {f.name for f in fields(RunRecord)}
    try:
        return RunRecord(**{name: value for name, value in values.items() if name in known})
    except TypeError as error:
        raise DataError(f"{path} is damaged: {error}. Way out: lf test on that run writes it anew.") from error


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    below: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == FILE_NAME:
                    yield folder
                    return
                if depth and entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    below.append(Path(entry.path))
    except OSError:
        return
    for path in below:
        yield from _run_folders(path, depth - 1)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _cpu_model() -> str | None:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True, timeout=10)  # noqa: S603, S607
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
