"""Figures of an evaluation, as matplotlib figures without a window: nothing here is shown or saved."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lf_lightning.figures.canvas import printable
    from lf_lightning.figures.curves import learning_curves
    from lf_lightning.figures.evaluation import confusion_matrix, label_counts, per_label_f1, reliability

_HOME = {
    "confusion_matrix": "evaluation",
    "label_counts": "evaluation",
    "learning_curves": "curves",
    "per_label_f1": "evaluation",
    "printable": "canvas",
    "reliability": "evaluation",
}

__all__ = ["confusion_matrix", "label_counts", "learning_curves", "per_label_f1", "printable", "reliability"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
