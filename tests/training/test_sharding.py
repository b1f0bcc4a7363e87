"""What needs no second process; :mod:`tests.tasks.test_fully_sharded` runs two."""

from __future__ import annotations

import pytest
import timm
import torch
import transformers
from torch import nn

import tests.tiny  # noqa: F401 - registers the tiny networks
from hwaware.errors import UserError
from hwaware.training.sharding import refuse_shared_weights, units


def test_units_are_the_blocks_and_the_rest():
    assert list(units(timm.create_model("tiny_test_vit"))) == ["", "blocks.0", "blocks.1"]
    assert list(units(timm.create_model("tiny_test_net"))) == [""]
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 8}
    reader = transformers.BertForQuestionAnswering(transformers.BertConfig(vocab_size=9, **sizes))
    assert list(units(reader)) == ["", "bert.encoder.layer.0", "bert.encoder.layer.1"]


def test_units_lie_in_units_but_no_layer_is_one():
    with torch.device("meta"):
        found = list(units(timm.create_model("swin_tiny_patch4_window7_224")))
    assert found[:4] == ["", "layers.0", "layers.1", "layers.2"]
    assert "layers.2.blocks.5" in found
    assert list(units(nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]))) == [""]


def test_layers_of_two_units_that_share_a_weight_are_refused():
    network = timm.create_model("tiny_test_vit")
    refuse_shared_weights(network)
    network.blocks[0].mlp.fc1.weight = network.blocks[0].mlp.fc2.weight  # within one unit it is one gradient
    refuse_shared_weights(network)
    network.blocks[1].attn.proj.weight = network.blocks[0].attn.proj.weight
    with pytest.raises(UserError, match=r"'blocks.0.attn.proj' and 'blocks.1.attn.proj' share .*'blocks.0' and 'bl"):
        refuse_shared_weights(network)


def test_a_weight_shared_with_the_rest_is_refused_and_a_block_that_runs_twice_is_not():
    network = timm.create_model("tiny_test_vit")
    network.norm.weight = network.blocks[1].norm1.weight
    with pytest.raises(UserError, match=r"'blocks.1.norm1' and 'norm' share one weight.*\(in 'blocks.1' and the rest"):
        refuse_shared_weights(network)
    network = timm.create_model("tiny_test_vit")
    network.blocks = nn.Sequential(network.blocks[0], network.blocks[0])
    refuse_shared_weights(network)
