from __future__ import annotations

import sys

import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lf_lightning.cli.endings import endings_told_apart
from lf_lightning.errors import DataError, Interrupted


def test_sigterm_is_an_interruption() -> None:
    with pytest.raises(Interrupted, match="--ckpt_path last") as ended, endings_told_apart():
        raise SIGTERMException
    assert ended.value.exit_code == 143


def test_the_keyboard_behind_lightnings_exit() -> None:
    with pytest.raises(KeyboardInterrupt), endings_told_apart():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)


def test_other_exits_pass() -> None:
    with pytest.raises(SystemExit, match="2"), endings_told_apart():
        sys.exit(2)


def test_our_error_is_found_inside_a_wrapping() -> None:
    with pytest.raises(DataError, match="no such label"), endings_told_apart():
        try:
            raise DataError("no such label")
        except DataError as error:
            raise ValueError("Does not validate against any of the Union subtypes") from error


def test_an_error_that_is_not_ours_passes() -> None:
    with pytest.raises(ZeroDivisionError), endings_told_apart():
        raise ZeroDivisionError
