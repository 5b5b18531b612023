from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lf_lightning.contract import RowsData
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.errors import ConfigurationError, DataError, ScoreMismatchError
from lf_lightning.store import ScorerCard, ScoreStore, Status

Factory = Callable[..., pd.DataFrame]


def ready(stage: str = "fit", **arguments: Any) -> ScoredTextDataModule:
    data = ScoredTextDataModule(**arguments)
    data.setup(stage)
    return data


def store_of(path: Path, texts: list[str], labels: tuple[str, ...], name: str = "llm", status: list[int] | None = None) -> str:
    store = ScoreStore(path, create=not path.exists())
    rng = np.random.default_rng(len(name))
    probabilities = rng.dirichlet(np.ones(len(labels)), len(texts)).astype(np.float32)
    store.append(
        ScorerCard(name, labels, "multiclass", {"model": name}),
        texts,
        probabilities,
        None if status is None else np.array(status),
    )
    return str(path)


def test_batches_hold_what_the_contract_says(tiny_tokenizer: str, topic_table: Factory, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    table = topic_table(100)
    names = tuple(sorted(set(table["label"])))
    scores = store_of(tmp_path / "store", table["text"].tolist(), names[::-1])
    data = ready(train=table, tokenizer=tiny_tokenizer, scores=scores, batch_size=16)
    assert isinstance(data, RowsData)
    assert data.labels == list(names)
    assert (data.num_scorers, data.scorer_names, data.task) == (1, ["llm"], "multiclass")
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer)
    texts = data.texts("train")
    seen = []
    stored = ScoreStore(scores).join(texts, ["llm"], list(names))
    for batch in data.train_dataloader():
        index = batch["index"]
        expected = tokenizer([texts[i] for i in index], padding=True, return_tensors="pt")
        assert torch.equal(batch["input_ids"], expected["input_ids"])
        assert torch.equal(batch["attention_mask"], expected["attention_mask"])
        assert batch["labels"].tolist() == [names.index(table["label"][data.split_ids["train"][i]]) for i in index]
        assert torch.equal(batch["scores"], torch.from_numpy(stored.scores)[index])
        assert batch["scored"].all()
        assert [batch[key].dtype for key in ("index", "input_ids", "attention_mask", "labels", "scores", "scored")] == [
            torch.int64, torch.int64, torch.int64, torch.int64, torch.float32, torch.bool,
        ]  # fmt: skip
        seen += index.tolist()
    assert sorted(seen) == list(range(90))
    scores_, scored, labels = data.scores_and_labels("train")
    assert (scores_.shape, scored.shape, labels.shape) == ((90, 1, 3), (90, 1), (90,))
    assert data.number_of_rows("train") == 90
    assert data.number_of_rows("test") == 0


def test_without_scores_batches_have_no_scorers(tiny_tokenizer: str, topic_table: Factory) -> None:
    batch = next(iter(ready(train=topic_table(40), tokenizer=tiny_tokenizer).val_dataloader()))
    assert (batch["scores"].shape, batch["scored"].shape) == ((4, 0, 3), (4, 0))


def test_padding_to_a_multiple_and_cutting_to_max_length(tiny_tokenizer: str, topic_table: Factory) -> None:
    data = ready(train=topic_table(40), tokenizer=tiny_tokenizer, pad_to_multiple_of=8, max_length=20)
    shapes = {batch["input_ids"].shape[1] for batch in data.train_dataloader()}
    assert shapes <= {8, 16, 24}
    assert max(int(batch["attention_mask"].sum(1).max()) for batch in data.train_dataloader()) == 20
    one = ready(train=topic_table(40), tokenizer=tiny_tokenizer, max_length=10**9)  # the tokenizer's own 128 hold
    assert next(iter(one.train_dataloader()))["input_ids"].shape[1] <= 128


def test_splits_are_written_down_and_follow_their_own_seed(tiny_tokenizer: str, topic_table: Factory) -> None:
    arguments = {"train": topic_table(200), "tokenizer": tiny_tokenizer, "test_share": 0.2, "validation_share": 0.2}

    def ids(**more: Any) -> dict[str, list[int]]:
        data = ScoredTextDataModule(**arguments, **more)
        data.setup()
        return data.split_ids

    first = ids(labels_per_class=4, seed=0)
    assert {name: len(rows) for name, rows in first.items()} == {"train": 12, "validation": 40, "test": 40}
    assert ids(labels_per_class=4, seed=0) == first
    other = ids(labels_per_class=4, seed=1)
    assert other["train"] != first["train"]
    assert (other["test"], other["validation"]) == (first["test"], first["validation"])
    assert ids(labels_per_class=4, split_seed=1)["test"] != first["test"]
    few = ids(labelled_fraction=0.1, validation_labels_per_class=2)
    assert (len(few["train"]), len(few["validation"])) == (12, 6)
    kept = ids(labels_per_class=4, keep_unlabelled=True)
    assert len(kept["train"]) == 120
    assert kept["train_labelled"] == first["train"]


def test_unlabelled_rows_are_served_only_if_asked_for(tiny_tokenizer: str, topic_table: Factory) -> None:
    table = topic_table(60)
    table.loc[10:39, "label"] = None
    data = ready(train=table, tokenizer=tiny_tokenizer, validation_share=0.2)
    assert data.summary["train"]["rows"] == data.summary["train"]["labelled"] == 24
    assert data.summary["train"]["dropped"] == {"unlabelled": 30}
    data = ready(train=table, tokenizer=tiny_tokenizer, validation_share=0.2, keep_unlabelled=True)
    labels = torch.cat([batch["labels"] for batch in data.train_dataloader()])
    assert (int((labels < 0).sum()), len(labels)) == (30, 54)
    assert data.summary["validation"]["labelled"] == 6


def test_multilabel_end_to_end(tiny_tokenizer: str, multilabel_table: Factory) -> None:
    table = multilabel_table(120)
    data = ready(
        train=table,
        tokenizer=tiny_tokenizer,
        task="multilabel",
        class_weights="balanced",
        labels_per_class=5,
        keep_unlabelled=True,
    )
    batch = next(iter(data.train_dataloader()))
    assert batch["labels"].shape == (32, 4)
    assert batch["labels"].dtype == torch.float32
    _, _, labels = data.scores_and_labels("train")
    known = labels[~labels.isnan().any(1)]
    assert known.sum(0).min() >= 5
    np.testing.assert_allclose(data.class_weight, ((1 - known).sum(0) / known.sum(0)).numpy(), rtol=1e-6)
    sizes = data.folds(3, 0).bincount()
    assert int(sizes.sum()) == len(labels)
    assert int(sizes.max() - sizes.min()) <= 2


def test_balanced_class_weights_are_scikit_learns(tiny_tokenizer: str, topic_table: Factory) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    table = topic_table(90).iloc[:70]
    data = ScoredTextDataModule(train=table, tokenizer=tiny_tokenizer, class_weights="balanced", validation_share=0.0)
    expected = compute_class_weight("balanced", classes=np.array(data.labels), y=table["label"].to_numpy(dtype=str))
    np.testing.assert_allclose(data.class_weight, expected)
    assert ScoredTextDataModule(train=table).class_weight is None


def test_policies_for_rows_that_are_not_scored(tiny_tokenizer: str, topic_table: Factory, tmp_path: Path) -> None:
    table = topic_table(60)
    names = tuple(sorted(set(table["label"])))
    status = [int(Status.SCORED)] * 50
    status[3], status[4] = int(Status.REFUSED), int(Status.UNPARSED)
    scores = store_of(tmp_path / "store", table["text"].tolist()[:50], names, status=status)
    arguments: dict[str, Any] = {"train": table, "tokenizer": tiny_tokenizer, "scores": scores, "validation_share": 0.0}
    with pytest.raises(
        ScoreMismatchError, match=r"of the 60 rows of train, not scored by 'llm': 10 absent, 1 refused, 1 unparsed"
    ):
        ready(**arguments)
    data = ready(**arguments, on_missing="mask")
    values, scored, _ = data.scores_and_labels("train")
    assert scored[:, 0].tolist() == [i not in (3, 4) for i in range(50)] + [False] * 10
    assert not values[~scored].any()
    assert data.summary["train"]["scores"] == {"llm": {"absent": 10, "scored": 48, "refused": 1, "unparsed": 1}}
    data = ready(**arguments, on_missing="drop")
    assert data.split_ids["train"] == [i for i in range(50) if i not in (3, 4)]
    assert data.summary["train"]["dropped"] == {"not_scored": 12}


def test_scores_of_other_texts_or_labels_are_refused(tiny_tokenizer: str, topic_table: Factory, tmp_path: Path) -> None:
    table = topic_table(30)
    names = tuple(sorted(set(table["label"])))
    other = store_of(tmp_path / "texts", ["another text"], names)
    with pytest.raises(ScoreMismatchError, match="belong to other texts"):
        ready(train=table, tokenizer=tiny_tokenizer, scores=other, on_missing="mask")
    labels = store_of(tmp_path / "labels", table["text"].tolist(), ("x", "y", "z"))
    with pytest.raises(ScoreMismatchError, match="are not those of scorer"):
        ready(train=table, tokenizer=tiny_tokenizer, scores=labels)
    with pytest.raises(ConfigurationError, match="scorers="):
        ScoredTextDataModule(train=table, scorers=["llm"])


def test_validation_may_be_unscored_when_masked(tiny_tokenizer: str, topic_table: Factory, tmp_path: Path) -> None:
    table, rest = topic_table(30), topic_table(20, seed=4)
    rest["text"] = "unscored " + rest["text"]
    names = tuple(sorted(set(table["label"])))
    scores = store_of(tmp_path / "store", table["text"].tolist(), names)
    arguments: dict[str, Any] = {"train": table, "validation": rest, "tokenizer": tiny_tokenizer, "scores": scores}
    _, scored, _ = ready(**arguments, on_missing="mask").scores_and_labels("validation")
    assert not scored.any()
    with pytest.raises(ScoreMismatchError, match="belong to other texts"):
        ready(**arguments)


def test_new_texts_can_be_predicted_without_scores_when_masked(
    tiny_tokenizer: str, topic_table: Factory, tmp_path: Path
) -> None:
    table = topic_table(30)
    names = sorted(set(table["label"]))
    scores = store_of(tmp_path / "store", table["text"].tolist(), tuple(names))
    store_of(tmp_path / "store", ["new text"], tuple(names), name="second")
    new = pd.DataFrame({"text": ["new text", "more", ""]})
    arguments: dict[str, Any] = {"predict": new, "tokenizer": tiny_tokenizer, "labels": names, "scores": scores}
    with pytest.warns(UserWarning, match="predict: 1 of 3 texts are empty"):
        data = ready("predict", **arguments, on_missing="mask")
    assert data.scorer_names == ["llm", "second"]
    _, scored, labels = data.scores_and_labels("predict")
    assert scored.tolist() == [[False, True], [False, False], [False, False]]
    assert labels.tolist() == [-1, -1, -1]
    with (
        pytest.warns(UserWarning, match="empty"),
        pytest.raises(ScoreMismatchError, match=r"--data\.on_missing mask.*lf score"),
    ):
        ready("predict", **arguments)
    strangers = {**arguments, "predict": pd.DataFrame({"text": ["unheard of"]})}
    with pytest.raises(ScoreMismatchError, match=r"'llm': 1 absent; 'second': 1 absent\. Way out: --data\.on_missing mask"):
        ready("predict", **strangers)


def test_first_words_are_the_key_of_the_scores(tiny_tokenizer: str, topic_table: Factory, tmp_path: Path) -> None:
    table = topic_table(40)
    short = [" ".join(text.split()[:5]) for text in table["text"]]
    table["text"] = [f"  {text}\n" for text in table["text"]]
    scores = store_of(tmp_path / "store", sorted(set(short)), tuple(sorted(set(table["label"]))))
    data = ready(train=table, tokenizer=tiny_tokenizer, scores=scores, max_words=5, validation_share=0.0)
    assert data.texts("train") == short


def test_duplicates_and_shared_texts_are_counted(tiny_tokenizer: str, topic_table: Factory) -> None:
    table = topic_table(60)
    doubled = pd.concat([table, table.iloc[:10].assign(label="sport")])
    with pytest.warns(UserWarning, match=r"train: \d of the dropped duplicates had another label"):
        data = ready(train=doubled, tokenizer=tiny_tokenizer, drop_duplicates=True)
    assert data.summary["train"]["dropped"] == {"duplicates": 10}
    assert sum(len(rows) for rows in data.split_ids.values()) == 60
    with pytest.warns(UserWarning, match="12 test rows have a text that is also in train"):
        ready(train=table, test=table.iloc[:12], tokenizer=tiny_tokenizer, validation_share=0.0)


def test_data_errors_name_the_split_and_the_way_out(tiny_tokenizer: str, topic_table: Factory) -> None:
    table = topic_table(30)
    with pytest.raises(DataError, match="no labelled row has the label 'opera'"):
        ready(train=table, labels=["opera", "politics", "science", "sport"], tokenizer=tiny_tokenizer)
    labels = ["opera", "politics", "science", "sport"]
    absent = ready(train=table, labels=labels, allow_absent_classes=True, tokenizer=tiny_tokenizer, class_weights="balanced")
    assert absent.summary["train"]["per_label"]["opera"] == 0
    assert absent.class_weight is not None
    assert absent.class_weight[0] == 1.0
    wrong = table.assign(label="sporty").iloc[:5]
    with pytest.raises(DataError, match=r"test: unknown label 'sporty' in 5 rows.*'sport'"):  # before training, not after
        ready(train=table, test=wrong, tokenizer=tiny_tokenizer)
    with pytest.raises(DataError, match="validation is empty"):
        ready(train=table, validation=table.iloc[:0], tokenizer=tiny_tokenizer)
    with pytest.raises(DataError, match="test: 1 rows have no label"):
        ready("test", train=table, test=table.iloc[:2].assign(label=["sport", None]), tokenizer=tiny_tokenizer)
    with pytest.raises(ConfigurationError, match=r"There are no test rows. Give data.test a source, or data.test_share"):
        ScoredTextDataModule(train=table, tokenizer=tiny_tokenizer).test_dataloader()
    with pytest.raises(ConfigurationError, match="labels: give the label names"):
        _ = ScoredTextDataModule(predict=table).labels
    for name in ("batch_size", "eval_batch_size", "max_length", "max_words", "pad_to_multiple_of"):
        with pytest.raises(ConfigurationError, match=f"{name}=0"):
            ScoredTextDataModule(**{name: 0})
    with pytest.raises(ConfigurationError, match="Give one of them"):
        ScoredTextDataModule(labels_per_class=2, labelled_fraction=0.5)


def test_unknown_tokenizer_fails_at_once(topic_table: Factory) -> None:
    with pytest.raises(ConfigurationError, match="tokenizer='nobody/nothing' could not be loaded"):
        ready(train=topic_table(30), tokenizer="nobody/nothing")


def test_strange_characters_reach_the_batch_and_stay_in_the_key(tiny_tokenizer: str) -> None:
    texts = ["a \ud800 goal", "nul\0byte", "x" * 1_000_000, "\u202e\U0001f600", "\ufffd"]
    table = pd.DataFrame({"text": pd.Series(texts, dtype=object), "label": ["a", "b", "a", "b", "a"]})
    data = ready(train=table, tokenizer=tiny_tokenizer, validation_share=0.0)
    assert data.texts("train") == texts
    assert len(next(iter(data.train_dataloader()))["index"]) == 5
    assert len(data.dataset_fingerprint["train"]) == 64


def test_only_what_a_stage_needs_is_read(tiny_tokenizer: str, topic_table: Factory) -> None:
    labels = ["politics", "sport", "science"]
    data = ready(
        "test", train="nowhere.csv", validation="nowhere.csv", test=topic_table(9), labels=labels, tokenizer=tiny_tokenizer
    )
    assert list(data.summary) == ["test"]


def fake_trainer(world: int, rank: int, replaces: bool = False) -> Any:
    return SimpleNamespace(
        world_size=world, global_rank=rank, _accelerator_connector=SimpleNamespace(use_distributed_sampler=replaces)
    )


def test_ranks_take_even_shares(tiny_tokenizer: str, topic_table: Factory) -> None:
    data = ready(
        "test", test=topic_table(67), tokenizer=tiny_tokenizer, labels=["politics", "science", "sport"], eval_batch_size=8
    )
    shares = []
    for rank in range(2):
        data.trainer = fake_trainer(2, rank)
        shares.append(torch.cat([batch["index"] for batch in data.test_dataloader()]))
    assert [len(share) for share in shares] == [34, 34]
    assert set(torch.cat(shares).tolist()) == set(range(67))
    data.trainer = fake_trainer(2, 0, replaces=True)
    with pytest.raises(ConfigurationError, match=r"trainer.use_distributed_sampler: false"):
        data.test_dataloader()


def test_chosen_rows_only(tiny_tokenizer: str, topic_table: Factory) -> None:
    data = ready(train=topic_table(60), tokenizer=tiny_tokenizer, validation_share=0.0)
    rows = torch.tensor([5, 40, 7])
    assert sorted(torch.cat([batch["index"] for batch in data.rows_dataloader("train", rows)]).tolist()) == [5, 7, 40]
    with pytest.raises(ConfigurationError, match=r"asked for 60..60 of the 60 rows of train"):
        data.rows_dataloader("train", torch.tensor([60]))
    with pytest.raises(ConfigurationError, match="asked for none"):
        data.rows_dataloader("train", torch.tensor([], dtype=torch.int64))


def test_the_record_of_a_run_gets_fingerprints_and_seed(tiny_tokenizer: str, topic_table: Any, tmp_path: Path) -> None:
    table = topic_table(12)
    card = ScorerCard("gpt", ("politics", "science", "sport"), "multiclass", {"model": "m"})
    ScoreStore(tmp_path, create=True).append(card, list(table["text"]), [[0.2, 0.5, 0.3]] * len(table))
    data = ScoredTextDataModule(train=table, tokenizer=tiny_tokenizer, scores=str(tmp_path), seed=7)
    assert data.scorer_fingerprints == {"gpt": card.fingerprint}
    assert data.seed == 7
