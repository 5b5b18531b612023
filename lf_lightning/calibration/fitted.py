"""Modules whose state is fitted, not trained: buffers that are NaN until then."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lf_lightning.errors import NotFittedError


class FittedModule(nn.Module, ABC):
    """Base of modules with fitted buffers: they travel in the state dict, and no use is possible before they are there.

    A subclass registers its buffers filled with NaN and names one that is always finite once fitted in `_witness`. The buffers
    keep float32 under `.to(dtype)`, `.half()` and true bf16 training: a rounded temperature would be another calibration.

    Attributes:
        report: What the last fit did, in a few plain values; empty before, and after a reload.
    """

    _witness: str

    def __init__(self) -> None:
        super().__init__()
        self.report: dict[str, str | int | float] = {}
        self._seen_fitted = False
        self.register_load_state_dict_post_hook(_look_again)  # type: ignore[no-untyped-call]

    @property
    def is_fitted(self) -> bool:
        """Whether the state is there. Once found, it is not looked for again, so that no forward waits for the device."""
        if not self._seen_fitted:
            self._seen_fitted = not bool(torch.isnan(self.get_buffer(self._witness)).any())
        return self._seen_fitted

    def _require_fitted(self) -> None:
        if not self.is_fitted:
            name = type(self).__name__
            raise NotFittedError(
                f"{name} was used before it was fitted. Way out: call {name}.fit(...) on validation rows "
                "(the calibration callback does so at the end of a fit), or load a checkpoint of a fitted model."
            )

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        def keep_dtype(tensor: Tensor) -> Any:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(keep_dtype, recurse)  # type: ignore[no-untyped-call]


def _look_again(module: FittedModule, _incompatible_keys: Any) -> None:
    # A state dict of an unfitted model may have been loaded over a fitted one.
    module._seen_fitted = False
    module.report = {}
