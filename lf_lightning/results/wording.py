"""How tables, sentences and pages call the system and its members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lf_lightning.results.predictions import SYSTEM

ENCODER = "encoder"
REFERENCES = ("average", "stack")
"""Members that combine others: shown and tested, but not what `best member` means."""


def friendly(name: str, system: str) -> str:
    """Returns how a table calls the system or a member.

    Args:
        name: `system`, `encoder`, `average`, `stack` or a scorer's name.
        system: Class name of the system.

    Example:
        >>> [friendly(n, "FusionLightningModule") for n in ("system", "encoder", "stack", "gpt")]
        ['fusion', 'encoder alone', 'stack (logistic regression)', 'LLM: gpt']
    """
    known = {
        SYSTEM: _words(system.removesuffix("LightningModule") or system),
        ENCODER: "encoder alone",
        "net 1": "net 1 alone",  # the two of co-training
        "net 2": "net 2 alone",
        "average": "average",
        "stack": "stack (logistic regression)",
    }
    return known.get(name, f"LLM: {name}")


def sentence(tests: Mapping[str, Mapping[str, Any]], best: Mapping[str, str], system: str) -> str:
    """Returns the tests against the best member in words.

    Such as `fusion vs encoder alone: +2.1 points accuracy (95 % CI +1.0 to +3.2), McNemar p = 0.0003; ...`.

    Args:
        tests: See `RunRecord.tests`.
        best: See `RunRecord.best_member`; its members have tests.
        system: Class name of the system.
    """
    parts = []
    said = None
    for metric, name, test in (("accuracy", "accuracy", "McNemar"), ("macro_f1", "macro-F1", "paired bootstrap")):
        if metric not in best or best[metric] not in tests:
            continue
        numbers = tests[best[metric]][metric]
        against = "" if said == best[metric] else f"{friendly(SYSTEM, system)} vs {friendly(best[metric], system)}: "
        said = best[metric]
        parts.append(
            f"{against}{100 * numbers['difference']:+.1f} points {name} "
            f"(95 % CI {100 * numbers['low']:+.1f} to {100 * numbers['high']:+.1f}), {test} p {p_value(numbers['p'])}"
        )
    return "; ".join(parts)


def p_value(value: float) -> str:
    """Returns a p-value with its sign: `= 0.03`, `< 0.0001`."""
    return "< 0.0001" if value < 1e-4 else f"= {value:.4f}" if value < 0.001 else f"= {value:.2g}"


def _words(name: str) -> str:
    return "".join(f"-{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))
