"""At the end of a test: `results.json`, one table and one sentence; of a validation: the table and the sentence."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypedDict

from lightning.pytorch import Callback, LightningModule, Trainer

from lf_lightning.callbacks.comparing import REFERENCES, best_members, friendly, intervals, paired_tests, sentence
from lf_lightning.callbacks.deferral import cost_curves
from lf_lightning.callbacks.judging import SYSTEM, Figures, Judged, figures_of, judge
from lf_lightning.callbacks.metrics import last_validation
from lf_lightning.contract import Split
from lf_lightning.metrics import ece, reliability_curve
from lf_lightning.results import FILE_NAME, ResultsManager, RunRecord, environment, git_state
from lf_lightning.results.configs import plain, read_config


class _RowFacts(TypedDict):
    rows: dict[str, dict[str, int]]
    dataset_fingerprint: dict[str, str]


class DataFacts(_RowFacts, total=False):
    """Rows (`rows`, `labelled`), fingerprint and what the scores took, each by split; see `RunRecord`."""

    score_costs: dict[str, dict[str, dict[str, Any]]]  # older checkpoints have none


class RecordResults(Callback):
    """Writes `results.json` of a test into the run folder, and prints the table that sets the system beside its members.

    `lf validate` prints the same table of the validation rows and records nothing: those rows chose epoch and decisions.

    Each member's figures are on the labelled rows that it has an opinion on, each paired test on those of both. The best member
    is the encoder or the scorer that was best on validation rows (`LogMetrics` keeps those figures in the checkpoint).

    Args:
        experiment: Name of the experiment; by default the folder that the run folder lies in.
    """

    def __init__(self, experiment: str | None = None) -> None:
        self.experiment = experiment
        self.fitted_on: DataFacts = {"rows": {}, "dataset_fingerprint": {}}
        """What the fit's data was; travels in checkpoints, since a test need not read the train rows."""
        self.calibrator: dict[str, Any] = {}
        """What the calibrator's last fit reported, which a reloaded calibrator no longer knows."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Has Lightning keep its own table of every logged number to itself."""
        if stage in ("validate", "test"):
            loop = trainer.test_loop if stage == "test" else trainer.validate_loop
            loop.verbose = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes what the fit's rows are."""
        self.fitted_on = data_facts(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes how the calibrator was fitted."""
        calibrator: Any = pl_module.calibrator
        if calibrator.report:
            self.calibrator = dict(calibrator.report)

    def state_dict(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {"fitted_on": self.fitted_on, "calibrator": self.calibrator}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them back."""
        self.fitted_on, self.calibrator = state_dict["fitted_on"], state_dict["calibrator"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints, unless a fit is under way."""
        if trainer.state.fn == "validate":
            self._conclude(trainer, pl_module, "validation")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records and prints."""
        self._conclude(trainer, pl_module, "test")

    def _conclude(self, trainer: Trainer, module: LightningModule, split: Split) -> None:
        judged = judge(module, split) if trainer.is_global_zero else None
        figures = {} if judged is None else figures_of(judged)
        if judged is None or not figures:
            return
        folder = Path(trainer.default_root_dir)
        experiment = self.experiment or folder.resolve().parent.name
        validation = last_validation(trainer) if split == "test" else {}
        record = build_record(trainer, module, judged, figures, validation, self.fitted_on, self.calibrator, experiment, split)
        if split == "test":
            ResultsManager(folder).write(record)
        print_results(record, folder, split)


def build_record(
    trainer: Trainer,
    module: LightningModule,
    judged: Judged,
    figures: Figures,
    validation: Figures,
    fitted_on: DataFacts,
    calibration: Mapping[str, Any],
    experiment: str,
    split: Split = "test",
) -> RunRecord:
    """Returns the record of a test, or of a validation.

    Args:
        trainer: Whose data module says what the rows were, where it can.
        module: The system.
        judged: The split.
        figures: Its figures.
        validation: Those of the validation of the same weights; may be empty.
        fitted_on: What the fit's data was.
        calibration: What the calibrator's fit reported.
        experiment: Its name.
        split: Which one was judged.
    """
    tests = paired_tests(judged) if not _is_its_only_member(judged) else {}
    known = {name: values for name, values in validation.items() if name == SYSTEM or name in tests}
    # Without validation figures the member that is best on the very rows: the hardest to beat, so no claim gains by it.
    by_validation = any(name in known for name in tests)
    chosen_by, choosing = ("validation", known) if by_validation else (str(split), figures)
    best = best_members({name: values for name, values in choosing.items() if name in tests or name == SYSTEM})
    commit, dirty = git_state()
    data: Any = getattr(trainer, "datamodule", None)
    here = data_facts(trainer)
    rows = {str(split): {"rows": len(judged.index), "labelled": int(judged.labelled.sum())}}
    return RunRecord(
        experiment=experiment,
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        system=type(module).__name__,
        task=judged.task,
        labels=judged.labels,
        rows={**fitted_on["rows"], **here["rows"], **rows},
        dataset_fingerprint={**fitted_on["dataset_fingerprint"], **here["dataset_fingerprint"]},
        scores=_scores(data, module),
        score_costs={**fitted_on.get("score_costs", {}), **here.get("score_costs", {})},
        seeds=_seeds(data, module),
        config=_config(Path(trainer.default_root_dir), module),
        environment=environment(),
        commit=commit,
        dirty=dirty,
        metrics={**({"validation": validation} if validation else {}), split: figures},
        intervals=intervals(judged),
        best_member=best,
        chosen_by=chosen_by if best else None,
        tests=tests,
        calibrator={"class": type(module.calibrator).__name__, **calibration},
        decision=_decision(module),
        reliability=_reliability(judged),
        deferral=cost_curves(module, split),
        files=_files(Path(trainer.default_root_dir)),
    )


def data_facts(trainer: Trainer) -> DataFacts:
    """Returns rows and fingerprint of each split that the data module has in use, as far as it tells."""
    data = getattr(trainer, "datamodule", None)
    summary, prints = getattr(data, "summary", None), getattr(data, "dataset_fingerprint", None)
    rows = {
        str(split): {key: int(values[key]) for key in ("rows", "labelled")}
        for split, values in (summary.items() if isinstance(summary, Mapping) else ())
    }
    known = {str(split): str(digest) for split, digest in prints.items()} if isinstance(prints, Mapping) else {}
    costs: Any = getattr(data, "score_costs", None)
    taken = {split: costs(split) for split in rows if split != "predict"} if callable(costs) else {}
    return {"rows": rows, "dataset_fingerprint": known, "score_costs": {split: cost for split, cost in taken.items() if cost}}


def print_results(record: RunRecord, folder: Path, split: Split = "test") -> None:
    """Prints a split's figures as a table, the test against the best member, and the folder; plain unless on a terminal."""
    from rich.box import ASCII2, ROUNDED
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 100)  # a file has no width: no name need be folded
    figures = record.metrics[split]
    title = Text(f"{record.experiment}: {int(figures[SYSTEM]['rows'])} {split} rows")
    table = Table(box=ROUNDED if console.is_terminal else ASCII2, title=title)
    table.add_column("", overflow="fold")
    for column in ("accuracy %", "macro-F1 %", "NLL", "ECE"):
        table.add_column(column, justify="right", no_wrap=True)
    for name in _order(record):
        values, own = figures[name], name == SYSTEM
        cells = [_percent(values[m], record.intervals[m] if own else None) for m in ("accuracy", "macro_f1")]
        cells += [f"{values['nll']:.3f}", f"{values['ece']:.3f}"]
        # Text, not markup: a scorer may be called `[red]`.
        table.add_row(*(Text(cell) for cell in (friendly(name, record.system), *cells)), style="bold" if own else None)
    console.print(table)
    lines = [*_footnotes(record, split), sentence(record.tests, record.best_member, record.system)]
    if record.best_member:
        lines.append(f"Best member chosen by {record.chosen_by} rows. Brackets: 95 % bootstrap interval.")
    if split == "validation":
        lines.append("These rows chose the epoch, the calibrators and the decisions: what counts is lf test.")
    lines.append(f"Run folder: {folder}")
    for line in filter(None, lines):
        console.print(Text(line), soft_wrap=True)


def _order(record: RunRecord) -> list[str]:
    """The scorers, the encoder, the combinations, the system: from the parts to the whole."""
    names = record.tests
    scorers = [name for name in names if name != "encoder" and name not in REFERENCES]
    return [*scorers, *(name for name in ("encoder", *REFERENCES) if name in names), SYSTEM]


def _percent(value: float, interval: Mapping[str, float] | None) -> str:
    shown = f"{100 * value:.1f}"
    return shown if interval is None else f"{shown} [{100 * interval['low']:.1f}, {100 * interval['high']:.1f}]"


def _footnotes(record: RunRecord, split: Split) -> list[str]:
    total = int(record.metrics[split][SYSTEM]["rows"])
    return [
        f"{friendly(name, record.system)}: no opinion on {total - test['rows']} of {total} rows; its figures are on the others."
        for name, test in record.tests.items()
        if test["rows"] < total
    ]


def _is_its_only_member(judged: Judged) -> bool:
    """Whether the system is the encoder itself, which has nobody to be compared with."""
    return list(judged.members) == ["encoder"] and bool((judged.members["encoder"].decisions == judged.system.decisions).all())


def _scores(data: Any, module: Any) -> dict[str, str | None]:
    fingerprints = getattr(data, "scorer_fingerprints", None)
    names: Sequence[str] = getattr(module, "scorers", ())
    return {name: _text_or_none(fingerprints.get(name)) if isinstance(fingerprints, Mapping) else None for name in names}


def _seeds(data: Any, module: Any) -> dict[str, int]:
    everything = os.environ.get("PL_GLOBAL_SEED", "")
    found = {"model": getattr(module, "seed", None), "data": getattr(data, "seed", None)}
    found["global"] = int(everything) if everything.isdigit() else None
    return {name: seed for name, seed in found.items() if isinstance(seed, int)}


def _config(folder: Path, module: Any) -> dict[str, Any]:
    """The config of the fit; of a run from Python the system's hyper-parameters."""
    config: dict[str, Any] = plain(read_config(folder) or ({"model": dict(module.hparams)} if module.hparams else {}))
    return config


def _decision(module: Any) -> dict[str, Any]:
    rule = getattr(module, "decision", None)
    if rule is None:
        return {}
    return {"class": type(rule).__name__, **{name: values.tolist() for name, values in rule.named_buffers()}}


def _reliability(judged: Judged) -> dict[str, dict[str, Any]]:
    rows = judged.labelled
    truth, bins = judged.truth[rows], min(15, max(5, int(rows.sum()) // 20))
    both = {"before": judged.uncalibrated[rows], "after": judged.system.probabilities[rows]}
    return {
        when: {
            "ece": ece(p, truth, judged.task),
            **{name: column.tolist() for name, column in reliability_curve(p, truth, judged.task, bins=bins).items()},
        }
        for when, p in both.items()
    }


def _files(folder: Path) -> list[str]:
    found = [path for pattern in ("*", "checkpoints/*", "plots/*") for path in folder.glob(pattern) if path.is_file()]
    names = {path.relative_to(folder).as_posix() for path in found if not path.name.startswith(".")}
    return sorted(names | {FILE_NAME})


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None
