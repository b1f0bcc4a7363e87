"""What needs no second process; :mod:`tests.tasks.test_fully_sharded` runs two."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import transformers
from torch import nn

import tests.tiny  # noqa: F401 - registers the tiny networks
from hwaware.errors import UserError
from hwaware.hardware import load_hardware
from hwaware.nn import convert
from hwaware.tasks.fully_sharded import OLDEST_TORCH
from hwaware.training import RetentionLoss, clip_weights_, install_retention, retention_loss
from hwaware.training.sharding import gathered, keep_gathered, refuse_shared_weights, shard, units, whole_copy

pytestmark = pytest.mark.skipif(torch.__version__ < OLDEST_TORCH, reason=f"fsdp2 needs torch {OLDEST_TORCH}")


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


@pytest.fixture
def mesh():
    """Of this process alone: parameters are DTensors all the same."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield torch.distributed.init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def network_in_cells():
    torch.manual_seed(0)
    network = timm.create_model("tiny_test_vit")
    network.blocks[0].mlp.fc2.weight.requires_grad_(False)
    network.blocks[1].attn.register_buffer("kept", torch.arange(3.0), persistent=False)
    convert(network, load_hardware("reram_cmo", mapping="differential"))
    return network


def test_a_whole_copy_is_the_network_of_now(mesh):
    network = network_in_cells()
    network.blocks[0].mlp.twin = nn.Linear(80, 20)
    network.blocks[0].mlp.twin.weight = network.blocks[0].mlp.fc2.weight
    before = copy.deepcopy(network)
    structure = shard(network, mesh)
    with torch.no_grad():
        network.head.weight.mul_(2)
        before.head.weight.mul_(2)
        network.blocks[1].attn.kept.add_(1)
        before.blocks[1].attn.kept.add_(1)
    whole = whole_copy(network, structure)
    assert whole.blocks[0].mlp.twin.weight is whole.blocks[0].mlp.fc2.weight
    assert [type(module) for module in whole.modules()] == [type(module) for module in before.modules()]
    ours, theirs = (dict([*one.named_parameters(), *one.named_buffers()]) for one in (whole, before))
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert value.equal(theirs[name]) and value.requires_grad == theirs[name].requires_grad
    assert not {id(one) for one in whole.parameters()} & {id(one) for one in network.parameters()}


def test_retention_loss_and_clipping_take_a_layer_whole_outside_of_its_forward(mesh):
    network = network_in_cells()
    whole = copy.deepcopy(network)
    shard(network, mesh)
    losses = []
    for one in (whole, network):
        install_retention(one, RetentionLoss())
        losses.append(retention_loss(one))  # nothing has run: each layer computes it now
        losses[-1].backward()
        clip_weights_(one, 2.0)
    assert losses[0].item() == losses[1].item()
    for ours, theirs in zip(network.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(gathered(ours.detach()), theirs.detach())
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None:
            torch.testing.assert_close(gathered(ours.grad), theirs.grad)


def test_training_goes_on_in_shards_after_a_network_was_kept_gathered(mesh):
    network, images = network_in_cells(), torch.randn(2, 3, 8, 8)
    expected = network(images)
    shard(network, mesh)
    keep_gathered(network, True)
    assert not hasattr(network.blocks[0].mlp.fc1.weight, "full_tensor")
    assert network(images).equal(expected)
    keep_gathered(network, False)
    for part in (network.head, network.blocks[0].mlp.fc1):
        assert hasattr(part.weight, "full_tensor")
    network(images).sum().backward()
    assert hasattr(network.blocks[0].mlp.fc1.weight.grad, "full_tensor")
