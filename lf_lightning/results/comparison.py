"""Runs against each other: ranked by a measure, with intervals, paired tests, and what differs in their configs."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from lf_lightning.errors import ConfigurationError, DataError
from lf_lightning.results.configs import differing, settings, without_seeds
from lf_lightning.results.finding import find_runs, short_names
from lf_lightning.results.measures import LOWER_IS_BETTER, MEASURES, check_measure, resampled
from lf_lightning.results.predictions import SYSTEM, Predictions, read_predictions
from lf_lightning.results.record import RunRecord

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

LEVEL = 0.95


@dataclass(frozen=True)
class Standing:
    """A run, or the runs of one config under several seeds, as ranked.

    Attributes:
        name: What tells it from the others.
        folders: Its run folders, oldest first.
        figures: All measures on test rows, mean over its runs.
        sd: Standard deviation of the measure over its runs; None of one run.
        interval: `low`, `high` of the measure over test rows, 95 % bootstrap; None where the run kept no predictions.
        against: The test against the other run: `difference`, `low`, `high`, `p` of the paired bootstrap, and of single runs
            `mcnemar_p`, `only` and `other_only` (rows that only this one, only the other has right). Each p is corrected by
            Holm's method over the runs shown. None for the other run itself, and where there is nothing to test with.
        cost_usd: What the scores of one run cost, mean; None where it is not known.
    """

    name: str
    folders: tuple[Path, ...]
    figures: dict[str, float]
    sd: float | None
    interval: tuple[float, float] | None
    against: dict[str, float] | None
    cost_usd: float | None

    @property
    def seeds(self) -> int:
        """How many runs it is."""
        return len(self.folders)


@dataclass(frozen=True)
class Comparison:
    """Runs on the same test rows.

    Attributes:
        by: The measure.
        standings: The first so many, best first, and the one that they were tested against.
        other: Name of the one that the others were tested against.
        total: How many runs or groups were ranked.
        rows: Test rows.
        labels: The K label names.
        task: `multiclass` or `multilabel`.
        differs: What differs in the configs: by key, one value for each of `standings`.
        notes: What the reader should know, a sentence each.
    """

    by: str
    standings: list[Standing]
    other: str
    total: int
    rows: int
    labels: list[str]
    task: str
    differs: dict[str, list[str]]
    notes: list[str]

    def frame(self) -> pd.DataFrame:
        """Returns it as a table; see `ResultsManager.compare`."""
        import pandas as pd

        lines: list[dict[str, Any]] = []
        for number, one in enumerate(self.standings):
            test = one.against or {}
            low, high = one.interval or (None, None)
            lines.append(
                {
                    "run": one.name,
                    "value": one.figures.get(self.by),
                    "low": low,
                    "high": high,
                    "sd": one.sd,
                    "seeds": one.seeds,
                    "difference": test.get("difference"),
                    "difference_low": test.get("low"),
                    "difference_high": test.get("high"),
                    "p": test.get("p"),
                    "mcnemar_p": test.get("mcnemar_p"),
                    **{measure: one.figures.get(measure) for measure in MEASURES},
                    "cost_usd": one.cost_usd,
                    **{key: values[number] for key, values in self.differs.items()},
                }
            )
        numbers = ["value", "low", "high", "sd", "difference", "difference_low", "difference_high", "p", "mcnemar_p"]
        return pd.DataFrame(lines).set_index("run").astype(dict.fromkeys([*numbers, *MEASURES, "cost_usd"], "float64"))


def compare_runs(
    records: Mapping[Path, RunRecord],
    by: str = "macro_f1",
    against: str | os.PathLike[str] | None = None,
    top: int | None = None,
    group: bool = False,
) -> Comparison:
    """Ranks runs by a measure of their test rows, and tests those shown against the best or another one.

    Args:
        records: By run folder.
        by: A measure.
        against: Run folder, whether or not among `records`; None: the best.
        top: How many to show and test; None: all.
        group: Take runs that differ in seeds only as one.

    Raises:
        ConfigurationError: No run, an unknown measure, or runs with different labels or test rows.
    """
    check_measure(by)
    if top is not None and top < 1:
        raise ConfigurationError(f"top={top}: give at least 1.")
    records, other = _with_other(records, against)
    tested = {folder: record for folder, record in records.items() if by in record.metrics.get("test", {}).get(SYSTEM, {})}
    if not tested:
        raise ConfigurationError(f"none of the {len(records)} runs has {by} on test rows. Way out: lf test, or another --by.")
    check_same_rows(tested)
    told: dict[Path, Mapping[str, Any]] = {}
    groups = _groups(tested, told) if group else [(folder,) for folder in tested]
    ranked = sorted(groups, key=lambda one: (_mean(one, tested, by) * (1 if by in LOWER_IS_BETTER else -1), str(one[0])))
    reference = ranked[0] if other is None else next((one for one in ranked if other in one), None)
    if reference is None:
        raise ConfigurationError(
            f"--against {os.fspath(against or '')!r} has no {by} on test rows. Way out: lf test, or another --by."
        )
    shown = ranked[:top]
    if reference not in shown:
        shown.append(reference)
    told |= {folder: settings(tested[folder], folder) for one in shown for folder in one if folder not in told}
    notes = []
    if len(tested) < len(records):
        notes.append(f"{len(records) - len(tested)} runs have no {by} on test rows and are left out.")
    standings, said = _standings(shown, reference, tested, by)
    first = tested[shown[0][0]]
    rows = first.rows.get("test", {}).get("labelled", int(first.metrics["test"][SYSTEM]["rows"]))
    differs = differing([told[one[0]] for one in shown])
    if group:
        differs = {
            key: values for key, values in differs.items() if key in differing([_seedless(told[one[0]]) for one in shown])
        }
    name = standings[shown.index(reference)].name
    return Comparison(by, standings, name, len(ranked), rows, first.labels, first.task, differs, [*notes, *said])


def check_same_rows(records: Mapping[Path, RunRecord]) -> None:
    """Raises unless all runs have the same labels and were tested on the same rows.

    Raises:
        ConfigurationError: They do not; the message names the runs and the way out.
    """
    silent = [folder for folder, record in records.items() if "test" not in record.dataset_fingerprint]
    if silent and len(records) > 1:
        raise ConfigurationError(
            f"{_listed(silent)}: the record does not say on which rows the run was tested. Way out: leave it out; or data with "
            "a `dataset_fingerprint`, and lf test."
        )
    sets: dict[tuple[str, tuple[str, ...], str], list[Path]] = defaultdict(list)
    for folder, record in records.items():
        sets[record.task, tuple(record.labels), record.dataset_fingerprint.get("test", "")].append(folder)
    if len(sets) <= 1:
        return
    label_sets = {(task, labels) for task, labels, _ in sets}
    what = "have different labels" if len(label_sets) > 1 else "were tested on different rows"
    lines = []
    for (task, labels, fingerprint), folders in sets.items():
        rows = records[folders[0]].rows.get("test", {}).get("rows", 0)
        names = ", ".join(repr(label) for label in labels[:4]) + (", ..." if len(labels) > 4 else "")
        lines.append(f"  {rows:,} rows ({fingerprint[:12]}), {len(labels)} labels ({names}), {task}: {_listed(folders)}")
    largest = max(sets.values(), key=len)
    places = sorted({os.fspath(folder.parent) for folder in largest})
    way = " ".join(places) if len(places) <= 3 and _only_in(places, records, largest) else " ".join(map(os.fspath, largest[:2]))
    raise ConfigurationError(
        f"these runs {what}, so their numbers cannot be compared:\n" + "\n".join(lines) + "\n"
        f"Way out: compare one of these sets at a time, such as: lf compare {way}"
    )


def holm(p: Sequence[float]) -> list[float]:
    """Returns p-values corrected for m comparisons by Holm's (1979) step-down method.

    The i-th smallest is multiplied by m - i + 1; none is less than the one before it, and none above 1.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected, least = [0.0] * len(p), 0.0
    for place, number in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        least = max(least, min(1.0, (len(p) - place) * p[number]))
        corrected[number] = least
    return corrected


def _standings(
    shown: Sequence[tuple[Path, ...]], reference: tuple[Path, ...], records: Mapping[Path, RunRecord], by: str
) -> tuple[list[Standing], list[str]]:
    import numpy as np

    tables = _tables([folder for one in shown for folder in one], records)
    drawn = _drawn(by, tables)
    firsts = short_names([one[0] for one in shown])
    names = [f"{name} and {len(one) - 1} more" if len(one) > 1 else name for name, one in zip(firsts, shown, strict=True)]
    at = shown.index(reference)
    tests: dict[int, dict[str, float]] = {}
    for number, one in enumerate(shown):
        if number != at and all(folder in drawn for folder in (*one, *reference)):
            tests[number] = _difference(one, reference, records, drawn, by)
        if number != at and len(one) == len(reference) == 1 and one[0] in tables and reference[0] in tables:
            tests[number] = {**tests.get(number, {}), **_mcnemar(tables[one[0]], tables[reference[0]])}
    for key in ("p", "mcnemar_p"):
        having = [number for number, test in tests.items() if key in test]
        for number, p in zip(having, holm([tests[number][key] for number in having]), strict=True):
            tests[number][key] = p
    standings = []
    for number, one in enumerate(shown):
        figures = _figures(one, records)
        own = [records[folder].metrics["test"][SYSTEM][by] for folder in one]
        interval = records[one[0]].intervals.get(by) if len(one) == 1 else None
        found = None if interval is None else (interval["low"], interval["high"])
        if all(folder in drawn for folder in one):
            low, high = np.quantile(np.mean([drawn[folder] for folder in one], axis=0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            found = (float(low), float(high))
        costs = [records[folder].score_cost_usd for folder in one]
        known = [cost for cost in costs if cost is not None]
        cost = fmean(known) if len(known) == len(costs) else None
        sd = stdev(own) if len(own) > 1 else None
        standings.append(Standing(names[number], one, figures, sd, found, tests.get(number), cost))
    lacking = [name for name, one in zip(names, shown, strict=True) if any(folder not in tables for folder in one)]
    notes = [f"{', '.join(lacking)}: no predictions_test table, so no test."] if lacking else []
    return standings, notes


def _tables(folders: Sequence[Path], records: Mapping[Path, RunRecord]) -> dict[Path, Predictions]:
    found = {folder: read_predictions(folder, records[folder], system_only=True) for folder in folders}
    tables = {folder: table for folder, table in found.items() if table is not None}
    first = next(iter(tables), None)
    for folder, table in tables.items():
        if first is not None and (table.rows != tables[first].rows or (table.truth != tables[first].truth).any()):
            raise DataError(
                f"the predictions in {folder} are of other rows than those in {first}, though the records say they are equal. "
                "Way out: lf test writes them anew."
            )
    return tables


def _drawn(by: str, tables: Mapping[Path, Predictions]) -> dict[Path, NDArray[np.float64]]:
    drawn = resampled(by, list(tables.values()))
    return {} if drawn is None else {folder: drawn[:, column] for column, folder in enumerate(tables)}


def _difference(
    one: Sequence[Path],
    other: Sequence[Path],
    records: Mapping[Path, RunRecord],
    drawn: Mapping[Path, NDArray[np.float64]],
    by: str,
) -> dict[str, float]:
    """The paired bootstrap over rows, of means over the seeds that both have; p as in `metrics.paired_bootstrap`."""
    import numpy as np

    one, other = _same_seeds(one, other, records)
    ours, theirs = (np.mean([drawn[folder] for folder in side], axis=0) for side in (one, other))
    between = ours - theirs
    low, high = np.quantile(between, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    tie = 1e-12
    p = 2 * (min(int((between <= tie).sum()), int((between >= -tie).sum())) + 1) / (len(between) + 1)
    whole = _mean(one, records, by) - _mean(other, records, by)
    return {"difference": whole, "low": float(low), "high": float(high), "p": min(1.0, p)}


def _same_seeds(
    one: Sequence[Path], other: Sequence[Path], records: Mapping[Path, RunRecord]
) -> tuple[Sequence[Path], Sequence[Path]]:
    """Both sides' runs of the seeds that they share; all where they share none."""
    ours, theirs = ({folder: sorted(records[folder].seeds.items()) for folder in side} for side in (one, other))
    kept = [folder for folder in one if ours[folder] in theirs.values()]
    if len(one) == len(other) == 1 or not kept:
        return one, other
    return kept, [folder for folder in other if theirs[folder] in ours.values()]


def _mcnemar(one: Predictions, other: Predictions) -> dict[str, float]:
    from lf_lightning.metrics import mcnemar

    rows = one.labelled
    test = mcnemar(one.decisions[SYSTEM][rows], other.decisions[SYSTEM][rows], one.truth[rows])
    return {"mcnemar_p": test["p"], "only": test["a_only"], "other_only": test["b_only"]}


def _with_other(
    records: Mapping[Path, RunRecord], against: str | os.PathLike[str] | None
) -> tuple[Mapping[Path, RunRecord], Path | None]:
    if against is None:
        return records, None
    found = find_runs([against]).records
    if len(found) > 1:
        raise ConfigurationError(f"--against {os.fspath(against)!r} holds {len(found)} runs. Way out: the folder of one run.")
    (folder, record) = next(iter(found.items()))
    same = next((known for known in records if known.resolve() == folder.resolve()), None)
    return (records, same) if same is not None else ({**records, folder: record}, folder)


def _groups(records: Mapping[Path, RunRecord], told: dict[Path, Mapping[str, Any]]) -> list[tuple[Path, ...]]:
    groups: dict[str, list[Path]] = defaultdict(list)
    for folder, record in records.items():
        told[folder] = settings(record, folder)
        groups[f"{record.system} {without_seeds(told[folder])}"].append(folder)
    return [tuple(folders) for folders in groups.values()]


def _seedless(told: Mapping[str, Any]) -> dict[str, Any]:
    import json

    kept: dict[str, Any] = json.loads(without_seeds(told))
    return kept


def _mean(one: Sequence[Path], records: Mapping[Path, RunRecord], by: str) -> float:
    return fmean(records[folder].metrics["test"][SYSTEM][by] for folder in one)


def _figures(one: Sequence[Path], records: Mapping[Path, RunRecord]) -> dict[str, float]:
    tables = [records[folder].metrics["test"][SYSTEM] for folder in one]
    return {measure: fmean(table[measure] for table in tables) for measure in MEASURES if all(measure in t for t in tables)}


def _listed(folders: Sequence[Path], most: int = 3) -> str:
    names = ", ".join(os.fspath(folder) for folder in folders[:most])
    return names if len(folders) <= most else f"{names} and {len(folders) - most:,} more"


def _only_in(places: Sequence[str], records: Mapping[Path, RunRecord], chosen: Sequence[Path]) -> bool:
    return {folder for folder in records if os.fspath(folder.parent) in places} == set(chosen)
