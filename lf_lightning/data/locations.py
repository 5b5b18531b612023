"""Files wherever fsspec reaches: on this machine, and behind URLs such as s3://, gs://, hf://, memory:// and file://."""

from __future__ import annotations

import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations

from lf_lightning.errors import ConfigurationError, DataError, MissingDependencyError
from lf_lightning.packaged import locate

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(:|//)")
_USER = re.compile(r"//[^/@]*:[^/@]*@")


def is_url(name: str) -> bool:
    """Returns whether a name is a URL, and not a path, `package:` or `hf:NAME:SPLIT`.

    >>> is_url("s3://bucket/a.csv"), is_url("hf:ag_news:test"), is_url("a.csv")
    (True, False, False)
    """
    return _URL.match(name) is not None


def opened(name: str, argument: str) -> tuple[Any, str]:
    """Returns the file system behind a name, and the name's path there.

    Args:
        name: A path, `package:NAME/PATH`, or a URL that fsspec knows.
        argument: The argument that held it, for error messages.

    Raises:
        ConfigurationError: fsspec knows no such URL, or it holds a password.
        MissingDependencyError: The package behind this kind of URL is not installed.
    """
    name = name if is_url(name) else str(Path(locate(name)).expanduser())
    if _USER.search(name):
        raise ConfigurationError(f"{argument}: the URL holds a password. Way out: the environment, which its package reads.")
    scheme = name.partition("://")[0]
    try:
        found: tuple[Any, str] = url_to_fs(name)
    except ImportError as error:
        package = str(known_implementations.get(scheme, {}).get("class", scheme)).partition(".")[0]
        raise MissingDependencyError(
            f"{argument}={name!r}: {scheme}:// needs the package {package!r}. Way out: pip install {package}"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{argument}={name!r}: {error}. Way out: a path, or a URL that fsspec knows.") from error
    return found


def is_local(fs: Any) -> bool:
    """Returns whether a file system is this machine's."""
    return isinstance(fs, LocalFileSystem)


@contextmanager
def reading(name: str, argument: str) -> Iterator[BinaryIO]:
    """Gives a file to read bytes from, unpacked where its name ends in `.gz`.

    Args:
        name: As for `opened`.
        argument: The argument that held it.

    Raises:
        ConfigurationError: There is no such file.
        DataError: It cannot be read.
    """
    fs, path = opened(name, argument)
    try:
        with fs.open(path, "rb", compression="gzip" if path.endswith(".gz") else None) as stream:
            yield cast("BinaryIO", stream)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{argument}={name!r}: there is no such file.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name} cannot be read: {' '.join(str(error).split())[:200]}.") from error


@contextmanager
def copied_here(url: str, argument: str) -> Iterator[Path]:
    """Gives a copy on this machine, of the same name, of the file behind a URL.

    Raises:
        ConfigurationError: There is no such file.
        DataError: It cannot be read.
    """
    fs, path = opened(url, argument)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(path).name
        try:
            fs.get_file(path, str(copy))
        except FileNotFoundError as error:
            raise ConfigurationError(f"{argument}={url!r}: there is no such file.") from error
        except OSError as error:
            raise DataError(f"{url} cannot be read: {' '.join(str(error).split())[:200]}.") from error
        yield copy


def write_whole(folder: str, name: str, write: Callable[[Path], None]) -> None:
    """Writes a file that is there whole or not at all.

    Args:
        folder: Path or URL.
        name: Of the file, below the folder.
        write: Writes a whole file at the path it is given, in one step.

    Raises:
        DataError: The file system refused.
    """
    fs, path = opened(folder, "out")
    try:
        if is_local(fs):
            write(Path(path) / name)
            return
        with tempfile.TemporaryDirectory() as here:
            copy = Path(here) / Path(name).name
            write(copy)
            # One request of the whole content: an object store shows it when it is complete.
            fs.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
            fs.pipe_file(f"{path}/{name}", copy.read_bytes())
    except OSError as error:
        raise DataError(f"{folder}/{name} cannot be written: {' '.join(str(error).split())[:200]}.") from error
