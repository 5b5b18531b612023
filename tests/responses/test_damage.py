"""Every way a cache can be damaged: a named error or a missing row, never a wrong reply; and repair keeps the sound rows."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from lf_lightning.errors import MissingDependencyError, ResponseCacheError
from lf_lightning.responses import ResponseCache, SqliteDictResponses, SQLiteResponses
from tests.conftest import unprivileged

COUNT = 400
PAGE = 4096


@pytest.fixture
def file(cache: ResponseCache, worker: Any, tmp_path: Path) -> Path:
    """Returns the file of a closed cache with `COUNT` replies."""
    cache.put([worker.response(number) for number in range(COUNT)])
    cache.close()
    return tmp_path / "responses" / "responses.sqlite"


@pytest.fixture
def rows(worker: Any) -> dict[str, Any]:
    return {worker.key_of(number): worker.response(number) for number in range(COUNT)}


def overwrite(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as opened:
        opened.seek(at)
        opened.write(content)


def test_a_changed_byte_in_a_value_makes_the_row_missing(
    cache: ResponseCache, file: Path, rows: dict[str, Any], worker: Any
) -> None:
    content = file.read_bytes()
    at = content.index(b"text 77 text 77")
    overwrite(file, at, b"T")
    bad = worker.key_of(77)
    assert cache.get(list(rows)) == {key: row for key, row in rows.items() if key != bad}
    assert [row.key for row in cache.scan()] == sorted(rows.keys() - {bad})
    assert [damage.where for damage in cache.verify()] == [bad]
    # It is asked again, and the new reply takes its place.
    cache.put([worker.response(77)])
    assert cache.get(list(rows)) == rows
    assert cache.verify() == []


def test_repair_removes_a_row_of_another_checksum(cache: ResponseCache, file: Path, rows: dict[str, Any], worker: Any) -> None:
    for number in (5, 9):
        overwrite(file, file.read_bytes().index(f"text {number} text".encode()) + 7, b"\xff")
    assert cache.repair() == 2
    assert cache.verify() == []
    assert cache.get(list(rows)).keys() == rows.keys() - {worker.key_of(5), worker.key_of(9)}


def test_two_rows_that_change_places_are_both_missing(
    cache: ResponseCache, file: Path, rows: dict[str, Any], worker: Any
) -> None:
    one, other = worker.key_of(1), worker.key_of(2)
    with closing(sqlite3.connect(file)) as connection, connection:
        values = dict(connection.execute("SELECT key, value FROM responses WHERE key IN (?, ?)", (one, other)))
        connection.executemany("UPDATE responses SET value = ? WHERE key = ?", [(values[one], other), (values[other], one)])
    assert cache.get([one, other]) == {}
    assert {damage.where for damage in cache.verify()} == {one, other}


@pytest.mark.parametrize("value", [None, 3, b"", '["', '["x",{}]', b"\xff\xfe"])
def test_a_value_of_any_kind_is_missing(cache: ResponseCache, file: Path, worker: Any, value: object) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE responses SET value = ? WHERE key = ?", (value, worker.key_of(3)))
    assert cache.get([worker.key_of(3)]) == {}
    assert cache.repair() == 1
    assert len(list(cache.scan())) == COUNT - 1


@pytest.mark.parametrize("content", [b"", b"\x00" * 50_000, b"no database at all", b"\x80\x04\x95" * 3000])
def test_a_file_of_something_else_is_named_and_repaired(cache: ResponseCache, file: Path, worker: Any, content: bytes) -> None:
    file.write_bytes(content)
    for use in (lambda: cache.get([worker.key_of(1)]), lambda: cache.put([worker.response(1)]), lambda: list(cache.scan())):
        with pytest.raises(ResponseCacheError, match=r"damaged.*lf cache repair --responses"):
            use()
    assert file.read_bytes() == content
    assert len(cache.verify()) == 1
    cache.repair()
    assert cache.verify() == []
    cache.put([worker.response(1)])
    assert len(cache.get([worker.key_of(1)])) == 1
    (kept,) = file.parent.glob("*.damaged-*")
    assert kept.read_bytes() == content


def test_a_truncated_file_keeps_what_is_left(cache: ResponseCache, file: Path, rows: dict[str, Any]) -> None:
    size = file.stat().st_size
    for share in (0.9, 0.5):
        os.truncate(file, int(size * share))
        with pytest.raises(ResponseCacheError, match="lf cache repair"):
            cache.get(list(rows))
        assert cache.verify()
        lost = cache.repair()
        found = cache.get(list(rows))
        assert found.items() <= rows.items()
        assert len(found) > COUNT * (share - 0.15)
        assert lost >= 0
        assert cache.verify() == []
        cache.close()


def test_every_damaged_page_costs_only_its_own_rows(cache: ResponseCache, file: Path, rows: dict[str, Any]) -> None:
    good = file.read_bytes()
    pages = len(good) // PAGE
    rng = random.Random(0)
    kept = []
    for page in [0, 1, 2, *rng.sample(range(3, pages), 12), pages - 1]:
        file.write_bytes(good)
        overwrite(file, page * PAGE, rng.randbytes(PAGE))
        problems = cache.verify()
        assert problems
        try:
            assert cache.get(list(rows)).items() <= rows.items()
        except ResponseCacheError as error:
            assert "lf cache repair" in str(error)  # noqa: PT017
        cache.close()
        lost = cache.repair()
        found = cache.get(list(rows))
        assert found.items() <= rows.items()
        assert cache.verify() == []
        kept.append((page, len(found)))
        if page > 1:
            assert len(found) + lost >= COUNT
        cache.close()
    # Page 1 (from 0) is the root of the table: without it no leaf can be reached.
    assert all(count >= COUNT - 12 for page, count in kept if page != 1), kept


def test_rows_in_the_log_survive_a_damaged_file(
    cache: ResponseCache, file: Path, worker: Any, start: Callable[..., Any]
) -> None:
    process = start("put", type(cache).__name__, file.parent, 1000, 1020, 1, 1)
    for _ in range(20):
        process.stdout.readline()
    process.kill()
    process.wait()
    if not file.with_name(file.name + "-wal").exists():
        pytest.skip("the writer ended before it was killed")
    overwrite(file, 10 * PAGE, bytes(PAGE))
    cache.repair()
    assert len(cache.get([worker.key_of(number) for number in range(1000, 1020)])) == 20


def test_a_newer_schema_is_refused_and_left_alone(cache: ResponseCache, file: Path, worker: Any) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version=2")
    before = file.read_bytes()
    for use in (lambda: cache.get(["0"]), lambda: cache.put([worker.response(1)]), cache.verify, cache.repair):
        with pytest.raises(ResponseCacheError, match=r"schema version 2.*Upgrade"):
            use()
    assert file.read_bytes() == before


def test_another_database_is_refused_and_left_alone(cache: ResponseCache, file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE mine(a)")
    for use in (lambda: cache.get(["0"]), cache.verify, cache.repair):
        with pytest.raises(ResponseCacheError, match="another SQLite file"):
            use()


def test_a_log_without_its_file_is_refused(cache: ResponseCache, file: Path) -> None:
    file.unlink()
    file.with_name(file.name + "-wal").write_bytes(b"x")
    with pytest.raises(ResponseCacheError, match="Put the file back"):
        cache.get(["0"])


def test_repair_waits_for_other_users(
    cache: ResponseCache, backend: type[ResponseCache], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lf_lightning.responses.in_use.ALONE_SECONDS", 0.1)
    other = backend(str(file.parent))
    other.get(["0"])
    overwrite(file, 10 * PAGE, bytes(PAGE))
    with pytest.raises(ResponseCacheError, match=r"has .* open.*end it"):
        cache.repair()
    other.close()
    assert cache.repair() > 0


def test_a_read_only_folder_is_read_but_not_written(backend: type[ResponseCache], worker: Any) -> None:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "responses"
        cache = backend(str(path))
        cache.put([worker.response(1)])
        cache.close()
        for entry in [path, *path.iterdir()]:
            entry.chmod(0o555 if entry.is_dir() else 0o444)
        try:
            with unprivileged():
                assert len(cache.get([worker.key_of(1)])) == 1
                with pytest.raises(ResponseCacheError, match=r"permissions"):
                    cache.put([worker.response(2)])
                assert len(cache.get([worker.key_of(1)])) == 1
                new = backend(str(Path(folder) / "new"))
                with pytest.raises(ResponseCacheError, match=r"permissions"):
                    new.put([worker.response(2)])
        finally:
            for entry in [path, *path.iterdir()]:
                entry.chmod(0o755)
        # As soon as it may be written to, it is.
        cache.put([worker.response(2)])
        assert len(cache.get([worker.key_of(1), worker.key_of(2)])) == 2
        cache.close()


def test_a_missing_sqlitedict_names_the_extra(tmp_path: Path, worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlitedict", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "lf-lightning\[sqlitedict\]"'):
        SqliteDictResponses(str(tmp_path)).put([worker.response(1)])


def test_both_backends_read_one_file_and_so_does_sqlitedict(tmp_path: Path, worker: Any) -> None:
    from sqlitedict import SqliteDict

    one, other = SQLiteResponses(str(tmp_path)), SqliteDictResponses(str(tmp_path))
    one.put([worker.response(1)])
    other.put([worker.response(1, by="second"), worker.response(2)])
    assert len(one.get([worker.key_of(1), worker.key_of(2)])) == 2
    with SqliteDict(str(tmp_path / "responses.sqlite"), "responses", journal_mode="WAL", decode=json.loads) as plain:
        assert plain[worker.key_of(1)][1]["reply"]["by"] == ""
    one.close()
    other.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Returns a folder on a file system of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small_ballast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lf_lightning.responses.ballast.BYTES", 2**20)


@pytest.mark.usefixtures("small_ballast")
def test_a_full_disk_keeps_all_and_has_room_for_what_is_in_flight(
    backend: type[ResponseCache], small_disk: Path, worker: Any
) -> None:
    from lf_lightning.responses import Ledger

    cache, ledger = backend(str(small_disk)), Ledger(small_disk)
    (granted,) = ledger.claim([("k", 10)], cap=None, **worker.SAME).values()
    written = 0
    while (small_disk / "ballast").exists():
        cache.put([worker.response(written, words=300)])
        written += 1
    # The disk is full, yet what is in flight was stored and is settled; only then is nothing more asked.
    for _ in range(20):
        cache.put([worker.response(written, words=300)])
        written += 1
    assert ledger.settle(granted.attempt_id, 7, "billed")
    with pytest.raises(ResponseCacheError, match="nothing more is asked"):
        ledger.claim([("l", 10)], cap=None, **worker.SAME)
    with pytest.raises(ResponseCacheError, match=r"the disk is full.*intact.*Free some space"):
        for _ in range(2000):
            cache.put([worker.response(written, words=300)])
            written += 1
    keys = [worker.key_of(number) for number in range(written)]
    assert len(cache.get(keys)) == written
    cache.close()
    reader = backend(str(small_disk))
    assert len(reader.get(keys)) == written
    assert reader.verify() == []
    assert ledger.total().spent == 7
    reader.close()
    ledger.close()


@pytest.mark.parametrize("exists", [True, False])
def test_what_a_limit_of_file_size_refuses(backend: type[ResponseCache], tmp_path: Path, worker: Any, exists: bool) -> None:
    resource = pytest.importorskip("resource")
    cache = backend(str(tmp_path))
    if exists:
        cache.put([worker.response(1)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000 if exists else 2000, hard))
    try:
        with pytest.raises(ResponseCacheError, match="disk is full"):
            cache.put([worker.response(2, words=20_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(cache.get([worker.key_of(1), worker.key_of(2)])) == exists
    cache.put([worker.response(2)])
    assert cache.verify() == []
    cache.close()
