"""The score store: what scorers said of texts, as tensors with provenance, joined to the texts by content.

On disk a store is a folder:

    manifest.json             which scorers there are and which shards count, written last and at once
    .lock                     held by the one process that is appending
    <fingerprint>/README.md   the scorer's card for people: name, labels, what it was asked, rows by status
    <fingerprint>/000000.arrow, 000001.arrow, ...   append-only, memory-mapped Arrow files

It can always be rebuilt from the replies that were paid for, which the response cache keeps.
"""

from __future__ import annotations

from lf_lightning.store.cards import ScorerCard, Status
from lf_lightning.store.joining import Joined
from lf_lightning.store.keys import text_key, text_keys
from lf_lightning.store.rows import ScoreTable
from lf_lightning.store.store import DamagedShard, ScoreStore

__all__ = ["DamagedShard", "Joined", "ScoreStore", "ScoreTable", "ScorerCard", "Status", "text_key", "text_keys"]
