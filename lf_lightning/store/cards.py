"""Who scored: a scorer's card, whose fingerprint is all that changes its answers and nothing that does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256
from math import isfinite
from typing import TYPE_CHECKING, Any

from lf_lightning.errors import ConfigurationError

if TYPE_CHECKING:
    from lf_lightning.contract import Task

TASKS = ("multiclass", "multilabel")


class Status(IntEnum):
    """What became of a row: missing is not zero, and a reply that cannot be read is not the first class."""

    ABSENT = 0
    """Not in the store."""
    SCORED = 1
    """Has probabilities."""
    REFUSED = 2
    """The scorer declined to answer."""
    UNPARSED = 3
    """The reply could not be read."""


def canonical_json(value: Any) -> str:
    """Returns the one JSON text of a plain value: keys sorted, no spaces, ASCII only, so that any Unicode survives.

    Raises:
        ValueError: The value holds NaN or an infinity.
        TypeError: The value is not plain.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


@dataclass(frozen=True)
class ScorerCard:
    """A scorer's identity.

    Attributes:
        name: What people and configs call it; not part of the fingerprint.
        labels: The label names in the order of the columns.
        task: `multiclass` (a row sums to 1) or `multilabel`.
        spec: Plain values of all else that changes the answer: model, revision, endpoint, prompt template, mode, decoding, the
            fingerprint of the few-shot examples. Not: batch size, retries, timeouts. Copied, so that a later change of the
            caller's own dict changes nothing here. `0` and `0.0` are two specs.
        fingerprint: 64 hex digits, the SHA-256 of the canonical JSON of labels, spec and task.

    Raises:
        ConfigurationError: A label is empty or given twice, the task is unknown, or the spec holds something not plain.
    """

    name: str
    labels: tuple[str, ...]
    task: Task
    spec: Mapping[str, Any] = field(hash=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        # A card also comes from a YAML or a manifest, where no type checker has looked.
        names: Any = self.labels
        title: Any = self.name
        if not isinstance(names, (list, tuple)) or not all(isinstance(label, str) for label in names):
            raise ConfigurationError(f"labels={names!r} of scorer {self.name!r}: give a sequence of strings.")
        if not isinstance(title, str) or not title:
            raise ConfigurationError(f"name={self.name!r}: a scorer needs a name, a string that is not empty.")
        if self.task not in TASKS:
            raise ConfigurationError(f"task={self.task!r} of scorer {self.name!r}: must be one of {', '.join(TASKS)}.")
        check_plain(self.spec, f"spec of scorer {self.name!r}")
        # Through JSON and back: a deep copy, exactly as it will be read again.
        plain = json.loads(canonical_json({"labels": list(self.labels), "spec": dict(self.spec), "task": self.task}))
        labels = tuple(plain["labels"])
        if not labels or "" in labels or len(set(labels)) < len(labels):
            raise ConfigurationError(
                f"labels={labels!r} of scorer {self.name!r}: at least one is needed, none may be empty or given twice."
            )
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "spec", plain["spec"])
        object.__setattr__(self, "fingerprint", sha256(canonical_json(plain).encode("ascii")).hexdigest())

    def plain(self) -> dict[str, Any]:
        """Returns the card as plain values, all but the fingerprint, which follows from them."""
        return {"name": self.name, "labels": list(self.labels), "task": self.task, "spec": dict(self.spec)}

    def title(self) -> str:
        """Returns the name and the beginning of the fingerprint, for messages."""
        return f"{self.name!r} ({self.fingerprint[:12]})"


def check_plain(value: Any, where: str) -> None:
    """Raises unless a value is plain: text, finite numbers, booleans, None, and lists and dicts of these.

    Raises:
        ConfigurationError: It is not; the message begins with `where`.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ConfigurationError(f"{where}: the key {key!r} is not a string.")
            check_plain(item, f"{where}, {key!r}")
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            check_plain(item, f"{where}[{position}]")
    elif not (value is None or type(value) in (str, int, float, bool)):
        raise ConfigurationError(
            f"{where}: {value!r} is a {type(value).__name__}. Give plain values: text, numbers, booleans, null, lists, dicts."
        )
    elif type(value) is float and not isfinite(value):
        raise ConfigurationError(f"{where}: {value!r} is not a finite number.")
