"""What DDP is told before a fit in which some weights rest."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.strategies import DDPStrategy

from lf_lightning.errors import ConfigurationError


def let_ddp_rest(strategy: Any, why: str, or_else: str = "") -> None:
    """Tells DDP to look for weights without a gradient: else it waits for the gradient of each weight.

    Args:
        strategy: The trainer's, of any kind.
        why: Which weights rest when, for the error message.
        or_else: Another way out, for the error message.

    Raises:
        ConfigurationError: It was told the contrary.
    """
    if isinstance(strategy, DDPStrategy) and not strategy._ddp_kwargs.setdefault("find_unused_parameters", True):
        raise ConfigurationError(
            f"find_unused_parameters=False: {why}. Way out: trainer.strategy: ddp_find_unused_parameters_true{or_else}."
        )
