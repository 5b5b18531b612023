"""What Lightning and transformers say of themselves, left out while a classifier works."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Leaves out what Lightning says of devices, and transformers' bars; both, and warnings, are as before afterwards."""
    from transformers.utils import logging as of_transformers

    logger = logging.getLogger("lightning.pytorch")
    level, bars = logger.level, of_transformers.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    of_transformers.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            # Lightning walks batches with what torch deprecates (pytorch-lightning issue 21326).
            warnings.filterwarnings(
                "ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated", category=FutureWarning
            )
            warnings.filterwarnings("ignore", message=r"GPU available but not used", category=UserWarning)
            yield
    finally:
        logger.setLevel(level)
        if bars:
            of_transformers.enable_progress_bar()  # type: ignore[no-untyped-call]
