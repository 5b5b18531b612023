"""A file that is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, cast


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Gives a file to write that takes the place of `path` when the block ends; an error changes nothing. Makes the folder.

    Raises:
        OSError: The file system refused.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            yield cast("BinaryIO", file)
            file.flush()
            os.fsync(file.fileno())
            file.close()
            temporary.chmod(0o666 & ~_umask())  # a temporary file is its owner's alone
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
