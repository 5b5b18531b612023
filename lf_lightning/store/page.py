"""The page beside a scorer's shards, for people. `manifest.json` is what counts."""

from __future__ import annotations

import json

from lf_lightning.store.cards import Status
from lf_lightning.store.manifest import ScorerEntry


def card_page(entry: ScorerEntry, counts: dict[Status, int]) -> bytes:
    """Returns the Markdown of a scorer's card, UTF-8. Names and specs stand inside JSON, so none can break out of its place."""
    card = entry.card
    by_status = ", ".join(f"{count:,} {status.name.lower()}" for status, count in counts.items())
    about = {"name": card.name, "task": card.task, "labels": card.labels, "spec": dict(card.spec)}
    shards = [
        f"| {shard.file} | {shard.rows:,} | {shard.bytes:,} | `{shard.sha256[:16]}` |" for shard in entry.shards[-SHOWN_SHARDS:]
    ]
    lines = [
        "# Scores of one scorer",
        "",
        f"Fingerprint `{card.fingerprint}`: SHA-256 of labels, spec and task as below (keys sorted, no spaces, ASCII).",
        "",
        "```json",
        json.dumps(about, indent=2, ensure_ascii=False, allow_nan=False),
        "```",
        "",
        f"{sum(counts.values()):,} texts: {by_status}. {len(entry.shards):,} shards"
        + (f", the last {SHOWN_SHARDS}:" if len(entry.shards) > SHOWN_SHARDS else ":"),
        "",
        "| file | rows | bytes | SHA-256 |",
        "|---|---:|---:|---|",
        *shards,
        "",
        "Written by lf_lightning after each append; `../manifest.json` is what counts.",
        "",
    ]
    # A lone surrogate has no UTF-8; written as \\udxxx it is still the same JSON.
    return "\n".join(lines).encode("utf-8", "backslashreplace")


SHOWN_SHARDS = 20
