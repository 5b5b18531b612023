"""A fitted system as an HTTP service: requests batched together, limits that say what they are, nothing of a text in a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lf_lightning.lazy import lazy

if TYPE_CHECKING:
    from lf_lightning.serving.app import create_app as create_app
    from lf_lightning.serving.batching import Batcher as Batcher
    from lf_lightning.serving.limits import Limits as Limits
    from lf_lightning.serving.server import serve as serve
    from lf_lightning.serving.service import Service as Service

_HOMES = {
    "Batcher": "lf_lightning.serving.batching",
    "Limits": "lf_lightning.serving.limits",
    "Service": "lf_lightning.serving.service",
    "create_app": "lf_lightning.serving.app",
    "serve": "lf_lightning.serving.server",
}

__all__ = ["Batcher", "Limits", "Service", "create_app", "serve"]

__getattr__, __dir__ = lazy(__name__, _HOMES)
