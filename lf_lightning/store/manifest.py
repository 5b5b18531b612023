"""The manifest: which scorers a store has and which shards count. Written last, so that a crash leaves the state before."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from lf_lightning.errors import ConfigurationError, StoreError
from lf_lightning.store.cards import ScorerCard
from lf_lightning.store.durable import durable_file
from lf_lightning.store.shards import ShardEntry

FILE = "manifest.json"
FORMAT = "lf_lightning score store"
VERSION = 1

_SHARD = re.compile(r"[0-9]{6,}\.arrow")


@dataclass(frozen=True)
class ScorerEntry:
    """A scorer and its shards in the order of writing."""

    card: ScorerCard
    shards: tuple[ShardEntry, ...] = ()

    def next_file(self) -> str:
        """Returns the name of the next shard; a file of that name is what a crash left, and may be overwritten."""
        return f"{max((int(shard.file[:-6]) for shard in self.shards), default=-1) + 1:06d}.arrow"


Manifest: TypeAlias = Mapping[str, ScorerEntry]
"""Scorers by fingerprint. Treated as immutable."""


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Replaces the manifest at once.

    Raises:
        StoreError: The file system refused; the manifest is the one before.
    """
    scorers = {
        fingerprint: {**entry.card.plain(), "shards": [asdict(shard) for shard in entry.shards]}
        for fingerprint, entry in manifest.items()
    }
    content = {"format": FORMAT, "version": VERSION, "scorers": scorers}
    with durable_file(root / FILE) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False).encode("ascii"))


def parse_manifest(root: Path, raw: bytes) -> Manifest:
    """Returns the manifest in `raw`.

    Raises:
        StoreError: It is garbled, of another kind of folder, or written by a newer version of this package.
    """
    try:
        content = json.loads(raw)
        if not isinstance(content, dict) or content["format"] != FORMAT:
            raise ValueError(f"it does not say format={FORMAT!r}")
        version = content["version"]
        if type(version) is not int or version < 1:
            raise ValueError(f"version={version!r}")
        if version > VERSION:
            raise StoreError(
                f"The score store {str(root)!r} has format version {version}; this lf_lightning reads up to {VERSION}. "
                "Upgrade lf_lightning, or score into a new folder."
            )
        scorers = {fingerprint: _entry(fingerprint, plain) for fingerprint, plain in content["scorers"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ConfigurationError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise StoreError(
            f"The manifest {str(root / FILE)!r} is {'garbled' if raw.strip() else 'empty'} ({reason}). Restore that file from "
            "a copy; or move the folder away and score again (replies that were paid for are in the response cache)."
        ) from error
    return MappingProxyType(scorers)


def _entry(fingerprint: str, plain: dict[str, Any]) -> ScorerEntry:
    card = ScorerCard(plain["name"], plain["labels"], plain["task"], plain["spec"])
    if card.fingerprint != fingerprint:
        raise ValueError(f"labels, task or spec of scorer {card.name!r} do not have the fingerprint {fingerprint!r}")
    shards = tuple(ShardEntry(**shard) for shard in plain["shards"])
    for shard in shards:
        kinds = (type(shard.file), type(shard.rows), type(shard.bytes), type(shard.sha256))
        # The name is checked so that a manifest from elsewhere cannot point outside its folder.
        if kinds != (str, int, int, str) or not _SHARD.fullmatch(shard.file) or shard.rows < 1:
            raise ValueError(f"a shard of scorer {card.name!r}: {shard}")
    return ScorerEntry(card, shards)
