"""Data: tables of texts and labels, their splits, and batches with scores joined from a score store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lf_lightning.data.module import ScoredTextDataModule as ScoredTextDataModule

__all__ = ["ScoredTextDataModule"]


def __getattr__(name: str) -> Any:
    if name == "ScoredTextDataModule":
        from lf_lightning.data.module import ScoredTextDataModule

        return ScoredTextDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
