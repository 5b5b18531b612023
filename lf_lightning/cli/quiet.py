"""What Lightning and transformers print in every run and nobody needs, left out."""

from __future__ import annotations

import logging
import re
import sys
import warnings

_IDLE = re.compile(
    r"Tip: For seamless cloud|^(GPU|TPU) available: False|^Restoring states from|^`Trainer\.fit` stopped: `max_epochs=\d+`"
)
"""An advertisement, devices that are not there, a checkpoint that is named again once read, and that a fit ended as planned."""


def quieten() -> None:
    """Leaves out what is the same in every run; on a terminal the bars of downloads and of loading weights stay."""
    # Lightning walks batches with what torch deprecates (pytorch-lightning issue 21326); a resumed run's folder is not empty.
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated", category=FutureWarning)
    warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_tells_something)
    if not sys.stderr.isatty():
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # type: ignore[no-untyped-call]


def _tells_something(record: logging.LogRecord) -> bool:
    return not _IDLE.search(record.getMessage())
