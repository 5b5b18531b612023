"""What every backend does: each test runs over all of `worker.BACKENDS`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lf_lightning.errors import ResponseCacheError
from lf_lightning.responses import ResponseCache, SQLiteResponses
from lf_lightning.responses.sqlite import lines_of
from lf_lightning.responses.together import Together

KILLS = 20 if os.environ.get("LF_SLOW") == "1" else 10


def test_what_was_put_is_got_to_the_last_sign(cache: ResponseCache, worker: Any) -> None:
    rows = [worker.response(number) for number in range(30)]
    assert cache.get([rows[0].key]) == {}
    cache.put(rows[:20])
    cache.put(rows[20:])
    cache.put([])
    assert cache.get([row.key for row in rows] + ["0" * 64]) == {row.key: row for row in rows}
    assert cache.get([]) == {}
    assert list(cache.scan()) == sorted(rows, key=lambda row: row.key)
    assert cache.verify() == []
    assert cache.repair() == 0


def test_it_is_there_after_closing_and_for_others(
    cache: ResponseCache, backend: type[ResponseCache], tmp_path: Path, worker: Any
) -> None:
    cache.put([worker.response(1)])
    other = backend(str(tmp_path / "responses"))
    assert len(other.get([worker.key_of(1)])) == 1
    other.put([worker.response(2)])
    cache.close()
    assert len(cache.get([worker.key_of(1), worker.key_of(2)])) == 2
    other.close()


def test_the_first_reply_wins(cache: ResponseCache, worker: Any) -> None:
    cache.put([worker.response(1, by="first")])
    cache.put([worker.response(0), worker.response(1, by="second"), worker.response(2), worker.response(2, by="third")])
    found = cache.get([worker.key_of(number) for number in range(3)])
    assert [found[worker.key_of(number)].reply["by"] for number in range(3)] == ["", "first", ""]


def test_delete_counts_what_was_there(cache: ResponseCache, worker: Any) -> None:
    cache.put([worker.response(number) for number in range(1500)])
    assert cache.delete([worker.key_of(number) for number in range(100, 3000)]) == 1400
    assert len(list(cache.scan())) == 100
    assert cache.delete([worker.key_of(200)]) == 0
    assert cache.verify() == []


def test_scan_passes_over_its_pages(cache: ResponseCache, worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lf_lightning.responses.sqlite._MANY", 7)
    monkeypatch.setattr("lf_lightning.responses.sqlite._PAGE", 7)
    rows = {worker.key_of(number): worker.response(number) for number in range(28)}
    cache.put(list(rows.values()))
    assert [row.key for row in cache.scan()] == sorted(rows)
    assert cache.get(list(rows)) == rows
    assert cache.verify() == []


def test_scan_goes_on_behind_a_page_with_a_damaged_key(tmp_path: Path, worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lf_lightning.responses.sqlite._MANY", 7)
    cache = SQLiteResponses(str(tmp_path))
    keys = sorted(worker.key_of(number) for number in range(20))
    cache.put([worker.response(number) for number in range(20)])

    def without_one(*given: Any) -> list[tuple[str, str]]:
        return [line for line in lines_of(*given) if line[0] != keys[2]]

    monkeypatch.setattr("lf_lightning.responses.sqlite.lines_of", without_one)
    assert [row.key for row in cache.scan()] == [key for key in keys if key != keys[2]]
    monkeypatch.undo()
    cache.close()


def test_threads_write_and_read_at_once(cache: ResponseCache, worker: Any) -> None:
    def work(first: int) -> None:
        for number in range(first, first + 20):
            cache.put([worker.response(number), worker.response(number + 10)])
            assert len(cache.get([worker.key_of(number)])) == 1

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 160, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(cache.scan())) == 180
    assert cache.verify() == []


def test_an_order_that_fails_does_not_take_those_of_other_threads_with_it(tmp_path: Path) -> None:
    guard = SQLiteResponses(str(tmp_path))._database
    written: list[int] = []

    def write(items: list[int]) -> None:
        if 13 in items:
            raise ResponseCacheError("13")
        written.extend(items)

    together = Together(write, guard)
    errors = []

    def order(item: int) -> None:
        try:
            together([item, item])
        except ResponseCacheError:
            errors.append(item)

    threads = [threading.Thread(target=order, args=(item,)) for item in range(10, 20)]
    with guard.lock:
        for thread in threads:
            thread.start()
        while len(together._waiting) < len(threads):
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert errors == [13]
    assert sorted(written) == sorted([item for item in range(10, 20) if item != 13] * 2)


@pytest.mark.parametrize("joint", [MemoryError, ResponseCacheError])
def test_no_order_passes_for_written_when_its_writer_breaks_off(tmp_path: Path, joint: type[Exception]) -> None:
    guard = SQLiteResponses(str(tmp_path))._database
    written: list[int] = []

    def write(items: list[int]) -> None:
        if len(items) > 1:
            raise joint
        if items == [13]:
            raise MemoryError
        written.extend(items)

    together = Together(write, guard)
    errors = []

    def order(item: int) -> None:
        try:
            together([item])
        except (MemoryError, ResponseCacheError):
            errors.append(item)

    threads = [threading.Thread(target=order, args=(item,)) for item in range(10, 20)]
    with guard.lock:
        for thread in threads:
            thread.start()
        while len(together._waiting) < len(threads):
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert 13 in errors
    assert set(errors) >= set(range(10, 20)) - set(written)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_parent_and_child_both_write_after_a_fork(cache: ResponseCache, backend: type[ResponseCache], worker: Any) -> None:
    cache.put([worker.response(0)])
    child = os.fork()
    if child == 0:
        try:
            cache.put([worker.response(number) for number in range(1, 50)])
            for number in range(50, 60):
                cache.put([worker.response(number)])
            time.sleep(0.3)
            cache.put([worker.response(60)])
        except BaseException:
            os._exit(1)
        os._exit(0)
    for number in range(100, 120):
        cache.put([worker.response(number)])
    # The last of the parent's connections closes while the child still writes.
    cache.close()
    assert os.waitpid(child, 0)[1] == 0
    numbers = [*range(61), *range(100, 120)]
    assert len(cache.get([worker.key_of(number) for number in numbers])) == len(numbers)
    assert cache.verify() == []


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_write_the_same_and_other_keys(
    backend: type[ResponseCache], tmp_path: Path, worker: Any, start: Callable[..., Any], processes: int
) -> None:
    folder = str(tmp_path / "new" / "folder")
    started = [start("put", backend.__name__, folder, 50 * number, 50 * number + 100, 1, 3) for number in range(processes)]
    for process in started:
        process.communicate(timeout=300)  # every commit waits for the disk, which others use, too
        assert process.returncode == 0
    cache = backend(folder)
    count = 50 * (processes + 1)
    assert cache.get([worker.key_of(n) for n in range(count)]) == {worker.key_of(n): worker.response(n) for n in range(count)}
    assert cache.verify() == []
    assert len(list(cache.scan())) == count
    cache.close()


def test_a_process_that_forgets_to_close_ends(backend: type[ResponseCache], tmp_path: Path, worker: Any) -> None:
    code = (
        "import runpy\n"
        f"worker = runpy.run_path({worker.__file__!r})\n"
        f"kept = worker['BACKENDS'][{backend.__name__!r}]({str(tmp_path)!r})\n"
        "kept.put([worker['response'](number) for number in range(3)])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    cache = backend(str(tmp_path))
    assert len(list(cache.scan())) == 3
    cache.close()


def test_no_acknowledged_row_is_lost_when_the_writer_is_killed(
    backend: type[ResponseCache], tmp_path: Path, worker: Any, start: Callable[..., Any]
) -> None:
    rng = random.Random(0)
    acknowledged: list[int] = []
    cache = backend(str(tmp_path))
    for kill in range(KILLS):
        base = 1000 * kill
        process = start("put", backend.__name__, tmp_path, base, base + 1000, 1, rng.choice([1, 3]))
        lines = [process.stdout.readline() for _ in range(rng.randrange(1, 40))]
        time.sleep(rng.random() * 0.01)
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        process.wait()
        done = max(int(line) for line in lines if line.endswith("\n"))
        acknowledged += range(base, base + done)
        assert len(cache.get([worker.key_of(number) for number in acknowledged])) == len(acknowledged)
    assert cache.verify() == []
    # Nothing half: at most one write more than was acknowledged, for each that was killed.
    assert len(acknowledged) <= len(list(cache.scan())) <= len(acknowledged) + 3 * KILLS
    cache.close()


def test_a_hundred_thousand_at_once(cache: ResponseCache, worker: Any) -> None:
    for first in range(0, 10_000, 1000):
        cache.put([worker.response(number) for number in range(first, first + 1000)])
    keys = [worker.key_of(number) for number in range(100_000)]
    start = time.perf_counter()
    assert len(cache.get(keys)) == 10_000
    assert time.perf_counter() - start < 10
