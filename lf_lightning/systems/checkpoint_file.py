"""Whether a checkpoint's file is as it was written: torch does not compare the checksums that it wrote itself."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

from lf_lightning.errors import DataError


def refuse_changed(file: Path) -> None:
    """Raises if a byte of a checkpoint is not what was written, which would be other weights and no error.

    Takes about a second for each gigabyte. A file that is no archive is left to `torch.load`.

    Args:
        file: As `torch.save` wrote it: a ZIP archive, each entry with its CRC-32.

    Raises:
        DataError: An entry is damaged, or the archive is.
    """
    try:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError, ValueError, LookupError) as error:
        damaged = str(error)
    if damaged is not None:
        raise DataError(
            f"{str(file)!r} is not as it was written ({damaged[:200]}), so it was not loaded. Way out: a copy of it, "
            "last.ckpt or best.ckpt beside it, or lf fit again."
        )
