"""Whether the values of a run record are of the kinds that its readers take for granted: damage is named, not drawn."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

_NUMBER = "a finite number"
_COUNT = "a whole number"
_TEXT = "a text"
_OR_NONE = " or null"
_ANY = "anything"

_INTERVAL = {"low": _NUMBER, "high": _NUMBER}
_TEST = {"difference": _NUMBER, **_INTERVAL, "p": _NUMBER}
_CURVE = {"ece": _NUMBER, "confidence": [_NUMBER], "accuracy": [_NUMBER], "count": [_NUMBER]}

_SHAPES: dict[str, Any] = {
    "experiment": _TEXT,
    "time": _TEXT,
    "system": _TEXT,
    "task": _TEXT,
    "labels": [_TEXT],
    "rows": {"*": {"*": _COUNT}},
    "dataset_fingerprint": {"*": _TEXT},
    "scores": {"*": _TEXT + _OR_NONE},
    "score_costs": {"*": {"*": {"cost_usd": _NUMBER + _OR_NONE, "*": _NUMBER + _OR_NONE}}},
    "seeds": {"*": _COUNT},
    "config": {"*": _ANY},
    "environment": {"packages?": {"*": _ANY}, "*": _ANY},
    "commit": _TEXT + _OR_NONE,
    "metrics": {"*": {"*": {"*": _NUMBER}}},
    "intervals": {"*": _INTERVAL},
    "best_member": {"*": _TEXT},
    "chosen_by": _TEXT + _OR_NONE,
    "tests": {"*": {"accuracy": _TEST, "macro_f1": _TEST, "*": _ANY}},
    "calibrator": {"class?": _TEXT, "*": _ANY},
    "decision": {"thresholds?": [_NUMBER], "*": _ANY},
    "reliability": {"before?": _CURVE, "after?": _CURVE},
    "deferral": {"*": {"cost": [_NUMBER], "accuracy": [_NUMBER], "*": _ANY}},
    "cost_usd": _NUMBER,
    "files": [_TEXT],
}
"""What each field holds. In a mapping a name is required, with `?` it is not, and `*` stands for all that are not listed."""


def misfit(record: Mapping[str, Any]) -> str | None:
    """Returns what in a record cannot be, in words, None if all is as it should be.

    Args:
        record: Fields by name; those that are absent are not looked at.

    Example:
        >>> misfit({"labels": ["a", 3]}), misfit({"labels": ["a", "b"]})
        ('labels[1] is 3, not a text', None)
    """
    for name, shape in _SHAPES.items():
        if name in record and (found := _misfit(record[name], shape, name)):
            return found
    return _contradiction(record)


def _misfit(value: Any, shape: Any, where: str) -> str | None:
    if isinstance(shape, str):
        return None if _is(value, shape) else f"{where} is {str(value)[:60]!s}, not {shape}"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where} is no list"
        parts = [(item, shape[0], f"{where}[{number}]") for number, item in enumerate(value)]
    else:
        if not isinstance(value, Mapping):
            return f"{where} is no mapping"
        lacking = [name for name in shape if not name.endswith(("?", "*")) and name not in value]
        if lacking:
            return f"{where} has no {lacking[0]!r}"
        parts = [
            (item, shape.get(name, shape.get(f"{name}?", shape.get("*", _ANY))), f"{where}.{name}")
            for name, item in value.items()
        ]
    return next((found for item, inner, place in parts if (found := _misfit(item, inner, place))), None)


def _is(value: Any, kind: str) -> bool:
    if kind == _ANY or (kind.endswith(_OR_NONE) and value is None):
        return True
    if kind.startswith(_TEXT):
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if kind == _COUNT:
        return isinstance(value, int)
    try:
        return isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _contradiction(record: Mapping[str, Any]) -> str | None:
    """Parts that fit by themselves and not together: columns of other lengths, thresholds of other labels."""
    figures = record.get("metrics", {}).get("test", {})
    for name in {"system", *record.get("tests", ())} if record.get("tests") else figures.keys() & {"system"}:
        if "rows" not in figures.get(name, {}):
            return f"metrics.test.{name} has no 'rows'"
    curves = {f"reliability.{when}": curve for when, curve in record.get("reliability", {}).items()}
    if len(curves) == 1 or (curves and "class" not in record.get("calibrator", {})):
        return "reliability is told of one of before and after only, or of no calibrator"
    curves |= {f"deferral.{name}": curve for name, curve in record.get("deferral", {}).items()}
    for where, curve in curves.items():
        lengths = {len(curve[name]) for name in ("cost", "confidence", "accuracy", "count") if name in curve}
        if len(lengths) > 1 or (0 in lengths and where.startswith("deferral")):
            return f"{where} has columns of {sorted(lengths)} points"
    thresholds = record.get("decision", {}).get("thresholds")
    if thresholds is not None and len(thresholds) != len(record.get("labels", ())):
        return f"decision.thresholds has {len(thresholds)} numbers for {len(record.get('labels', ()))} labels"
    return None
