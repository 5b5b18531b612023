from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lf_lightning.errors import DataError
from lf_lightning.store import text_key, text_keys
from lf_lightning.store.keys import KeyIndex

# Few distinct bytes, many of them NUL, so that keys share long prefixes and end in NULs.
near_keys = st.lists(
    st.lists(st.sampled_from([0, 1, 255]), min_size=3, max_size=3).map(lambda tail: bytes(29) + bytes(tail)), max_size=40
)


def as_array(keys: list[bytes]) -> np.ndarray:
    return np.frombuffer(bytearray(b"".join(keys)), dtype="S32")


def test_the_key_is_sha256_of_the_exact_utf8() -> None:
    assert text_key("añb") == hashlib.sha256(b"a\xc3\xb1b").digest()
    texts = ["", "a", "a ", "A", "é", "e\u0301", "\ud800", "a\0", "a\0\0", "x" * 10**6]
    keys = text_keys(texts)
    assert keys.dtype == "S32"
    assert keys.tobytes() == b"".join(text_key(text) for text in texts)
    assert len(np.unique(keys)) == len(texts)
    assert text_keys([]).shape == (0,)


@pytest.mark.parametrize("wrong", [float("nan"), None, b"bytes", 3])
def test_a_text_that_is_no_string_is_named_by_position(wrong: object) -> None:
    with pytest.raises(DataError, match=r"texts\[1\] is"):
        text_keys(["fine", wrong])  # type: ignore[list-item]


@given(st.lists(st.text(st.characters(exclude_categories=()))))
def test_keys_are_equal_exactly_when_texts_are(texts: list[str]) -> None:
    keys = text_keys(texts)
    assert len(np.unique(keys)) == len(set(texts))
    assert keys.tobytes() == b"".join(text_key(text) for text in texts)


@given(near_keys, near_keys, near_keys)
def test_the_index_agrees_with_a_dict(first: list[bytes], second: list[bytes], queries: list[bytes]) -> None:
    index = KeyIndex()
    for start, part in ((0, first), (len(first), second)):
        if part:
            index = index.extended(as_array(part), start)
    reference = {key: row for row, key in enumerate(first + second)}
    asked = queries + first + second
    assert index.find(as_array(asked)).tolist() == [reference.get(key, -1) for key in asked]
    assert len(index) == len(reference)
    assert (np.diff(np.argsort(index.keys, kind="stable")) == 1).all()
