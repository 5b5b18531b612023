"""`lf ensemble`: fitted systems as one, in a folder that `lf serve` and `load_system` take."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lf_lightning.cli.import_limits import limit_imports
from lf_lightning.cli.quiet import quieten
from lf_lightning.errors import ConfigurationError

RULES = ("average", "majority", "weighted", "routed", "stacked")
_WITHOUT_ROWS = ("average", "majority")


def main(argv: Sequence[str]) -> int:
    """`lf ensemble RUN RUN [RUN ...] --out FOLDER [--rule NAME] [--rows TABLE] [options]`.

    Args:
        argv: The words after `lf ensemble`.

    Returns:
        0.

    Raises:
        ConfigurationError: The rule has to be fitted and there are no rows, members do not fit one another, rows are train rows
            of a member, or the folder is not empty.
        DataError: The rows cannot be read, or none is labelled.
    """
    parser = argparse.ArgumentParser(prog="lf ensemble", allow_abbrev=False)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--out", required=True)
    parser.add_argument("--rule", choices=RULES, default=RULES[0])
    parser.add_argument("--rows")
    parser.add_argument("--scores")
    parser.add_argument("--text-columns", "--text_columns", nargs="+")
    parser.add_argument("--label-column", "--label_column")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(list(argv))
    if given.rows is None and given.rule not in _WITHOUT_ROWS:
        raise ConfigurationError(
            f"--rule {given.rule} is fitted on labelled rows. Way out: --rows TABLE, of rows that no member was trained on; or "
            f"--rule {' or '.join(_WITHOUT_ROWS)}."
        )
    limit_imports()
    quieten()
    from lf_lightning.predictor import Ensemble, load_system

    members = [load_system(run, device=given.device) for run in given.runs]
    ensemble = Ensemble(members, _rule(given.rule))
    if given.rows is not None:
        _fit(ensemble, given.rows, given.text_columns, given.label_column, given.scores)
    ensemble.save(given.out)
    called = {name: f"{name}, {run}" for name, run in zip(ensemble.names, given.runs, strict=True)}
    for name, figures in ensemble.figures.items():
        print(
            f"{called.get(name, name)}: accuracy {figures['accuracy']:.3f}, macro-F1 {figures['macro_f1']:.3f} on {given.rows}"
        )
    print(f"{given.out}: {len(members)} systems, {given.rule}. lf serve --model {given.out}")
    return 0


def _rule(name: str) -> Callable[..., Any]:
    from lf_lightning import heads

    classes: dict[str, Callable[..., Any]] = {
        "average": heads.AverageFusion,
        "majority": heads.MajorityFusion,
        "weighted": heads.MixtureFusion,
        "routed": heads.RoutedFusion,
        "stacked": heads.PooledFusion,
    }
    return classes[name]


def _fit(ensemble: Any, rows: str, text_columns: list[str] | None, label_column: str | None, scores: str | None) -> None:
    """Fits on a table that is read as the first member's data were, if it is a run, unless an option says otherwise."""
    from lf_lightning.data.labels import LabelReader
    from lf_lightning.data.tables import read_table
    from lf_lightning.data.texts import texts_of
    from lf_lightning.predictor import Predictor
    from lf_lightning.predictor.fitted_run import FittedRun

    first = ensemble.members[0]
    run = first.source if isinstance(first, Predictor) else None
    config = run.config if isinstance(run, FittedRun) else {}
    known: Mapping[str, Any] = (config.get("data") or {}).get("init_args") or {}
    columns = text_columns or known.get("text_columns") or "text"
    reader = LabelReader(
        ensemble.task,
        label_column or known.get("label_column", "label"),
        None if label_column else known.get("label_columns"),
        known.get("label_separator", "|"),
        known.get("empty_label", "error"),
    )
    table = read_table(rows, "rows")
    texts = texts_of(table, [columns] if isinstance(columns, str) else list(columns), None, rows)
    labels = reader.encode(table, ensemble.labels, rows)
    ensemble.fit(texts, labels, (scores or known.get("scores")) if ensemble.scorers else None)
