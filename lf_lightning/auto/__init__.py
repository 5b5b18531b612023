"""`AutoFusionClassifier`: a fusion of encoder and LLMs in a few lines, as a scikit-learn estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lf_lightning.lazy import lazy

if TYPE_CHECKING:
    from lf_lightning.auto.classifier import AutoFusionClassifier as AutoFusionClassifier

__all__ = ["AutoFusionClassifier"]

__getattr__, __dir__ = lazy(__name__, {"AutoFusionClassifier": "lf_lightning.auto.classifier"})
