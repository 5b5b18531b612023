"""Tables of texts and labels from wherever they lie: files, folders, data frames, installed packages, the Hugging Face hub."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from lf_lightning.data.csv_table import parse_separated
from lf_lightning.data.locations import copied_here, is_url
from lf_lightning.errors import ConfigurationError, DataError, MissingDependencyError
from lf_lightning.packaged import locate

HUB = "hf:"

UNREADABLE_PARQUET = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, MemoryError)
"""What damage raises: pyarrow's own errors are among these, and pandas takes the notes that it left in a file at their word."""


def read_table(source: str | pd.DataFrame, argument: str = "source") -> pd.DataFrame:
    """Returns the table behind `source`, rows numbered from 0.

    * a data frame: as it is;
    * `.csv`, `.tsv`, `.jsonl` / `.ndjson`, `.parquet`, the text formats also with `.gz`. Cells of CSV and TSV stay text;
    * a folder of `<label>/*.txt`, one text a file: columns `text`, `label`, `file`. UTF-8, else Latin-1;
    * a folder saved by `datasets`: its path, or `hf:FOLDER:SPLIT` where it holds several splits;
    * `hf:NAME:SPLIT` or `hf:NAME:CONFIG:SPLIT` of the Hugging Face hub; class numbers become their names;
    * `package:NAME/PATH`: any of the files and folders above inside an installed package;
    * a URL that fsspec knows (`s3://`, `gs://`, `hf://`, `memory://`, `file://`) of one of the files above.

    Args:
        source: What to read.
        argument: The argument that held it, for error messages.

    Raises:
        ConfigurationError: There is no such file, the format is not known, or the hub cannot be reached.
        DataError: The file is there but cannot be read as its format.
        MissingDependencyError: `datasets`, the package of a `package:` name, or the one behind a URL, is not installed.
    """
    if isinstance(source, pd.DataFrame):
        return source.reset_index(drop=True)
    if is_url(source):
        with copied_here(source, argument) as copy:
            return read_table(str(copy), argument)
    if source.startswith(HUB):
        return _from_hub(source, argument)
    path = Path(locate(source))
    if path.is_dir():
        return _from_folder(path, argument)
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    reader = _READERS.get(suffix.removesuffix(".gz").lower())
    if reader is None or suffix.lower() == ".parquet.gz":
        raise ConfigurationError(
            f"{argument}={source!r} has no known format. Known: {', '.join(_READERS)} (text formats also with .gz), a folder "
            "of <label>/*.txt, a folder saved by `datasets`, hf:NAME:SPLIT, package:NAME/PATH."
        )
    if not path.is_file():
        raise ConfigurationError(f"{argument}={source!r}: there is no such file (looked for {path.absolute()}).")
    return reader(path)


def _content(path: Path) -> str:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name} cannot be read: {error}.") from error


def _csv(path: Path) -> pd.DataFrame:
    return parse_separated(_content(path), ",", path.name)


def _tsv(path: Path) -> pd.DataFrame:
    return parse_separated(_content(path), "\t", path.name)


def _jsonl(path: Path) -> pd.DataFrame:
    return parse_jsonl(_content(path), path.name)


def parse_jsonl(content: str, name: str) -> pd.DataFrame:
    """Returns the table in `content`, one JSON object a line; a row without a column holds None there.

    Args:
        content: The decoded file.
        name: The file's name, for error messages.

    Raises:
        DataError: A line is no JSON object.
    """
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # a whole number of too many digits is a plain ValueError
            raise DataError(f"{name}, line {number} is not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise DataError(f"{name}, line {number} is not a JSON object but {type(row).__name__}.")
        rows.append(row)
    columns = dict.fromkeys(column for row in rows for column in row)
    return pd.DataFrame({column: pd.Series([row.get(column) for row in rows], dtype=object) for column in columns})


def _parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path).reset_index(drop=True)
    except UNREADABLE_PARQUET as error:
        raise DataError(f"{path.name} cannot be read as Parquet: {' '.join(str(error).split())[:200]}.") from error


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".parquet": _parquet,
}


def _from_folder(folder: Path, argument: str) -> pd.DataFrame:
    if (folder / "dataset_dict.json").exists():
        raise ConfigurationError(f"{argument}: {folder} holds several splits. Name one: {HUB}{folder}:SPLIT.")
    if (folder / "state.json").exists() and (folder / "dataset_info.json").exists():
        return _named_classes(_datasets().load_from_disk(str(folder)))
    files = sorted(folder.glob("*/*.txt"))
    if not files:
        raise ConfigurationError(f"{argument}: the folder {folder} has no <label>/*.txt files and was not saved by `datasets`.")
    return pd.DataFrame(
        {
            "text": pd.Series([_text_file(file) for file in files], dtype=object),
            "label": pd.Series([file.parent.name for file in files], dtype=object),
            "file": pd.Series([f"{file.parent.name}/{file.name}" for file in files], dtype=object),
        }
    )


def _text_file(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _from_hub(source: str, argument: str) -> pd.DataFrame:
    name, *rest = source[len(HUB) :].split(":")
    if not name or len(rest) not in (1, 2) or not all(rest):
        raise ConfigurationError(f"{argument}={source!r}: write {HUB}NAME:SPLIT, {HUB}NAME:CONFIG:SPLIT or {HUB}FOLDER:SPLIT.")
    *config, split = rest
    datasets = _datasets()
    if Path(name).is_dir():
        splits = datasets.load_from_disk(name)
        if not isinstance(splits, dict) or split not in splits:
            known = ", ".join(splits) if isinstance(splits, dict) else "none: name the folder alone"
            raise ConfigurationError(f"{argument}={source!r}: the folder has no split {split!r}. Its splits: {known}.")
        return _named_classes(splits[split])
    from huggingface_hub import HfApi, constants

    try:
        if not constants.HF_HUB_OFFLINE:
            HfApi().dataset_info(name, timeout=5)  # one try: without a network, load_dataset would repeat for 25 s and more
        return _named_classes(datasets.load_dataset(name, *config, split=split))
    except Exception as error:  # the hub client's errors have no common base
        raise ConfigurationError(
            f"{argument}={source!r} could not be loaded from the hub: {str(error).splitlines()[0][:200]} Way out: load it once "
            "while online, then set HF_HUB_OFFLINE=1; or save it with datasets' save_to_disk and name that folder."
        ) from error


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError.of("datasets", "datasets") from error
    return datasets


def _named_classes(dataset: Any) -> pd.DataFrame:
    """Returns a Hugging Face dataset as a table in which class numbers are replaced by their names (-1: no label)."""
    datasets = _datasets()
    table: dict[str, Any] = {}
    for column, feature in dataset.features.items():
        cells = dataset[column][:]
        inner = getattr(feature, "feature", None)
        if isinstance(feature, datasets.ClassLabel):
            cells = [None if cell is None or cell < 0 else feature.names[cell] for cell in cells]
        elif isinstance(inner, datasets.ClassLabel):
            cells = [None if cell is None else [inner.names[number] for number in cell] for cell in cells]
        table[column] = pd.Series(list(cells), dtype=object)
    return pd.DataFrame(table)
