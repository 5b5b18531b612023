"""What the page of one run shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lf_lightning.metrics import per_label
from lf_lightning.report import drawings
from lf_lightning.report.rows import chosen_rows, confidence_of, known_of, right_of, row_data, shown_labels
from lf_lightning.results.configs import flat, read_config, shown
from lf_lightning.results.measures import IN_PERCENT, NAMES
from lf_lightning.results.predictions import SYSTEM, Predictions, read_predictions
from lf_lightning.results.record import RunRecord
from lf_lightning.results.wording import ENCODER, REFERENCES, friendly, p_value, sentence

MOST_MATRIX_LABELS = 30
MOST_PAIRS = 40

_MARKS = (("c1", "circle"), ("c2", "square"), ("c3", "triangle"))


def run_facts(folder: Path, record: RunRecord, most_rows: int) -> dict[str, Any]:
    """Returns everything that `run.html` shows.

    Args:
        folder: The run's.
        record: The run's.
        most_rows: Rows with text at most.
    """
    run = read_predictions(folder, record)
    figures = record.metrics.get("test", {})
    members = [name for name in figures if name != SYSTEM and name in record.tests]
    names = [SYSTEM, *members]
    facts: dict[str, Any] = {
        "title": f"{record.experiment}: {_system(record)}, {folder.name}",
        "record": record,
        "name": folder.name,
        "system": _system(record),
        "heading": _capital(_system(record)),
        "date": record.time[:16].replace("T", " "),
        "facts": _short_facts(record),
        "headline": _headline(record),
        "sentence": _capital(sentence(record.tests, record.best_member, record.system)),
        "members": _members(record, members),
        "labels": shown_labels(record.labels),
        "reliability": drawings.reliability(record.reliability, record.task) if record.reliability else None,
        "settings": [
            (key, shown(value)) for key, value in flat(record.config or read_config(folder)).items() if value is not None
        ],
        "costs": _costs(record),
        "per_label": [],
        "marks": [],
        "confusion": None,
        "pairs": [],
        "pairs_left_out": 0,
        "agreement": [],
        "curve": None,
        "data": None,
    }
    if run is None or not run.labelled.any():
        return facts
    opinions = [name for name in names if name in run.decisions]
    right = right_of(run)
    chosen = [*(name for name in (SYSTEM, ENCODER) if name in opinions), *_best_scorer(record, opinions)]
    facts |= {
        "per_label": _per_label(run, record, chosen),
        "marks": [(css, shape, friendly(name, record.system)) for name, (css, shape) in zip(chosen, _MARKS, strict=False)],
        "agreement": _agreement(run, record, opinions, right),
        "curve": _curve(run, record, chosen, right),
        "data": _data(run, record, opinions, right, most_rows),
    }
    if record.task == "multiclass":
        counts = np.zeros((len(record.labels), len(record.labels)), dtype=np.int64)
        np.add.at(counts, (run.truth[run.labelled], run.decisions[SYSTEM][run.labelled]), 1)
        if len(record.labels) <= MOST_MATRIX_LABELS:
            facts["confusion"] = _matrix(counts)
        else:
            facts["pairs"], facts["pairs_left_out"] = _pairs(counts, record.labels)
    return facts


def _system(record: RunRecord) -> str:
    return friendly(SYSTEM, record.system)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _short_facts(record: RunRecord) -> list[tuple[str, str]]:
    rows = {split: counts.get("labelled", 0) for split, counts in record.rows.items()}
    facts: list[tuple[str, str]] = [
        (split, f"{rows[split]:,} rows") for split in ("train", "validation", "test") if split in rows
    ]
    facts.append(("labels", f"{len(record.labels)}" + (", several a row" if record.task == "multilabel" else "")))
    if record.scores:
        facts.append(("scores", ", ".join(record.scores)))
    facts += [("seed", ", ".join(sorted({str(seed) for seed in record.seeds.values()})))] if record.seeds else []
    return facts


def _headline(record: RunRecord) -> list[dict[str, str]]:
    figures = record.metrics.get("test", {}).get(SYSTEM, {})
    found = []
    for measure in ("macro_f1", "accuracy", "nll", "ece"):
        if measure not in figures:
            continue
        percent = measure in IN_PERCENT
        interval = record.intervals.get(measure)
        between = "" if interval is None else f"{100 * interval['low']:.1f} to {100 * interval['high']:.1f}"
        value = f"{100 * figures[measure]:.1f}" if percent else f"{figures[measure]:.3f}"
        found.append({"name": NAMES[measure], "value": value, "unit": "%" if percent else "", "interval": between})
    return found


def _members(record: RunRecord, members: Sequence[str]) -> list[dict[str, Any]]:
    """The scorers, the encoder, the combinations, the system, as the table in the terminal."""
    scorers = [name for name in members if name != ENCODER and name not in REFERENCES]
    order = [*scorers, *(name for name in (ENCODER, *REFERENCES) if name in members), SYSTEM]
    figures, found = record.metrics.get("test", {}), []
    ends = [record.tests[name]["accuracy"][end] for name in members for end in ("low", "high")]
    span = (min(0.0, *ends, -0.001), max(0.0, *ends, 0.001)) if ends else (0.0, 1.0)
    for name in order:
        if name not in figures:
            continue
        test = record.tests.get(name, {}).get("accuracy")
        total = figures[SYSTEM]["rows"]
        found.append(
            {
                "name": friendly(name, record.system),
                "own": name == SYSTEM,
                "best": name in record.best_member.values(),
                "figures": figures[name],
                "lacking": int(total - figures[name]["rows"]),
                "test": test,
                "p": "" if test is None else p_value(test["p"]).removeprefix("= "),
                "forest": None
                if test is None
                else drawings.forest([(test["low"], test["difference"], test["high"])], span, 0.0)[0],
            }
        )
    return found


def _best_scorer(record: RunRecord, opinions: Sequence[str]) -> list[str]:
    """The scorer that was best on validation rows, or on the test rows where those are not known."""
    scorers = [name for name in opinions if name not in (SYSTEM, ENCODER, *REFERENCES)]
    for split in ("validation", "test"):
        figures = {name: record.metrics.get(split, {}).get(name) for name in scorers}
        known = {name: values for name, values in figures.items() if values}
        if known:
            return [max(known, key=lambda name: known[name]["macro_f1"])]
    return []


def _per_label(run: Predictions, record: RunRecord, chosen: Sequence[str]) -> list[dict[str, Any]]:
    k = len(record.labels)
    tables = {}
    for name in chosen:
        rows = run.labelled & known_of(run.decisions[name])
        if rows.any():
            tables[name] = per_label(run.decisions[name][rows], run.truth[rows], k)
    own, thresholds = tables[SYSTEM], record.decision.get("thresholds")
    made, truth = run.decisions[SYSTEM][run.labelled], run.truth[run.labelled]
    said = (made if made.ndim == 2 else np.eye(k, dtype=np.int64)[made]).sum(0)
    names = shown_labels(record.labels)
    worst = min(float(table["f1"].min()) for table in tables.values())
    least = min(0.9, int(10 * worst) / 10)
    found = []
    for label in np.argsort(-own["support"], kind="stable").tolist():
        marks = [
            (float(table["f1"][label]), css, shape, f"{friendly(name, record.system)}: F1 {100 * table['f1'][label]:.1f}")
            for (name, table), (css, shape) in zip(tables.items(), _MARKS, strict=False)
        ]
        support, hits = int(own["support"][label]), round(float(own["recall"][label] * own["support"][label]))
        found.append(
            {
                "label": label,
                "name": names[label],
                "support": support,
                "precision": float(own["precision"][label]),
                "recall": float(own["recall"][label]),
                "f1": float(own["f1"][label]),
                "missed": support - hits,
                "wrong": int(said[label]) - hits,
                "hits": hits,
                "threshold": None if thresholds is None else thresholds[label],
                "least": least,
                "dots": drawings.dots(marks, least),
            }
        )
    return found if truth.size else []


def _matrix(counts: NDArray[np.int64]) -> list[list[tuple[int, float]]]:
    totals = np.maximum(counts.sum(1), 1)
    return [[(int(n), round(float(n / totals[true]), 3)) for n in line] for true, line in enumerate(counts)]


def _pairs(counts: NDArray[np.int64], labels: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
    mistakes = counts - np.diag(np.diag(counts))
    order = np.argsort(-mistakes, axis=None, kind="stable")
    pairs = [divmod(int(place), len(labels)) for place in order[: int((mistakes > 0).sum())]]
    found = [
        {"true": true, "made": made, "count": int(mistakes[true, made]), "of": int(counts[true].sum())}
        for true, made in pairs[:MOST_PAIRS]
    ]
    return found, max(0, len(pairs) - MOST_PAIRS)


def _agreement(
    run: Predictions, record: RunRecord, opinions: Sequence[str], right: Mapping[str, NDArray[np.bool_]]
) -> list[dict[str, Any]]:
    """Encoder against each scorer: how often each was right, and the system in each of the four cases."""
    if ENCODER not in opinions:
        return []
    found = []
    for scorer in [name for name in opinions if name not in (SYSTEM, ENCODER, *REFERENCES)]:
        rows = run.labelled & known_of(run.decisions[scorer]) & known_of(run.decisions[ENCODER])
        if not rows.any():
            continue
        cells = []
        for encoder in (True, False):
            for other in (True, False):
                here = rows & (right[ENCODER] == encoder) & (right[scorer] == other)
                n = int(here.sum())
                system = float(right[SYSTEM][here].mean()) if n else 0.0
                cells.append({"n": n, "share": n / int(rows.sum()), "system": system, "encoder": encoder, "other": other})
        found.append({"scorer": friendly(scorer, record.system), "opinion": opinions.index(scorer), "cells": cells})
    return found


def _curve(
    run: Predictions, record: RunRecord, chosen: Sequence[str], right: Mapping[str, NDArray[np.bool_]]
) -> dict[str, Any] | None:
    """The cost-accuracy curves of the record; else encoder and system, the texts with the least margin asked about first."""
    if record.deferral:
        lines = {name: list(zip(curve["cost"], curve["accuracy"], strict=True)) for name, curve in record.deferral.items()}
        svg = drawings.curves(lines, "share of the cost of asking about every text %", "accuracy %", "Accuracy by cost")
        return {"svg": svg, "names": list(lines), "fitted": True}
    if len(chosen) < 3 or ENCODER not in run.probabilities:
        return None
    rows = run.labelled & known_of(run.decisions[ENCODER])
    margin = _margin(run.probabilities[ENCODER][rows], record)
    order = np.argsort(margin, kind="stable")
    gain = right[SYSTEM][rows][order].astype(float) - right[ENCODER][rows][order]
    start, n = float(right[ENCODER][rows].mean()), int(rows.sum())
    reached = start + np.concatenate([[0.0], gain.cumsum()]) / n
    at = np.unique(np.linspace(0, n, 101).round().astype(int))
    lines = {
        "least sure first": [(float(a / n), float(reached[a])) for a in at],
        "at random": [(0.0, start), (1.0, float(reached[-1]))],
    }
    svg = drawings.curves(lines, "texts that the LLM is asked about %", "accuracy %", "Accuracy by share of texts asked about")
    return {"svg": svg, "names": list(lines), "fitted": False}


def _margin(p: NDArray[np.float64], record: RunRecord) -> NDArray[np.float64]:
    if record.task == "multilabel":
        return np.asarray(np.abs(p - np.array(record.decision.get("thresholds", 0.5))).min(1))
    if p.shape[1] < 2:
        return np.zeros(len(p))
    two = np.partition(p, -2, axis=1)
    return np.asarray(two[:, -1] - two[:, -2])


def _costs(record: RunRecord) -> list[dict[str, Any]]:
    scorers = dict.fromkeys(name for split in record.score_costs.values() for name in split)
    found = []
    for scorer in scorers:
        parts = [split[scorer] for split in record.score_costs.values() if scorer in split]
        sums = {key: _sum([part.get(key) for part in parts]) for key in ("texts", "input_tokens", "output_tokens", "cost_usd")}
        found.append({"name": scorer, "splits": ", ".join(record.score_costs), **sums})
    return found


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _data(
    run: Predictions, record: RunRecord, opinions: Sequence[str], right: Mapping[str, NDArray[np.bool_]], most_rows: int
) -> dict[str, Any]:
    judges = [name for name in opinions if name != SYSTEM and name not in REFERENCES]
    wrong = ~right[SYSTEM]
    split = np.zeros(len(wrong), dtype=np.bool_)
    for name in judges:
        split |= known_of(run.decisions[name]) & (right[name] != right[SYSTEM])
    sure = confidence_of(run.probabilities[SYSTEM])
    rows = chosen_rows(wrong, split, sure, most_rows)
    kinds = {SYSTEM: "system", ENCODER: "encoder", **dict.fromkeys(REFERENCES, "reference")}
    return {
        "kind": "run",
        "task": record.task,
        "labels": shown_labels(record.labels),
        "opinions": [{"key": n, "name": friendly(n, record.system), "kind": kinds.get(n, "scorer")} for n in opinions],
        "total": len(wrong),
        "mistakes": int(wrong.sum()),
        "texts": run.texts is not None,
        "rows": row_data(run, opinions, rows, right),
    }
