"""Files that torch itself writes, in both of its formats, come out as torch reads them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labelwise.engine.checkpoint.checkpoint import Checkpoint

pytestmark = pytest.mark.parity

torch = pytest.importorskip("torch")


def state_dict():
    """What a model saves, with what an encoder's file may hold beside it."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.LayerNorm(7))
    state = model.state_dict()
    wide = torch.randn(6, 8)
    state["tied"] = state["0.weight"]
    state["turned"] = wide.t()
    state["window"] = wide[1:5, 2:7:2]
    state["row"] = wide[2]
    state["half"] = torch.randn(3, 4).half()
    state["bfloat16"] = torch.randn(3, 4).bfloat16()
    state["double"] = torch.randn(3, 4).double()
    state["parameter"] = torch.nn.Parameter(torch.randn(4))
    state["frozen"] = torch.nn.Parameter(torch.randn(4), requires_grad=False)
    state["scalar"] = torch.tensor(2.5)
    state["empty"] = torch.empty(0, 3)
    state["position_ids"] = torch.arange(9).expand((1, -1))
    state["mask"] = torch.ones(2, 2, dtype=torch.bool)
    return state


def assert_same(folder, expected):
    with Checkpoint.open(folder) as checkpoint:
        for name, tensor in expected.items():
            assert checkpoint.shape(name) == tuple(tensor.shape)
            if tensor.is_floating_point():
                array = checkpoint.take(name, tuple(tensor.shape))
                assert array.flags.c_contiguous
                assert np.array_equal(array, tensor.detach().float().numpy())
        assert checkpoint.unused() == sorted(
            name for name, tensor in expected.items() if not tensor.is_floating_point()
        )


@pytest.mark.parametrize("as_zip", [True, False])
def test_each_tensor_is_as_torch_has_it(tmp_path, as_zip):
    state = state_dict()
    path = tmp_path / "pytorch_model.bin"
    torch.save(state, path, _use_new_zipfile_serialization=as_zip)
    assert_same(tmp_path, state)


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_plain_dict_in_shards(tmp_path, as_zip):
    state = dict(state_dict())
    weight_map = {name: f"part-{index % 2}.bin" for index, name in enumerate(state)}
    for part in set(weight_map.values()):
        torch.save(
            {name: tensor for name, tensor in state.items() if weight_map[name] == part},
            tmp_path / part,
            _use_new_zipfile_serialization=as_zip,
        )
    index = json.dumps({"weight_map": weight_map})
    (tmp_path / "pytorch_model.bin.index.json").write_text(index)
    assert_same(tmp_path, state)


def test_safetensors_as_torch_writes_them(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    state = {name: tensor.detach().clone().contiguous() for name, tensor in state_dict().items()}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert_same(tmp_path, state)


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_classifier_of_transformers(tmp_path, as_zip):
    """All weights of its state dict, in the shapes that it has."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=20,
    )
    state = transformers.BertForSequenceClassification(config).state_dict()
    path = tmp_path / "pytorch_model.bin"
    torch.save(state, path, _use_new_zipfile_serialization=as_zip)
    assert_same(tmp_path, state)
