"""The rows of a fit: labelled ones out of whatever `AutoFusionClassifier.fit` is given, and those kept for validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils import check_consistent_length

from lf_lightning.auto.inputs import Targets, labelled, read_targets, table_of
from lf_lightning.errors import ConfigurationError

if TYPE_CHECKING:
    from lf_lightning.auto.classifier import AutoFusionClassifier


class FitRows(NamedTuple):
    """What a fit learns from.

    Attributes:
        targets: What it decides among.
        train: Labelled rows: `text`, `label`, and `place`, the row's number in X.
        validation: The same of `validation`, without `place`; None: a share of the others.
        total: Rows of X, with and without labels.
    """

    targets: Targets
    train: pd.DataFrame
    validation: pd.DataFrame | None
    total: int

    @property
    def texts(self) -> list[str]:
        """All texts, those of validation last."""
        return [*self.train["text"], *([] if self.validation is None else self.validation["text"])]


def fit_rows(said: AutoFusionClassifier, X: Any, y: Any, validation: Any) -> FitRows:
    """Returns the rows of a fit.

    Args:
        said: The arguments, merged.
        X: See `AutoFusionClassifier.fit`, as the following.
        y: See there.
        validation: See there.

    Raises:
        ConfigurationError: An argument that cannot work.
        DataError: Texts or labels that cannot be used.
    """
    texts = said._texts(X)
    targets, encoded = read_targets(X, y, said.label_columns, said.label_column, said.multi_label)
    check_consistent_length(texts, encoded)
    known = np.flatnonzero(labelled(encoded))
    if len(known) < len(texts):
        said._tell(f"{len(texts) - len(known):,} of {len(texts):,} rows have no label and are left out")
    train = table_of([texts[place] for place in known], targets, encoded[known])
    train["place"] = known
    return FitRows(targets, train, None if validation is None else _held_out(said, targets, validation), len(texts))


def _held_out(said: AutoFusionClassifier, targets: Targets, validation: Any) -> pd.DataFrame:
    given = validation if isinstance(validation, tuple) else (validation, None)
    if len(given) != 2:
        raise ConfigurationError("validation is a tuple of another length than 2. Way out: (texts, labels), or a data frame.")
    X, y = given
    texts = said._texts(X)
    _, truth = read_targets(X, y, targets.classes.tolist(), said._label_column, targets.task == "multilabel")
    check_consistent_length(texts, truth)
    there = np.flatnonzero(labelled(truth))
    return table_of([texts[place] for place in there], targets, truth[there])
