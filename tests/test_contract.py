from __future__ import annotations

import subprocess
import sys

import torch

from lf_lightning.contract import Outputs, Phase, PhasedSystem, RowsData
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.errors import (
    ConfigurationError,
    DataError,
    Interrupted,
    LFError,
    MissingDependencyError,
    NotFiniteError,
    NotFittedError,
    ScoreMismatchError,
    StoreError,
)
from lf_lightning.systems import FusionLightningModule
from lf_lightning.systems.base import ClassifierModule


def test_data_and_systems_keep_the_contract(tiny_tokenizer: str) -> None:
    assert isinstance(ScoredTextDataModule(tokenizer=tiny_tokenizer), RowsData)
    assert issubclass(FusionLightningModule, ClassifierModule)
    assert issubclass(ClassifierModule, PhasedSystem)


def test_outputs_of_two_batches_share_no_members() -> None:
    one, other = (Outputs(torch.arange(1), torch.zeros(1, 2), torch.zeros(1)) for _ in range(2))
    one.members["llm"] = torch.zeros(1, 2)
    assert other.members == {}
    assert Phase("head", 3) == ("head", 3)


def test_each_error_is_also_what_python_calls_it_and_has_its_exit_code() -> None:
    expected = {
        ConfigurationError: (ValueError, 2),
        DataError: (ValueError, 3),
        StoreError: (LFError, 4),
        ScoreMismatchError: (DataError, 4),
        NotFittedError: (RuntimeError, 1),
        NotFiniteError: (ArithmeticError, 1),
        MissingDependencyError: (ImportError, 1),
        Interrupted: (LFError, 143),
    }
    for error, (base, code) in expected.items():
        assert issubclass(error, LFError)
        assert issubclass(error, base)
        assert error.exit_code == code


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, lf_lightning, lf_lightning.callbacks; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
