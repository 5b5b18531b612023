"""One self-contained HTML page of a run, or of several: no network, no server, plain inline SVG and script."""

from __future__ import annotations

from lf_lightning.report.page import write_report

__all__ = ["write_report"]
