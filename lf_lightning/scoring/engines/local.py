"""Scoring in this process, one shard after the other."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from lf_lightning.scoring.base import Advance, Scorer, Scores


def score_here(
    scorer: Scorer, texts: Sequence[str], shard_size: int | None, advance: Advance
) -> Generator[tuple[list[str], Scores], None, None]:
    """Yields texts and their scores, shard by shard; ends behind the shard whose scores say `halt`.

    Args:
        scorer: Who scores.
        texts: Distinct texts.
        shard_size: Texts of a shard; None: the scorer's own.
        advance: Told how many more texts are done.
    """
    size = shard_size or scorer.shard_size
    for first in range(0, len(texts), size):
        shard = list(texts[first : first + size])
        scores = scorer.score(shard, advance)
        yield shard, scores
        if scores.halt is not None:
            return
