"""Fusion heads: how the encoder's and the scorers' opinions become one."""

from lf_lightning.heads.base import Evidence, FusionHead
from lf_lightning.heads.gated import GatedFusion
from lf_lightning.heads.mlp import FusionMLP
from lf_lightning.heads.pool import AverageFusion, LinearStack, PooledFusion

__all__ = ["AverageFusion", "Evidence", "FusionHead", "FusionMLP", "GatedFusion", "LinearStack", "PooledFusion"]
