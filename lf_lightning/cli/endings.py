"""How a run of Lightning ended, told apart: by a signal, by the keyboard, by an error of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities.exceptions import SIGTERMException

from lf_lightning.errors import Interrupted, LFError


@contextmanager
def endings_told_apart() -> Iterator[None]:
    """Raises what a run ended by.

    Lightning ends a SIGTERM with exit code 0 and a Ctrl-C with 1; neither may pass for the end of a run. jsonargparse wraps
    what a class raises while it is made; the error that this package raised on purpose is the one to show.

    Raises:
        Interrupted: SIGTERM.
        KeyboardInterrupt: Ctrl-C.
        LFError: An error of this package, wherever it was wrapped.
    """
    try:
        yield
    except SIGTERMException:
        raise Interrupted(
            "stopped by SIGTERM, after its state was saved. Way out: the same command with --ckpt_path last."
        ) from None
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            raise end.__context__ from None
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, LFError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from None
        raise
