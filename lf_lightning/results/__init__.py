"""What runs did: one self-describing folder each, read by the thousand, ranked with intervals and paired tests.

    results.json           the record: config, environment, commit, fingerprints, seeds, metrics, tests, cost
    predictions_test.csv   each test row: text, truth, what the system and each member said, and the LLM's reason

Nothing here needs torch or Lightning, so comparing and reporting start at once.
"""

from __future__ import annotations

from lf_lightning.results.files import atomic_file
from lf_lightning.results.manager import ResultsManager
from lf_lightning.results.record import FILE_NAME, SCHEMA, RunRecord
from lf_lightning.results.surroundings import environment, git_state

__all__ = ["FILE_NAME", "SCHEMA", "ResultsManager", "RunRecord", "atomic_file", "environment", "git_state"]
