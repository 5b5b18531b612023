"""The system against its members on the same rows: intervals, paired tests, and which member is the one to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lf_lightning.callbacks.judging import SYSTEM, Figures, Judged
from lf_lightning.metrics import bootstrap_interval, mcnemar, paired_bootstrap

COMPARED = ("accuracy", "macro_f1")
REFERENCES = ("average", "stack")
"""Members that combine others: shown and tested, but not what `best member` means."""


def intervals(judged: Judged, seed: int = 0) -> dict[str, dict[str, float]]:
    """Returns `value`, `low`, `high` (bootstrap, 95 %) of the system's accuracy and macro-F1 on the labelled rows.

    Args:
        judged: With at least one labelled row.
        seed: Of the resamples.
    """
    made, true = judged.system.decisions[judged.labelled], judged.truth[judged.labelled]
    k = len(judged.labels)
    return {
        "accuracy": bootstrap_interval("accuracy", made, true, num_labels=k, seed=seed),
        "macro_f1": bootstrap_interval("macro_f1", made, true, num_labels=k, seed=seed),
    }


def paired_tests(judged: Judged, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Returns the tests of the system against each member; see `RunRecord.tests`. A member without a labelled row has none.

    Args:
        judged: The split.
        seed: Of the resamples.
    """
    tests: dict[str, dict[str, Any]] = {}
    k = len(judged.labels)
    for name, member in judged.members.items():
        rows = judged.labelled & member.known
        if not rows.any():
            continue
        ours, theirs, true = judged.system.decisions[rows], member.decisions[rows], judged.truth[rows]
        accuracy = paired_bootstrap(ours, theirs, true, "accuracy", num_labels=k, seed=seed)
        exact = mcnemar(ours, theirs, true)
        tests[name] = {
            "rows": int(rows.sum()),
            "accuracy": {
                "difference": accuracy["difference"],
                "low": accuracy["low"],
                "high": accuracy["high"],
                "p": exact["p"],
                "system_only": int(exact["a_only"]),
                "member_only": int(exact["b_only"]),
            },
            "macro_f1": paired_bootstrap(ours, theirs, true, "macro_f1", num_labels=k, seed=seed),
        }
    return tests


def best_members(figures: Figures) -> dict[str, str]:
    """Returns the best member by metric; the earlier one where two are equal.

    Combinations of members are left out, and so is a member without an opinion on most of the system's rows: a few easy rows
    would make it the best.

    Args:
        figures: Of the split that chooses; `system` may be missing.
    """
    least = figures[SYSTEM]["rows"] / 2 if SYSTEM in figures else 0
    names = [name for name in figures if name != SYSTEM and name not in REFERENCES]
    own = {name: figures[name] for name in names if figures[name]["rows"] > least}
    return {metric: max(own, key=lambda name: own[name][metric]) for metric in COMPARED} if own else {}


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
        "encoder": "encoder alone",
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
            f"(95 % CI {100 * numbers['low']:+.1f} to {100 * numbers['high']:+.1f}), {test} p {_p(numbers['p'])}"
        )
    return "; ".join(parts)


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"= {value:.4f}" if value < 0.001 else f"= {value:.2g}"


def _words(name: str) -> str:
    return "".join(f"-{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))
