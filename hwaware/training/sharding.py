"""Shards a network's parameters over several processes: FSDP2, :func:`torch.distributed.fsdp.fully_shard`.

The parameters of a unit are gathered for its forward pass and are plain tensors there, so a layer's scale is that of
the whole layer. Outside they are DTensors, and each process holds some rows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from hwaware.errors import UserError
from hwaware.hardware.placement import ancestry
from hwaware.nn import Measured


def units(network: nn.Module) -> dict[str, nn.Module]:
    """The modules whose parameters are gathered together, by name, outer ones first: the network and its blocks.

    Blocks are the members of module lists and sequentials whose members all have one class and submodules, such as a
    transformer's layers. A unit has the parameters that no inner unit has.
    """
    found = {"": network}
    for name, module in network.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or len({type(one) for one in module}) != 1:
            continue
        for key, block in module.named_children():
            runs = not isinstance(block, nn.ModuleList | nn.ModuleDict)
            if runs and any(block.children()) and any(True for _ in block.parameters()):
                found[f"{name}.{key}" if name else key] = block
    return found


def refuse_shared_weights(network: nn.Module) -> None:
    """Raises UserError for a parameter that layers in several units share, which would get separate gradients."""
    names = {id(module): name for name, module in units(network).items()}
    modules = dict(network.named_modules(remove_duplicate=False))
    first: dict[int, tuple[str, int]] = {}
    for name, module in modules.items():
        unit = next(id(one) for one in _outwards(name, modules) if id(one) in names)
        for parameter in module._parameters.values():
            if parameter is None:
                continue
            other, others_unit = first.setdefault(id(parameter), (name, unit))
            if others_unit != unit:
                one, two = (f"'{names[key]}'" if names[key] else "the rest" for key in (others_unit, unit))
                raise UserError(
                    f"layers '{other}' and '{name}' share one weight, but fsdp2 shards them apart (in {one} and {two} "
                    "of the network): untie them, or use --trainer.strategy ddp."
                )


def _outwards(name: str, modules: dict[str, nn.Module]) -> Iterator[nn.Module]:
    """A module and all modules that contain it, the network last."""
    yield from (modules[one] for one in reversed(list(ancestry(name))) if one)
    yield modules[""]


def shard(network: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shards a network in place over a one-dimensional mesh; returns its structure, for :func:`whole_copy`.

    Create the optimiser afterwards.

    Raises:
        UserError: see :func:`refuse_shared_weights`.
    """
    refuse_shared_weights(network)
    on_meta = {
        id(one): nn.Parameter(torch.empty_like(one, device="meta"), one.requires_grad) for one in network.parameters()
    }
    structure = copy.deepcopy(network, on_meta)  # which treats these as copied already
    for unit in reversed(units(network).values()):
        fully_shard(unit, mesh=mesh)
    return structure


def gathered(tensor: Tensor) -> Tensor:
    """The whole tensor of a sharded one, differentiable; other tensors unchanged. All processes must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(whole: Tensor, other: Tensor) -> Tensor:
    """This process's shard of a tensor that all processes have, if ``other`` (of the same shape) is sharded."""
    if not isinstance(other, DTensor) or whole.shape != other.shape:
        return whole
    whole = whole.to(other.device)
    return distribute_tensor(whole, other.device_mesh, other.placements, src_data_rank=None)


@torch.no_grad()
def whole_copy(network: nn.Module, structure: nn.Module) -> nn.Module:
    """A whole copy of a sharded network with its current weights, on the CPU. All processes must call this.

    Args:
        network: the network that was sharded by :func:`shard`.
        structure: the structure that :func:`shard` returned.
    """
    weights = dict(network.named_parameters())
    made = {
        id(one): nn.Parameter(gathered(weights[name]).to("cpu", copy=True), one.requires_grad)
        for name, one in structure.named_parameters()
    }
    whole = copy.deepcopy(structure, made)  # as above
    buffers = dict(whole.named_buffers())
    for name, buffer in network.named_buffers():
        buffers[name].copy_(buffer)
    Measured.of(network).give(whole)
    return whole


def keep_gathered(network: nn.Module, gather: bool) -> None:
    """Keeps a sharded network gathered until it is called with False, so that processes need not run in lockstep.

    In validation one process may have a batch more than another, and would wait forever. All processes must call this.
    """
    for module in network.modules():
        if isinstance(module, FSDPModule):
            # The network itself, the outermost unit, stays gathered from forward to backward anyway.
            module.set_reshard_after_forward(not gather and module is not network, recurse=False)
            if gather:
                module.unshard()
            else:
                module.reshard()
