"""Callbacks: gather a split's outputs, calibrate, then metrics, predictions, plots, results, progress and checkpoints.

They read `module.evaluated` and the module's calibrators; which system runs, and on which data, they do not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lf_lightning.lazy import lazy

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from lf_lightning.callbacks.calibrate import FitCalibrators
    from lf_lightning.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
    from lf_lightning.callbacks.collect import CollectOutputs
    from lf_lightning.callbacks.deferral import FitDeferral
    from lf_lightning.callbacks.export_encoder import ExportEncoder
    from lf_lightning.callbacks.metrics import LogMetrics
    from lf_lightning.callbacks.plots import SavePlots
    from lf_lightning.callbacks.predictions import WritePredictions
    from lf_lightning.callbacks.progress import PhaseProgress
    from lf_lightning.callbacks.record import RecordResults
    from lf_lightning.callbacks.review import ReviewLabels
    from lf_lightning.callbacks.tracking import LogTables

_HOME = {
    "BestCheckpoint": "checkpoints",
    "CollectOutputs": "collect",
    "ExportEncoder": "export_encoder",
    "FitCalibrators": "calibrate",
    "FitDeferral": "deferral",
    "LastCheckpoint": "checkpoints",
    "LogMetrics": "metrics",
    "LogTables": "tracking",
    "PhaseProgress": "progress",
    "RecordResults": "record",
    "ReviewLabels": "review",
    "SavePlots": "plots",
    "WritePredictions": "predictions",
}

DEFAULTS = (
    "CollectOutputs",
    "FitCalibrators",
    "FitDeferral",
    "LogMetrics",
    "WritePredictions",
    "SavePlots",
    "LogTables",
    "PhaseProgress",
    "RecordResults",
    "BestCheckpoint",
    "LastCheckpoint",
)
"""The callbacks of every run in their order: each reads what those before it left, and the bar stops before the table."""

__all__ = [
    "DEFAULTS",
    "BestCheckpoint",
    "CollectOutputs",
    "ExportEncoder",
    "FitCalibrators",
    "FitDeferral",
    "LastCheckpoint",
    "LogMetrics",
    "LogTables",
    "PhaseProgress",
    "RecordResults",
    "ReviewLabels",
    "SavePlots",
    "WritePredictions",
    "default_callbacks",
]


def default_callbacks() -> list[Callback]:
    """Returns the callbacks of every run, made anew, in the order that they need."""
    return [__getattr__(name)() for name in DEFAULTS]


__getattr__, __dir__ = lazy(__name__, {name: f"{__name__}.{module}" for name, module in _HOME.items()})
