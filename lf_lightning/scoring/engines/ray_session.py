"""Ray for a run: the one that is there, a cluster, or a small one on this machine; and the room that its workers have."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lf_lightning.errors import ConfigurationError, MissingDependencyError


@contextmanager
def ray_session() -> Iterator[Any]:
    """Gives Ray: the one that runs in this process, else the cluster of RAY_ADDRESS, else a small one for this run alone."""
    # Before the import, which reads them: no telemetry, and no lines about Ray's own health between those of lf.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # else a thread of a run that is over may start another Ray
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    address = os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # in spite of its name: listen on the loopback only
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError.of("ray", "ray") from error
    if address.startswith("ray://"):
        raise ConfigurationError(f"RAY_ADDRESS={address!r}: run lf on a machine of the cluster, and give HOST:PORT or auto.")
    ours = not ray.is_initialized()
    if ours:
        options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
        with _without_stderr():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.print_on_execution_start
    context.enable_progress_bars = context.print_on_execution_start = False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield ray
    finally:
        logger.setLevel(level)
        context.enable_progress_bars, context.print_on_execution_start = before
        if ours:
            ray.shutdown()


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Leaves out that Ray obeys RAY_BACKEND_LOG_LEVEL, which it writes past Python; what fails is raised all the same."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def room_for(ray: Any, workers: int) -> dict[str, Any]:
    """Returns what each of so many workers may use; one of which there is no room would be waited for for ever.

    Raises:
        ConfigurationError: There is no room for so many.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    share = max((n for n in range(1, max(cpus) + 1) if sum(cpu // n for cpu in cpus) >= workers), default=0)
    if not share:
        raise ConfigurationError(f"workers={workers}: there are {sum(cpus)} CPUs. Way out: at most so many workers.")
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    return {"num_cpus": share, **({"num_gpus": 1 / math.ceil(workers / gpus)} if gpus else {})}
