"""The system against its members on the same rows: intervals, paired tests, and which member is the one to beat."""

from __future__ import annotations

from typing import Any

from lf_lightning.callbacks.judging import SYSTEM, Figures, Judged
from lf_lightning.metrics import bootstrap_interval, mcnemar, paired_bootstrap
from lf_lightning.results.wording import REFERENCES, friendly, sentence

__all__ = ["COMPARED", "REFERENCES", "best_members", "friendly", "intervals", "paired_tests", "sentence"]

COMPARED = ("accuracy", "macro_f1")


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
