"""How far the gateway is, in the words of a scorer."""

from __future__ import annotations

from collections.abc import Callable

from lf_lightning.scoring.base import Advance
from lf_lightning.scoring.gateway.answers import Progress


class Told:
    """Passes on how far a run is: requests become texts, and costs words.

    Args:
        texts: How many there are.
        advance: As of `Scorer.score`.
        watch: As of `Scorer`.
    """

    def __init__(self, texts: int, advance: Advance | None, watch: Callable[[str], object] | None) -> None:
        self._texts, self._advance, self._watch = texts, advance, watch
        self._done = 0

    def progress(self, now: Progress) -> None:
        """Told by the gateway."""
        self._to(int(self._texts * (now.done + now.failed) / max(now.total, 1)))
        if self._watch is not None:
            words = [f"{now.cached:,} cached", f"{now.failed:,} failed", f"${now.cost_usd:.4f} so far"]
            self._watch(" · ".join([*words, *([] if now.to_go_usd is None else [f"${now.to_go_usd:.4f} to go"])]))

    def finish(self) -> None:
        """All texts are done, one way or the other."""
        self._to(self._texts)

    def _to(self, done: int) -> None:
        if self._advance is not None and done > self._done:
            self._advance(done - self._done)
            self._done = done
