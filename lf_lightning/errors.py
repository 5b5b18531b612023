"""Every error that this package raises on purpose; each message names the argument, its value and the way out."""

from __future__ import annotations


class LFError(Exception):
    """Base of the package's own errors; the command line prints its message without a traceback and exits with `exit_code`."""

    exit_code = 1


class ConfigurationError(LFError, ValueError):
    """An argument, or a combination of arguments, that cannot work."""

    exit_code = 2


class DataError(LFError, ValueError):
    """A table, a label or a split that cannot be used as it is."""

    exit_code = 3


class StoreError(LFError):
    """A score store that is damaged, of another version, or contradicts what is being written."""

    exit_code = 4


class ScoreMismatchError(DataError, StoreError):
    """Scores that do not belong to the texts or to the label set at hand."""

    exit_code = 4


class ResponseCacheError(LFError):
    """A response cache that is damaged, of a newer version, or that the file system will not let grow."""

    exit_code = 4


class ProviderAccessError(LFError):
    """A provider that lets nobody in: no key, a wrong key, no credit. Nothing else would be answered, so the run stops."""

    exit_code = 5


class BudgetError(LFError):
    """The next request might cost more than is left of `max_cost`; what was paid for is kept."""

    exit_code = 6


class NotFittedError(LFError, RuntimeError):
    """A calibrator, a threshold or a head that was used before it was fitted."""


class NotFiniteError(LFError, ArithmeticError):
    """A loss or a logit that is NaN or infinite."""


class MissingDependencyError(LFError, ImportError):
    """An optional package that is not installed; the message names the extra that brings it."""

    @classmethod
    def of(cls, package: str, extra: str) -> MissingDependencyError:
        """Returns the error for `package`, which `pip install "lf-lightning[extra]"` brings."""
        return cls(f'The package {package!r} is not installed. Way out: pip install "lf-lightning[{extra}]"')


class Interrupted(LFError):
    """The run was asked to stop (SIGTERM); its state was saved first."""

    exit_code = 143
