"""`ResultsManager`: the records of runs, one by one or as a table."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lf_lightning.errors import DataError
from lf_lightning.results.record import RunRecord, read_record, run_folders, write_record

if TYPE_CHECKING:
    import pandas as pd


class ResultsManager:
    """Reads and writes the records of one run, or lists and compares those of many.

    Args:
        folder: A run folder for `write` and `read`; for `list` and `compare` also a folder of experiments, or of one
            experiment's runs.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def write(self, record: RunRecord) -> Path:
        """Writes the record of the run folder, in the place of an earlier one, and returns its path.

        Raises:
            ConfigurationError: A value is NaN, infinite or not plain, or the folder cannot be written to.
        """
        return write_record(self.folder, record)

    def read(self) -> RunRecord:
        """Returns the record of the run folder.

        Raises:
            DataError: There is none, it is damaged, or a later version of this package wrote it.
        """
        return read_record(self.folder)

    def list(self) -> dict[Path, RunRecord]:
        """Returns the records in the folder and up to two levels below it by run folder, oldest first.

        Damaged records, and those of a later version, are left out: one broken run must not hide the others. Links (`latest`)
        are not followed.
        """
        found: dict[Path, RunRecord] = {}
        for folder in run_folders(self.folder):
            with suppress(DataError):
                found[folder] = read_record(folder)
        return dict(sorted(found.items(), key=lambda item: (item[1].time, str(item[0]))))

    def compare(
        self,
        by: str = "macro_f1",
        against: str | os.PathLike[str] | None = None,
        top: int | None = None,
        group: bool = False,
    ) -> pd.DataFrame:
        """Returns the runs of the folder ranked by a measure, best first, as `lf compare` shows them.

        Args:
            by: accuracy, macro_f1, micro_f1, weighted_f1, nll, brier, ece or roc_auc, of the test rows.
            against: Run folder to test the others against; None: the best.
            top: Show, and test, the first so many only; None: all.
            group: Take runs that differ in seeds only as one: mean and standard deviation.

        Returns:
            One line a run or group: `value`, `low`, `high` (95 %), `sd`, `seeds`; `difference`, `difference_low`,
            `difference_high`, `p` and `mcnemar_p` (Holm's correction) against the other run; all measures; `cost_usd` of the
            scores; and what differs in the configs. NaN where there is no number.

        Raises:
            ConfigurationError: No run, an unknown measure, or runs with different labels or test rows.
        """
        from lf_lightning.results.comparison import compare_runs
        from lf_lightning.results.finding import find_runs

        return compare_runs(find_runs([self.folder]).records, by, against, top, group).frame()
