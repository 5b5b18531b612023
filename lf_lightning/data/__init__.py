"""Data: tables of texts and labels, their splits, and batches with scores joined from a score store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lf_lightning.lazy import lazy

if TYPE_CHECKING:
    from lf_lightning.data.module import ScoredTextDataModule as ScoredTextDataModule
    from lf_lightning.data.reason_rows import ReasonRowsDataModule as ReasonRowsDataModule

__all__ = ["ReasonRowsDataModule", "ScoredTextDataModule"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "ReasonRowsDataModule": "lf_lightning.data.reason_rows",
        "ScoredTextDataModule": "lf_lightning.data.module",
    },
)
