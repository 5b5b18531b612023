from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    DebertaV2Config,
    DistilBertConfig,
    ModernBertConfig,
    MPNetConfig,
    PretrainedConfig,
    RobertaConfig,
    T5Config,
)

from lf_lightning.encoders import Pooling, TextEncoder
from lf_lightning.errors import ConfigurationError

SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES),
    "mpnet": MPNetConfig(**SIZES),
    "distilbert": DistilBertConfig(
        vocab_size=50, dim=16, n_layers=3, n_heads=2, hidden_dim=24, max_position_embeddings=40, pad_token_id=1
    ),
    "modernbert": ModernBertConfig(
        **SIZES, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3, local_attention=8, reference_compile=False
    ),
    "deberta": DebertaV2Config(
        **SIZES, relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=8, norm_rel_ebd="layer_norm"
    ),
}
WHERE = {  # embeddings and layers by the names that the models give them
    "bert": ("embeddings.", "encoder.layer."),
    "roberta": ("embeddings.", "encoder.layer."),
    "mpnet": ("embeddings.", "encoder.layer."),
    "distilbert": ("embeddings.", "transformer.layer."),
    "modernbert": ("embeddings.", "layers."),
    "deberta": ("embeddings.", "encoder.layer."),
}
POOLINGS: list[Pooling] = ["mean", "cls", "max"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    made = {}
    with torch.random.fork_rng(devices=[]):
        for name, config in CONFIGS.items():
            torch.manual_seed(0)
            path = tmp_path_factory.mktemp(name)
            AutoModel.from_config(config).save_pretrained(path)
            made[name] = str(path)
    return made


def batch(lengths: list[int], width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(5, 50, (len(lengths), max(lengths)), generator=generator)
    ids = torch.full((len(lengths), width), 1)
    mask = torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = words[row, :length]
        mask[row, :length] = 1
    return ids, mask


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", CONFIGS)
def test_pooling_by_hand_and_no_trace_of_padding(name: str, pooling: Pooling, folders: dict[str, str]) -> None:
    encoder = TextEncoder(folders[name], pooling).eval()
    ids, mask = batch([4, 11, 1], 11)
    with torch.no_grad():
        vectors = encoder(ids, mask)
        wide = encoder(*batch([4, 11, 1], 19))
        hidden = [encoder.model(ids[i : i + 1, :n], mask[i : i + 1, :n]).last_hidden_state[0] for i, n in enumerate([4, 11, 1])]
    by_hand = {"mean": lambda h: h.mean(0), "cls": lambda h: h[0], "max": lambda h: h.amax(0)}[pooling]
    assert vectors.shape == (3, encoder.dim) == (3, 16)
    assert torch.allclose(vectors, torch.stack([by_hand(h) for h in hidden]), atol=1e-5)
    assert torch.allclose(wide, vectors, atol=1e-5)


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("name", CONFIGS)
def test_frozen_layers_are_the_embeddings_and_the_lowest(name: str, depth: int, folders: dict[str, str]) -> None:
    encoder = TextEncoder(folders[name], frozen_layers=depth)
    embeddings, layers = WHERE[name]
    frozen = tuple([embeddings, *(f"{layers}{number}." for number in range(depth))] if depth else [])
    names = dict(encoder.model.named_parameters())
    assert all(any(n.startswith(prefix) for n in names) for prefix in frozen)
    assert {n for n, p in names.items() if not p.requires_grad} == {n for n in names if frozen and n.startswith(frozen)}


def test_wholly_frozen_has_no_gradient_and_no_dropout(folders: dict[str, str]) -> None:
    encoder = TextEncoder(folders["bert"], frozen_layers=-1).train()
    assert not any(module.training for module in encoder.model.modules())
    first, second = (encoder(*batch([5, 3], 5)) for _ in range(2))
    assert torch.equal(first, second)
    assert not first.requires_grad


def test_trained_layers_have_dropout_and_gradients(folders: dict[str, str]) -> None:
    encoder = TextEncoder(folders["bert"], frozen_layers=1)
    assert encoder.model.training  # from_pretrained leaves it off
    first, second = (encoder(*batch([5, 3], 5)) for _ in range(2))
    assert not torch.equal(first, second)
    first.sum().backward()
    assert {name.split(".")[2] for name, p in encoder.model.named_parameters() if p.grad is not None} == {"1", "2"}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_trained_weight_has_a_gradient_also_with_checkpointing(name: str, folders: dict[str, str]) -> None:
    has = name != "mpnet"
    plain, saving = (TextEncoder(folders[name], gradient_checkpointing=on and has) for on in (False, True))
    for encoder in (plain, saving):
        torch.manual_seed(1)  # the same dropout
        encoder(*batch([5, 3], 5)).square().sum().backward()
    for (key, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert one.grad is not None, key  # DDP would wait for it
        assert other.grad is not None, key
        assert torch.allclose(one.grad, other.grad, atol=1e-5), key


@pytest.mark.parametrize("name", CONFIGS)
def test_the_plain_configuration_builds_the_same_encoder(name: str, folders: dict[str, str], tmp_path: Path) -> None:
    encoder = TextEncoder(folders[name]).eval()
    torch.save(encoder.plain_config, tmp_path / "config.pt")
    again = TextEncoder("nowhere/at-all", config=torch.load(tmp_path / "config.pt", weights_only=True)).eval()
    again.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(again(*batch([5, 3], 5)), encoder(*batch([5, 3], 5)))


def test_a_model_without_checkpointing(folders: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"gradient_checkpointing=True: MPNetModel has none\. Way out"):
        TextEncoder(folders["mpnet"], gradient_checkpointing=True)


@pytest.mark.parametrize("depth", [-2, 4])
def test_too_many_layers(depth: int, folders: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=rf"frozen_layers={depth}: this encoder has 3 layers\. Way out: 0 to 3, or -1"):
        TextEncoder(folders["bert"], frozen_layers=depth)


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    config = T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="is not an encoder"):
        TextEncoder(str(tmp_path))


def test_a_hub_name_without_a_network_fails_at_once() -> None:
    begun = time.monotonic()
    with pytest.raises(ConfigurationError, match=r"encoder='no-such/encoder' could not be loaded.*Way out"):
        TextEncoder("no-such/encoder")
    assert time.monotonic() - begun < 5


def test_what_other_heads_need_is_not_told_and_what_begins_at_random_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    config = BertConfig(**SIZES)
    BertForMaskedLM(config).save_pretrained(tmp_path / "whole")  # weights of its head, and no pooler
    capfd.readouterr()
    TextEncoder(str(tmp_path / "whole"))
    assert "LOAD REPORT" not in "".join(capfd.readouterr())
    assert not recwarn.list
    smaller = BertForMaskedLM(BertConfig(**{**SIZES, "num_hidden_layers": 2}))
    smaller.save_pretrained(tmp_path / "part")
    config.save_pretrained(tmp_path / "part")
    with pytest.warns(UserWarning, match=r"16 of its weights .* begin at random \(encoder\.layer\.2"):
        TextEncoder(str(tmp_path / "part"))
