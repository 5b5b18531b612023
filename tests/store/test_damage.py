"""Every way a store can be damaged: a named error with the way out, and never a wrong score."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest

from lf_lightning.errors import StoreError
from lf_lightning.store import ScorerCard, ScoreStore, shards
from tests.conftest import unprivileged

Rows = Callable[..., Any]
Damage = Callable[[Path], None]


@pytest.fixture
def filled(store: ScoreStore, card: ScorerCard, distributions: Rows) -> Path:
    """Returns the folder of a store with two shards of ten rows."""
    values = distributions(20)
    store.append(card, [f"{n}" for n in range(10)], values[:10])
    store.append(card, [f"{n}" for n in range(10, 20)], values[10:])
    return store.path


def shard_of(path: Path, number: int = 1) -> Path:
    return next(path.glob(f"*/{number:06d}.arrow"))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path, at: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at or len(content) // 2] ^= 1
    path.write_bytes(content)


def swap(path: Path) -> None:
    """Puts the other shard, of the same size, in its place."""
    path.write_bytes(path.with_name("000000.arrow").read_bytes())


def garble(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


damages = pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (Path.unlink, "it is missing"),
        (truncate, "bytes instead of"),
        (lambda path: path.write_bytes(b""), "it has 0 bytes instead of"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes instead of"),
        (flip, "SHA-256"),
        (swap, "SHA-256"),
        (garble, "SHA-256"),
    ],
)


@damages
def test_a_damaged_shard_is_named_listed_and_repaired(
    filled: Path, card: ScorerCard, distributions: Rows, damage: Damage, problem: str
) -> None:
    damage(shard_of(filled))
    store = ScoreStore(filled)
    uses: list[Callable[[], object]] = [
        lambda: store.join(["1"], ["gpt"], card.labels),
        lambda: store.missing(card, ["1"]),
        lambda: store.append(card, ["new"], distributions(1)),
        lambda: store.table("gpt"),
        lambda: store.rationales("gpt", ["1"]),
    ]
    for use in uses:
        with pytest.raises(StoreError, match=f"000001.arrow.*{problem}.*repair"):
            use()
    (found,) = store.verify()
    assert (found.fingerprint, found.name, found.file, found.rows) == (card.fingerprint, "gpt", "000001.arrow", 10)
    assert store.repair() == [found]
    assert store.verify() == []
    values = distributions(20)
    assert store.table("gpt").probabilities.tolist() == values[:10].tolist()
    assert store.missing(card, [f"{n}" for n in range(20)]) == list(range(10, 20))
    assert store.append(card, [f"{n}" for n in range(10, 20)], values[10:]) == 10
    assert ScoreStore(filled).join(["15"], ["gpt"], card.labels).scores[0, 0].tolist() == values[15].tolist()


def test_other_scorers_stay_readable(filled: Path, distributions: Rows) -> None:
    other = ScorerCard("other", ("a", "b", "c"), "multiclass", {})
    ScoreStore(filled).append(other, ["x"], distributions(1))
    shard_of(filled).unlink()
    assert ScoreStore(filled).join(["x"], ["other"], other.labels).scored.all()


def test_every_changed_byte_of_a_shard_is_found(filled: Path) -> None:
    path = shard_of(filled)
    good = path.read_bytes()
    for at in range(0, len(good), 97):
        flip(path, at or 1)
        assert len(ScoreStore(filled).verify()) == 1
        path.write_bytes(good)
    assert ScoreStore(filled).verify() == []


def test_large_shards_have_their_checksum_verified_on_demand(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "CHECKED_BYTES", 0)
    path = shard_of(filled)
    good = path.read_bytes()
    # The last byte before the footer's padding lies in no column: without the checksum nobody would know.
    flip(path, good.index(b"ARROW1") + 6)
    ScoreStore(filled).table("gpt")
    assert [damaged.file for damaged in ScoreStore(filled).verify()] == ["000001.arrow"]
    garble(path)
    with pytest.raises(StoreError, match="no Arrow file"):
        ScoreStore(filled).table("gpt")
    # A whole Arrow file of the right size, yet of another scorer.
    path.write_bytes(good.replace(b"fingerprint", b"fingerprinT"))
    with pytest.raises(StoreError, match="columns or its number of rows"):
        ScoreStore(filled).table("gpt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"\x00\xff\xfe garbage", "is garbled"),
        (b'{"format": "lf_lightning score store", "versi', "is garbled"),
        (b"[]", "is garbled .*format"),
        (b"null", "is garbled"),
        (b'{"format": "lf_lightning score store", "version": 1}', "is garbled .*no 'scorers'"),
        (b'{"format": "lf_lightning score store", "version": "1", "scorers": {}}', "version='1'"),
        (b'{"format": "lf_lightning score store", "version": 2, "scorers": 3}', "has format version 2.*Upgrade"),
        (b"[" * 100_000, "is garbled"),
    ],
)
def test_a_damaged_manifest(filled: Path, content: bytes, message: str) -> None:
    (filled / "manifest.json").write_bytes(content)
    with pytest.raises(StoreError, match=message):
        ScoreStore(filled)
    with pytest.raises(StoreError, match=message):
        ScoreStore(filled, create=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"world"', '"World"'),
        ('"m-1"', '"m-2"'),
        ("multiclass", "multilabel"),
        ("multiclass", "multiclas"),
        ('"000001.arrow"', '"../../../x.arrow"'),
        ('"rows": 10', '"rows": -1'),
        ('"rows": 10', '"rows": null'),
        ('"rows": 10', '"lines": 10'),
        ('"shards": [', '"shards": [1, '),
        ('"labels": [', '"labels": 1, "was": ['),
    ],
)
def test_a_manifest_that_says_something_else(filled: Path, old: str, new: str) -> None:
    path = filled / "manifest.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(StoreError, match="garbled"):
        ScoreStore(filled)


def test_a_wrong_number_of_rows_in_the_manifest(filled: Path) -> None:
    path = filled / "manifest.json"
    path.write_text(path.read_text().replace('"rows": 10', '"rows": 9'))
    with pytest.raises(StoreError, match="number of rows"):
        ScoreStore(filled).table("gpt")


def test_a_lost_manifest_is_not_replaced_by_an_empty_one(filled: Path) -> None:
    (filled / "manifest.json").unlink()
    with pytest.raises(StoreError, match="no score store"):
        ScoreStore(filled)
    with pytest.raises(StoreError, match=r"has shards but no manifest\.json"):
        ScoreStore(filled, create=True)


def test_a_path_that_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no score store"):
        ScoreStore(tmp_path / "missing")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StoreError, match="no score store"):
        ScoreStore(file)
    with pytest.raises(StoreError, match="could not be written"):
        ScoreStore(file, create=True)


def test_files_that_a_crash_left_are_ignored_and_overwritten(filled: Path, card: ScorerCard, distributions: Rows) -> None:
    folder = shard_of(filled).parent
    (folder / "000002.arrow").write_bytes(b"half a sha")
    (folder / "000002.arrow.tmp").write_bytes(b"ha")
    (filled / "manifest.json.tmp").write_bytes(b'{"form')
    store = ScoreStore(filled, create=True)
    assert store.verify() == []
    assert len(store.table("gpt").keys) == 20
    assert store.append(card, ["new"], distributions(1)) == 1
    assert len(ScoreStore(filled).table("gpt").keys) == 21
    assert not list(filled.rglob("*.tmp"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
@pytest.mark.parametrize("name", ["{}/000002.arrow.tmp", "manifest.json.tmp"])
def test_a_full_disk_stops_clearly_and_loses_nothing(filled: Path, card: ScorerCard, distributions: Rows, name: str) -> None:
    full = filled / name.format(card.fingerprint)
    full.symlink_to("/dev/full")
    store = ScoreStore(filled)
    with pytest.raises(StoreError, match=r"disk is full.*intact"):
        store.append(card, ["new"], distributions(1))
    for reader in (store, ScoreStore(filled)):
        assert len(reader.table("gpt").keys) == 20
        assert reader.missing(card, ["new", "1"]) == [0]
    assert store.append(card, ["new"], distributions(1)) == 1
    assert ScoreStore(filled).verify() == []


def test_the_rows_are_safe_when_only_the_page_could_not_be_written(filled: Path, card: ScorerCard, distributions: Rows) -> None:
    page = shard_of(filled).parent / "README.md"
    page.unlink()
    page.mkdir()
    assert ScoreStore(filled).append(card, ["new"], distributions(1)) == 1
    assert len(ScoreStore(filled).table("gpt").keys) == 21


def test_a_read_only_folder_can_be_read_but_not_written(card: ScorerCard, distributions: Rows) -> None:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "store"
        store = ScoreStore(path, create=True)
        store.append(card, ["a"], distributions(1))
        for entry in [path, *path.rglob("*")]:
            entry.chmod(0o555 if entry.is_dir() else 0o444)
        try:
            with unprivileged():
                reader = ScoreStore(path)
                assert reader.join(["a"], ["gpt"], card.labels).scored.all()
                assert reader.verify() == []
                with pytest.raises(StoreError, match=r"may not be written to.*permissions"):
                    reader.append(card, ["b"], distributions(1))
                with pytest.raises(StoreError, match="may not be written to"):
                    ScoreStore(path / "new", create=True)
            shard_of(path, 0).chmod(0)
            with unprivileged():
                reader = ScoreStore(path)
                for use in (lambda: reader.table("gpt"), reader.verify):
                    with pytest.raises(StoreError, match=r"cannot be read: .*Check the permissions"):
                        use()
        finally:
            for entry in [path, *path.rglob("*")]:
                entry.chmod(0o755)


class _Marker:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (os.environ["LF_TEST_MARKER"],))


@pytest.mark.parametrize("name", ["manifest.json", "shard"])
def test_a_malicious_pickle_never_runs(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    marker = tmp_path / "ran"
    monkeypatch.setenv("LF_TEST_MARKER", str(marker))
    content = pickle.dumps(_Marker())
    path = shard_of(filled) if name == "shard" else filled / name
    path.write_bytes(content)
    if name == "shard":
        manifest = json.loads((filled / "manifest.json").read_text())
        (entry,) = manifest["scorers"].values()
        entry["shards"][1] |= {"bytes": len(content), "sha256": sha256(content).hexdigest()}
        (filled / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=r"no Arrow file|garbled"):
        ScoreStore(filled).table("gpt")
    assert not marker.exists()


def test_shards_are_uncompressed_mapped_and_open_to_other_readers(filled: Path) -> None:
    before = pa.total_allocated_bytes()
    table = ScoreStore(filled).table("gpt")
    assert pa.total_allocated_bytes() - before < 4096
    with pa.memory_map(str(shard_of(filled, 0))) as file:
        columns = pa.ipc.open_file(file).read_all()
    assert columns.column_names == ["key", "probabilities", "status", "rationale", "usage"]
    assert columns["probabilities"].to_pylist()[0] == table.probabilities[0].tolist()
