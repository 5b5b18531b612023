"""The run record: what `results.json` holds, and how it is read and written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from os import scandir
from pathlib import Path
from typing import Any

from lf_lightning.errors import ConfigurationError, DataError
from lf_lightning.results.files import atomic_file
from lf_lightning.results.record_check import misfit

SCHEMA = 2
"""Version of the record's layout; a record of a greater one is refused, missing fields of a smaller one take their defaults."""

FILE_NAME = "results.json"
CONFIG = "config.yaml"


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
        score_costs: By split, then by scorer: `texts` (distinct ones that it was asked about), `input_tokens`, `output_tokens`
            and `cost_usd`, each None unless the store notes it of every one of them.
        seeds: By what they fix: `model`, `data`, `global`.
        config: The run's `config.yaml`, or the hyper-parameters of a system that was fitted without one.
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
        decision: Class name of the decision rule, and what was fitted, such as `thresholds`; empty without one.
        reliability: The system on test rows, `before` and `after` calibration: `ece`, and the columns of
            `metrics.reliability_curve`.
        deferral: By policy, `cost`, `accuracy` and `macro_f1` of the points of its `deferral.Curve`; empty without any.
        cost_usd: What the run itself paid. Training reads stored scores, so it is 0; what those cost is in `score_costs`.
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
    score_costs: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    commit: str | None = None
    dirty: bool | None = None
    metrics: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    intervals: dict[str, dict[str, float]] = field(default_factory=dict)
    best_member: dict[str, str] = field(default_factory=dict)
    chosen_by: str | None = None
    tests: dict[str, dict[str, Any]] = field(default_factory=dict)
    calibrator: dict[str, Any] = field(default_factory=dict)
    decision: dict[str, Any] = field(default_factory=dict)
    reliability: dict[str, dict[str, Any]] = field(default_factory=dict)
    deferral: dict[str, Any] = field(default_factory=dict)
    cost_usd: float = 0.0
    files: list[str] = field(default_factory=list)
    schema: int = SCHEMA

    @property
    def score_cost_usd(self) -> float | None:
        """What all scores of the run cost, None where that is not known of every one of them."""
        costs = [scorer["cost_usd"] for split in self.score_costs.values() for scorer in split.values()]
        return None if not costs or None in costs else float(sum(costs))


_KNOWN = frozenset(f.name for f in fields(RunRecord))


def write_record(folder: Path, record: RunRecord) -> Path:
    """Writes the record of a run folder, in the place of an earlier one, and returns its path.

    Raises:
        ConfigurationError: A value is NaN, infinite or not plain, or the folder cannot be written to.
    """
    path = folder / FILE_NAME
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
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}. Way out: a run folder of your own.") from error
    return path


def read_record(folder: Path) -> RunRecord:
    """Returns the record of a run folder.

    Raises:
        DataError: There is none, it is damaged, or a later version of this package wrote it.
    """
    path = folder / FILE_NAME
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. Way out: lf test writes it at its end.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}. Way out: lf test on that run writes it anew.") from error
    schema = values.get("schema") if isinstance(values, Mapping) else None
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise DataError(f"{path} is no run record: it has no `schema`. Way out: lf test on that run writes one.")
    if schema > SCHEMA:
        raise DataError(f"{path} has schema {schema}, this version reads up to {SCHEMA}. Way out: a newer lf-lightning.")
    known = {name: value for name, value in values.items() if name in _KNOWN}
    try:
        if problem := misfit(known):
            raise TypeError(problem)
        return RunRecord(**known)
    except TypeError as error:
        raise DataError(f"{path} is damaged: {error}. Way out: lf test on that run writes it anew.") from error


def run_folders(folder: Path, depth: int = 2) -> Iterator[Path]:
    """Yields the folders with a record in `folder` and up to `depth` levels below it; links (`latest`) are not followed."""
    below: list[Path] = []
    try:
        with scandir(folder) as entries:
            for entry in entries:
                if entry.name == FILE_NAME:
                    yield folder
                    return
                if depth and entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    below.append(Path(entry.path))
    except OSError:
        return
    for path in below:
        yield from run_folders(path, depth - 1)
