"""`ScoreStore`: append, look up, join, verify, repair."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lf_lightning.errors import ConfigurationError, StoreError
from lf_lightning.store.cards import ScorerCard, Status
from lf_lightning.store.checks import checked_rows, encoded_rationales, encoded_usage, new_rows
from lf_lightning.store.durable import durable_file, make_folder, store_errors, writer_lock
from lf_lightning.store.joining import Joined, join_rows
from lf_lightning.store.keys import group_starts, text_keys
from lf_lightning.store.manifest import FILE, Manifest, ScorerEntry, parse_manifest, write_manifest
from lf_lightning.store.page import card_page
from lf_lightning.store.rows import ScorerRows, ScoreTable
from lf_lightning.store.shards import DamagedShardError, read_shard, write_shard


@dataclass(frozen=True)
class DamagedShard:
    """A shard that `verify` found damaged: whose it is, its file, how many rows it held, and what is wrong."""

    fingerprint: str
    name: str
    file: str
    rows: int
    problem: str


class ScoreStore:
    """Scores at rest: (scorer fingerprint, text key) to probabilities, status, and optionally a rationale and usage.

    Any number of processes may read and append at once. Rows are there once `append` returns, whatever happens to the process.
    Each append makes one file: append hundreds of rows at a time rather than one.

    Args:
        path: Folder of the store.
        create: Make an empty store there unless there is one.

    Raises:
        StoreError: There is no store, its manifest is damaged, it was written by a newer version, or it cannot be created.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = False) -> None:
        self.path = Path(path)
        self._manifest: tuple[bytes, Manifest] = (b"", {})
        self._rows: dict[str, ScorerRows] = {}
        if create and not (self.path / FILE).exists():
            self._create()
        self._read_manifest()

    @property
    def cards(self) -> dict[str, ScorerCard]:
        """The scorers by fingerprint, in the order in which they came."""
        return {fingerprint: entry.card for fingerprint, entry in self._read_manifest().items()}

    def resolve(self, name_or_fingerprint: str) -> str:
        """Returns the fingerprint of the scorer with this name, or else with a fingerprint that begins so.

        Raises:
            StoreError: None or several fit; the message lists the choices.
        """
        cards = self.cards
        found = [fingerprint for fingerprint, card in cards.items() if card.name == name_or_fingerprint]
        if not found and name_or_fingerprint:
            found = [fingerprint for fingerprint in cards if fingerprint.startswith(name_or_fingerprint)]
        if len(found) == 1:
            return found[0]
        choices = ", ".join(cards[fingerprint].title() for fingerprint in found or cards) or "none"
        raise StoreError(
            f"{name_or_fingerprint!r} fits {'several scorers' if found else 'no scorer'} of {str(self.path)!r}. "
            f"Choose by name or by the beginning of the fingerprint: {choices}."
        )

    def append(
        self,
        card: ScorerCard,
        texts: Sequence[str],
        probabilities: ArrayLike,
        status: ArrayLike | None = None,
        rationales: Sequence[str | None] | None = None,
        usage: Sequence[dict[str, Any] | None] | None = None,
        *,
        replace: bool = False,
    ) -> int:
        """Stores what a scorer said of n texts, all of it or nothing.

        A row that is already there with the same values and status is left as it is, rationale and usage included. A `REFUSED`
        or `UNPARSED` row may be superseded by a `SCORED` one. A scorer that is already there keeps the name it has.

        Args:
            card: The scorer.
            texts: n texts, exactly as they were scored.
            probabilities: (n, K) in [0, 1], stored as float32; multi-class rows sum to 1 within 1e-3. Rows that are not
                `SCORED` are not looked at.
            status: (n,) values of `Status`; None: all `SCORED`.
            rationales: n texts or None.
            usage: n dicts of plain values (tokens, cost, ...) or None.
            replace: Let every row supersede what is stored for its text; for replies that were read anew.

        Returns:
            The number of rows newly written.

        Raises:
            ConfigurationError: Lengths or shapes do not fit.
            DataError: A text is no string, or a row holds no probabilities.
            StoreError: A row contradicts what is stored, a shard is damaged, or the file system refused (full disk, read-only).
        """
        values, states = checked_rows(card, len(texts), probabilities, status)
        reasons = encoded_rationales(rationales, len(texts))
        notes = encoded_usage(usage, len(texts))
        if not len(texts):
            return 0
        keys = text_keys(texts)
        with writer_lock(self.path):
            manifest = self._read_manifest()
            entry = manifest.get(card.fingerprint, ScorerEntry(card))
            rows = new_rows(self._rows_of(entry), keys, values, states, replace)
            if not len(rows):
                return 0
            folder = self.path / card.fingerprint
            make_folder(folder)
            shard = write_shard(
                folder,
                entry.next_file(),
                card,
                keys=keys[rows],
                probabilities=values[rows],
                status=states[rows],
                rationales=None if reasons is None else [reasons[row] for row in rows],
                usage=None if notes is None else [notes[row] for row in rows],
            )
            self._write_manifest({**manifest, card.fingerprint: ScorerEntry(entry.card, (*entry.shards, shard))})
        return len(rows)

    def discard(self, scorer: str) -> None:
        """Removes a scorer, given by name or fingerprint, with all its rows.

        Raises:
            StoreError: Unknown scorer, or the file system refused.
        """
        with writer_lock(self.path):
            fingerprint = self.resolve(scorer)
            entry = self._read_manifest()[fingerprint]
            self._write_manifest({key: kept for key, kept in self._read_manifest().items() if key != fingerprint})
            self._rows.pop(fingerprint, None)
            folder = self.path / fingerprint
            for file in (*(shard.file for shard in entry.shards), "README.md"):
                with suppress(OSError):  # the manifest no longer lists it: what stays behind counts for nothing
                    (folder / file).unlink()

    def missing(self, scorer: ScorerCard | str, texts: Sequence[str]) -> list[int]:
        """Returns the positions of the texts that the scorer has no row for, in any status; of equal texts the first only.

        So nothing is scored, or paid for, twice.

        Args:
            scorer: A card, which need not be in the store yet, or a name or fingerprint.
            texts: The texts.

        Raises:
            StoreError: Unknown name, or a damaged shard.
        """
        fingerprint = scorer.fingerprint if isinstance(scorer, ScorerCard) else self.resolve(scorer)
        keys = text_keys(texts)
        order = np.argsort(keys, kind="stable")
        first = order[group_starts(keys[order])]
        entry = self._read_manifest().get(fingerprint)
        if entry is not None:
            first = first[self._rows_of(entry).index.find(keys[first]) < 0]
        positions: list[int] = np.sort(first).tolist()
        return positions

    def table(self, scorer: str) -> ScoreTable:
        """Returns all rows of a scorer, given by name or fingerprint.

        Raises:
            StoreError: Unknown scorer, or a damaged shard.
        """
        return self._rows_of(self._entry(scorer)).table()

    def join(self, texts: Sequence[str], scorers: Sequence[str], labels: Sequence[str]) -> Joined:
        """Returns what the scorers said of the texts, joined by content.

        Labels in another order than the scorer's are put into the order asked for. Texts without a row are `scored=False`.

        Args:
            texts: N texts; equal ones get equal scores.
            scorers: M names or fingerprints.
            labels: K label names in the order wanted.

        Raises:
            ConfigurationError: A scorer or a label is asked for twice.
            ScoreMismatchError: A scorer has other labels, or no row of it is about any of the texts.
            StoreError: Unknown scorer, or a damaged shard.
        """
        entries = [self._entry(scorer) for scorer in scorers]
        fingerprints = [entry.card.fingerprint for entry in entries]
        if len(set(fingerprints)) < len(fingerprints):
            raise ConfigurationError(f"scorers={list(scorers)!r} names a scorer twice. Name each once.")
        return join_rows(text_keys(texts), [self._rows_of(entry) for entry in entries], labels)

    def rationales(self, scorer: str, texts: Sequence[str]) -> list[str | None]:
        """Returns the scorer's rationale for each text, None where there is none.

        Raises:
            StoreError: Unknown scorer, or a damaged shard.
        """
        found: list[str | None] = [None] * len(texts)
        rows, hits, of_hits = self._lookup(scorer, texts)
        for shard, positions, own in rows.by_shard(of_hits):
            for place, text in zip(hits[positions], shard.rationales(own), strict=True):
                found[place] = text
        return found

    def has_rationales(self, scorer: str) -> bool:
        """Returns whether the scorer gave a rationale for any text.

        Raises:
            StoreError: Unknown scorer, or a damaged shard.
        """
        return any(shard.has_rationales for shard in self._rows_of(self._entry(scorer)).shards)

    def usage(self, scorer: str, texts: Sequence[str]) -> list[dict[str, Any] | None]:
        """Returns what each text's score cost, as it was noted, None where nothing was.

        Raises:
            StoreError: Unknown scorer, or a damaged shard.
        """
        found: list[dict[str, Any] | None] = [None] * len(texts)
        rows, hits, of_hits = self._lookup(scorer, texts)
        for shard, positions, own in rows.by_shard(of_hits):
            for place, note in zip(hits[positions], shard.usage(own), strict=True):
                found[place] = note
        return found

    def counts(self, scorer: str) -> dict[Status, int]:
        """Returns how many texts the scorer has of each status.

        Raises:
            StoreError: Unknown scorer, or a damaged shard.
        """
        return self._rows_of(self._entry(scorer)).counts()

    def verify(self) -> list[DamagedShard]:
        """Reads every shard, compares its SHA-256, and returns the damaged ones: an empty list if all is well.

        Raises:
            StoreError: A shard cannot be read for another reason, such as permissions.
        """
        damaged = []
        for fingerprint, entry in self._read_manifest().items():
            for shard in entry.shards:
                try:
                    read_shard(self.path / fingerprint, shard, entry.card, thorough=True)
                except DamagedShardError as error:
                    damaged.append(DamagedShard(fingerprint, entry.card.name, shard.file, shard.rows, str(error)))
        return damaged

    def repair(self) -> list[DamagedShard]:
        """Takes the damaged shards out of the store and returns them; their rows can then be scored again.

        Their files stay, renamed to `*.damaged`.

        Raises:
            StoreError: The file system refused.
        """
        with writer_lock(self.path):
            damaged = self.verify()
            lost = {(shard.fingerprint, shard.file) for shard in damaged}
            kept = {
                fingerprint: ScorerEntry(
                    entry.card, tuple(shard for shard in entry.shards if (fingerprint, shard.file) not in lost)
                )
                for fingerprint, entry in self._read_manifest().items()
            }
            if lost:
                self._write_manifest(kept)
            for fingerprint, file in lost:
                path = self.path / fingerprint / file
                with store_errors(path), suppress(FileNotFoundError):
                    path.replace(path.with_name(file + ".damaged"))
        return damaged

    def _create(self) -> None:
        make_folder(self.path, parents=True)
        with writer_lock(self.path):
            if (self.path / FILE).exists():
                return
            if any(self.path.glob("*/*.arrow")):
                raise StoreError(
                    f"{str(self.path)!r} has shards but no {FILE}, so it was not made into an empty store. Restore that file "
                    "from a copy, or choose a new folder."
                )
            write_manifest(self.path, {})

    def _read_manifest(self) -> Manifest:
        try:
            raw = (self.path / FILE).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreError(
                f"There is no score store at {str(self.path)!r}: it has no {FILE}. Check the path, or make one: "
                "ScoreStore(path, create=True)."
            ) from error
        except OSError as error:
            message = f"The manifest {str(self.path / FILE)!r} cannot be read: {error}. Check the permissions."
            raise StoreError(message) from error
        if raw != self._manifest[0] or not raw:
            self._manifest = (raw, parse_manifest(self.path, raw))
        return self._manifest[1]

    def _write_manifest(self, manifest: Mapping[str, ScorerEntry]) -> None:
        before = self._read_manifest()
        write_manifest(self.path, manifest)
        for fingerprint, entry in manifest.items():
            if before.get(fingerprint) != entry:
                # The rows are safe by now, and the page says nothing that the manifest does not: no reason to fail.
                with suppress(StoreError), durable_file(self.path / fingerprint / "README.md") as file:
                    file.write(card_page(entry, self._rows_of(entry).counts()))

    def _entry(self, scorer: str) -> ScorerEntry:
        return self._read_manifest()[self.resolve(scorer)]

    def _rows_of(self, entry: ScorerEntry) -> ScorerRows:
        fingerprint = entry.card.fingerprint
        rows = self._rows.get(fingerprint) or ScorerRows.none_of(entry.card)
        self._rows[fingerprint] = rows = rows.brought_up_to(entry, self.path / fingerprint)
        return rows

    def _lookup(self, scorer: str, texts: Sequence[str]) -> tuple[ScorerRows, NDArray[np.int64], NDArray[np.int64]]:
        rows = self._rows_of(self._entry(scorer))
        found = rows.index.find(text_keys(texts))
        hits = np.flatnonzero(found >= 0)
        return rows, hits, found[hits]
