"""What stands for a label in prompts and replies: a name that cannot be misread, or a short code where the name could be."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from string import ascii_lowercase, ascii_uppercase

from lf_lightning.errors import ConfigurationError

_FIELD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
NONE = "none"
"""What a model answers where no label applies."""


def option_codes(k: int) -> tuple[str, ...]:
    """Returns K single letters: A to Z, and for more than 26 labels a to z behind them, whose case then counts.

    Raises:
        ConfigurationError: K is more than 52.
    """
    letters = ascii_uppercase + ascii_lowercase
    if k > len(letters):
        raise ConfigurationError(
            f"labels: {k} are more than the {len(letters)} letters of mode 'logprob', each of which must be one token. "
            "Way out: mode verbalized or label."
        )
    return tuple(letters[:k])


def field_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Returns K names of JSON fields that every provider's strict schema takes: ASCII letters, digits, `_`, `.` and `-`.

    Other signs and spaces become `_`. Where that would lose a letter, or make two labels one, all labels get codes: L1, L2, ...

    >>> field_names(["World", "Sci/Tech"]), field_names(["Sci Tech", "Sci/Tech"])
    (('World', 'Sci_Tech'), ('L1', 'L2'))
    """
    fields = [re.sub(r"[^A-Za-z0-9.-]+", "_", label.strip()) for label in labels]
    lossless = all(c.isascii() or not (c.isalnum() or unicodedata.category(c)[0] in "MS") for label in labels for c in label)
    if lossless and _distinct(fields) and all(_FIELD.fullmatch(field) and field.strip("_") for field in fields):
        return tuple(fields)
    return _numbered(labels)


def spoken_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Returns K names that a model can answer in one line of plain words, of any script, without quotes, commas or newlines.

    They are the labels themselves if each is such a name, no two differ in case, space or Unicode form only, and none is
    `none`, which means that no label applies. Otherwise all labels get codes: L1, L2, ...

    >>> spoken_names(["спорт", "Sci/Tech"]), spoken_names(["a, b", "c"])
    (('спорт', 'Sci/Tech'), ('L1', 'L2'))
    """
    plain = all(
        len(label) <= 64
        and label == " ".join(label.split())
        and all(c.isalnum() or unicodedata.category(c)[0] == "M" or c in " _-/&+" for c in label)
        and label.strip("_") == label
        and any(c.isalnum() for c in label)
        for label in labels
    )
    if plain and _distinct([*labels, NONE]):
        return tuple(labels)
    return _numbered(labels)


def _distinct(names: Sequence[str]) -> bool:
    return len({unicodedata.normalize("NFKC", name).casefold() for name in names}) == len(names)


def _numbered(labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"L{number}" for number in range(1, len(labels) + 1))
