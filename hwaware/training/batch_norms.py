"""Synchronises the running statistics of batch norms over ranks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(network: nn.Module) -> Iterator[_BatchNorm]:
    """The batch norms of a network."""
    return (module for module in network.modules() if isinstance(module, _BatchNorm))


@torch.no_grad()
def synchronise_batch_norms(network: nn.Module) -> None:
    """Pools the ranks' running statistics: mean of means, and variance within plus between ranks. For all ranks."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    world = torch.distributed.get_world_size()
    for module in batch_norms(network):
        if module.running_mean is None or module.running_var is None:
            continue
        # In double precision: for a large mean, the variance is a small difference of large numbers.
        mean, var = module.running_mean.double(), module.running_var.double()
        pooled = torch.stack([mean, var + mean**2])
        torch.distributed.all_reduce(pooled)
        pooled /= world
        module.running_mean.copy_(pooled[0])
        module.running_var.copy_((pooled[1] - pooled[0] ** 2).clamp(min=0))
