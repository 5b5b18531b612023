"""A scikit-learn estimator of texts: what comes in goes out, twice the same, with nothing left behind."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from lf_lightning import AutoFusionClassifier
from lf_lightning.auto.training import FEW, LARGE_ENCODER, choose
from lf_lightning.errors import ConfigurationError, DataError, ScoreMismatchError, StoreError
from lf_lightning.store import ScoreStore
from tests.auto.conftest import LABELS, Make
from tests.conftest import TableFactory


def test_it_learns_and_says_labels(fused: AutoFusionClassifier, table: pd.DataFrame, new_texts: list[str]) -> None:
    assert fused.classes_.tolist() == LABELS
    p = fused.predict_proba(new_texts)
    assert p.shape == (12, 3)
    assert np.abs(p.sum(1) - 1).max() < 1e-6
    assert np.array_equal(fused.predict(new_texts), fused.classes_[p.argmax(1)])
    assert fused.score(table) == fused.score(table["text"], table["label"]) > 0.75
    assert set(fused.figures_) == {"system", "encoder", "good", "average", "stack"}
    assert fused.cost_usd_ == 0


def test_scores_have_their_say(
    fused: AutoFusionClassifier, store: Path, array: Any, table: pd.DataFrame, new_texts: list[str], small: Make
) -> None:
    from_array = small().fit(table["text"], table["label"], scores=array)
    known = ScoreStore(store).join(new_texts, ["good"], LABELS).scores
    expected = fused.predict_proba(new_texts)
    assert np.array_equal(from_array.predict_proba(new_texts, scores=known), expected)
    assert np.array_equal(from_array.predict_proba(new_texts, scores=known[:, 0]), expected)
    assert np.abs(from_array.predict_proba(new_texts) - expected).max() > 1e-3
    half = array.copy()
    half[::2] = np.nan
    assert small().fit(table["text"], table["label"], scores=half[:, 0]).predictor_.scorers == ["llm"]


def test_scores_that_do_not_fit_are_refused(small: Make, table: pd.DataFrame, array: Any, store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"shape \(89, 1, 3\); 90 texts"):
        small().fit(table, scores=array[1:])
    with pytest.raises(ConfigurationError, match="scores have the shape"):
        small().fit(table, scores=array[..., :2])
    with pytest.raises(DataError, match="do not sum to 1"):
        small().fit(table, scores=array / 2)
    with pytest.raises(StoreError, match="no score store"):
        small(scores=tmp_path / "nowhere").fit(table)
    with pytest.raises(ConfigurationError, match="both set"):
        small(scores=store, llm_provider="openai").fit(table)
    with pytest.raises(ScoreMismatchError, match="on_missing='error'"):
        small(scores=store).fit(pd.concat([table, pd.DataFrame({"text": ["a goal"], "label": ["sport"]})]))


@pytest.mark.parametrize("form", ["frame", "series", "array", "column", "one-hot"])
def test_every_form_gives_the_same_fit(
    form: str, small: Make, alone: AutoFusionClassifier, table: pd.DataFrame, new_texts: list[str]
) -> None:
    texts, labels = table["text"], table["label"]
    one_hot = table[["text"]].assign(**{label: (labels == label).astype(int) for label in LABELS})
    found = {
        "frame": lambda: small().fit(table),
        "series": lambda: small().fit(texts, labels),
        "array": lambda: small().fit(texts.to_numpy(str), labels.to_numpy(str)),
        "column": lambda: small().fit(texts.to_numpy()[:, None], labels.to_numpy(object)),
        "one-hot": lambda: small({"label_columns": LABELS}).fit(one_hot),
    }[form]()
    assert np.array_equal(found.predict_proba(new_texts), alone.predict_proba(new_texts))
    assert found.predict(new_texts).tolist() == alone.predict(new_texts).tolist()
    assert np.array_equal(alone.predict(pd.DataFrame({"text": new_texts})), alone.predict(pd.Series(new_texts)))


def test_numbers_stay_numbers(small: Make, table: pd.DataFrame, new_texts: list[str]) -> None:
    y = np.array([10 * LABELS.index(label) for label in table["label"]])
    fitted = small().fit(table["text"], y)
    assert fitted.classes_.tolist() == [0, 10, 20]
    assert fitted.predict(new_texts).dtype == y.dtype
    assert fitted.score(table["text"], y) > 0.6


def test_several_labels_a_row(small: Make, multilabel_table: TableFactory) -> None:
    table = multilabel_table(80, seed=3)
    lists = [cell.split("|") for cell in table["label"]]
    names = sorted({label for cell in lists for label in cell})
    matrix = np.array([[name in cell for name in names] for cell in lists]).astype(int)
    from_lists = small().fit(table["text"], lists)
    from_matrix = small().fit(table["text"], matrix)
    joined = small(multi_label=True).fit(table)
    p = from_matrix.predict_proba(table["text"])
    assert p.shape == (80, 4)
    assert np.array_equal(p, from_lists.predict_proba(table["text"]))
    assert np.array_equal(p, joined.predict_proba(table))
    decided = from_matrix.predict(table["text"])
    assert set(np.unique(decided)) == {0, 1}
    assert from_lists.predict(table["text"]) == [[n for n, on in zip(names, row, strict=True) if on] for row in decided]
    assert joined.predict(table).tolist() == ["|".join(row) for row in from_lists.predict(table["text"])]
    assert from_matrix.score(table["text"], matrix) == joined.score(table) == (decided == matrix).all(1).mean()


def test_one_seed_one_fit(small: Make, alone: AutoFusionClassifier, table: pd.DataFrame, new_texts: list[str]) -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    again = clone(alone).fit(table)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(again.predict_proba(new_texts), alone.predict_proba(new_texts))
    other = small(random_state=1).fit(table)
    assert not np.array_equal(other.predict_proba(new_texts), alone.predict_proba(new_texts))
    assert small(random_state=np.random.RandomState(1)).fit(table).classes_.tolist() == LABELS


def test_a_label_column_of_another_name(
    small: Make, alone: AutoFusionClassifier, table: pd.DataFrame, new_texts: list[str]
) -> None:
    renamed = table.rename(columns={"label": "topic", "text": "body"})
    for given in ({"label_columns": ["topic"]}, {"label_column": "topic"}):
        fitted = small(text_column="body", **given).fit(renamed)
        assert np.array_equal(fitted.predict_proba(new_texts), alone.predict_proba(new_texts))
        assert fitted.score(renamed) == alone.score(table)


def test_validation_rows_may_be_given(small: Make, table: pd.DataFrame, new_texts: list[str]) -> None:
    own, rest = table[60:], table[:60]
    given = small().fit(rest, validation=own)
    assert given._facts["rows"] == {"train": {"rows": 60, "labelled": 60}, "validation": {"rows": 30, "labelled": 30}}
    pair = small().fit(rest, validation=(own["text"].tolist(), own["label"].tolist()))
    assert np.array_equal(given.predict_proba(new_texts), pair.predict_proba(new_texts))
    with pytest.raises(ConfigurationError, match="length than 2"):
        small().fit(rest, validation=(1, 2, 3))


def test_rows_without_a_label_are_left_out(
    small: Make, alone: AutoFusionClassifier, table: pd.DataFrame, new_texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    more = pd.concat([pd.DataFrame({"text": ["a coach"], "label": [None]}), table])
    fitted = small(verbose=1).fit(more)
    assert np.array_equal(fitted.predict_proba(new_texts), alone.predict_proba(new_texts))
    assert "1 of 91 rows have no label" in capsys.readouterr().out


def test_scikit_learns_tools_take_it(small: Make, table: pd.DataFrame, store: Path) -> None:
    found = cross_val_score(small(scores=store), table["text"], table["label"], cv=2)
    assert found.min() > 0.5
    search = GridSearchCV(small(), {"num_epochs": [1, 6]}, cv=2, error_score="raise").fit(table["text"], table["label"])
    assert search.best_params_["num_epochs"] in (1, 6)
    line = make_pipeline(FunctionTransformer(lambda texts: [text.lower() for text in texts]), small())
    assert line.fit(table["text"].tolist(), table["label"]).score(table["text"].tolist(), table["label"]) > 0.6


def test_it_travels_between_processes(fused: AutoFusionClassifier, new_texts: list[str]) -> None:
    copy = pickle.loads(pickle.dumps(fused))
    assert np.array_equal(copy.predict_proba(new_texts), fused.predict_proba(new_texts))


def test_it_says_little_and_leaves_nothing(
    small: Make, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    small(verbose=0).fit(table).predict(["a goal"])
    assert capfd.readouterr() == ("", "")
    small(verbose=1).fit(table)
    out, err = capfd.readouterr()
    assert err == ""
    assert out.splitlines()[0].startswith("AutoFusionClassifier: 72 train and 18 validation rows, 3 labels; encoder ")
    assert "accuracy % on the 18 validation rows, which fit and calibration have seen: encoder " in out.splitlines()[1]
    assert len(out.splitlines()) == 2
    assert not [*(tmp_path / "work").iterdir(), *(tmp_path / "temporary").iterdir()]


def test_what_cannot_be_fitted_is_named(small: Make, table: pd.DataFrame) -> None:
    with pytest.raises(NotFittedError):
        small().predict(["a goal"])
    with pytest.raises(DataError, match="one class"):
        small().fit(table["text"], ["a"] * 90)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        small().fit(table["text"], table["label"][1:])
    with pytest.raises(ConfigurationError, match="no/such-model"):
        small(ml_model="no/such-model").fit(table)
    with pytest.raises(ConfigurationError, match="nearest is 'deepseek'"):
        small(llm_provider="deepseak").fit(table)
    with pytest.raises(ConfigurationError, match="needs llm_model"):
        small(llm_provider="local").fit(table)


def test_defaults_follow_labels_and_machine() -> None:
    none: dict[str, Any] = dict.fromkeys(
        "ml_model frozen_layers num_epochs fusion_epochs ml_learning_rate fusion_lr batch_size validation_share".split()
    )
    cpu = torch.device("cpu")
    few = choose(FEW * 3 - 1, 100, 3, cpu, **none)
    many = choose(FEW * 3, 150, 3, cpu, **none)
    named = choose(FEW * 3, 150, 3, cpu, **{**none, "ml_model": LARGE_ENCODER, "num_epochs": 9})
    assert (few.frozen_layers, few.folds, few.encoder_epochs) == (-1, 5, 30)
    assert (many.frozen_layers, many.folds, many.encoder_epochs, many.encoder_lr) == (4, 3, 3, 3e-4)
    assert (named.encoder, named.frozen_layers, named.encoder_epochs, named.encoder_lr) == (LARGE_ENCODER, 0, 9, 2e-5)
    assert choose(4, 2, 2, cpu, **none).folds == 2
