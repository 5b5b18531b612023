"""What the tests of both Ray engines share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

MARKS = [
    pytest.mark.slow,
    # Ray's own: sockets and files that its processes hold until they end, and what it deprecates of itself.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@contextmanager
def one_ray(tests: ModuleType, **variables: str) -> Iterator[None]:
    """One Ray of two CPUs for all tests of a module in this process, with variables in its workers' environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**variables, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}.items():
            patch.setenv(name, value)
        import ray

        ray.cloudpickle.register_pickle_by_value(tests)  # pytest alone knows where the tests are
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()
