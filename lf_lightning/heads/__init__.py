"""Fusion heads: how the encoder's and the scorers' opinions become one."""

from lf_lightning.heads.base import Evidence, FusionHead
from lf_lightning.heads.gated import GatedFusion
from lf_lightning.heads.mlp import FusionMLP
from lf_lightning.heads.pool import AverageFusion, LinearStack, PooledFusion
from lf_lightning.heads.voting import MajorityFusion, MixtureFusion, RoutedFusion

__all__ = [
    "AverageFusion",
    "Evidence",
    "FusionHead",
    "FusionMLP",
    "GatedFusion",
    "LinearStack",
    "MajorityFusion",
    "MixtureFusion",
    "PooledFusion",
    "RoutedFusion",
]
