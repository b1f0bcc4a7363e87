"""Normalisation layers of a network: temporary changes of their statistics and affine parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

#: Largest half-precision number; a larger variance would be stored as infinity.
_HALF = (-65504.0, 65504.0)

STATISTICS = ("running_mean", "running_var")
_AFFINE = ("weight", "bias")


def batch_norms(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """The network's batch norms with running statistics, by name."""
    found = {n: m for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    return {name: module for name, module in found.items() if module.running_mean is not None}


def affine_batch_norms(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """The network's batch norms with running statistics, a scale and a shift, by name."""
    return {name: norm for name, norm in batch_norms(model).items() if norm.weight is not None}


def layer_norms(model: nn.Module) -> dict[str, nn.LayerNorm]:
    """The network's layer norms with a scale and a shift, by name."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    return {name: norm for name, norm in found.items() if norm.weight is not None and norm.bias is not None}


def stored_half(value: Tensor) -> Tensor:
    """Rounds a value to half precision, clipped to its range."""
    return value.clamp(*_HALF).half().float()


@contextmanager
def measuring_statistics(model: nn.Module) -> Iterator[Callable[[], dict[str, Tensor]]]:
    """Within the context batch norms normalise with batch statistics, and average these over all batches.

    Yields a function that returns the averages so far, in half precision. On exit the network is restored.
    """
    norms = batch_norms(model)
    before = {name: (norm.momentum, norm.get_buffer("num_batches_tracked").clone()) for name, norm in norms.items()}
    with installed_statistics(model, {}):
        try:
            for norm in norms.values():
                norm.reset_running_stats()
                norm.momentum = None  # a plain average over batches
                norm.train()
            yield lambda: {
                f"{name}/{what}": stored_half(getattr(norm, what))
                for name, norm in norms.items()
                for what in STATISTICS
            }
        finally:
            for name, norm in norms.items():
                norm.eval()
                norm.momentum, tracked = before[name]
                norm.get_buffer("num_batches_tracked").copy_(tracked)


@contextmanager
def installed_statistics(model: nn.Module, state: dict[str, Tensor]) -> Iterator[None]:
    """Within the context batch norms use the statistics in a state, if it has any."""
    norms = batch_norms(model)
    before = {name: [getattr(norm, what).clone() for what in STATISTICS] for name, norm in norms.items()}
    try:
        for name, norm in norms.items():
            for what in STATISTICS:
                getattr(norm, what).copy_(state.get(f"{name}/{what}", getattr(norm, what)))
        yield
    finally:
        for name, norm in norms.items():
            for what, value in zip(STATISTICS, before[name], strict=True):
                getattr(norm, what).copy_(value)


def affine_state(norms: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The current scales and shifts of normalisation layers."""
    return {f"{name}/{what}": getattr(norm, what).detach().clone() for name, norm in norms.items() for what in _AFFINE}


@contextmanager
def installed_affine(norms: Mapping[str, nn.Module], state: dict[str, Tensor]) -> Iterator[None]:
    """Within the context normalisation layers use a state's scales and shifts; gradients reach the state."""
    before = {name: [norm._parameters[what] for what in _AFFINE] for name, norm in norms.items()}
    try:
        for name, norm in norms.items():
            for what in _AFFINE:
                # A plain tensor, so that it may be the result of other operations.
                norm._parameters[what] = state[f"{name}/{what}"]  # type: ignore[assignment]
        yield
    finally:
        for name, norm in norms.items():
            norm._parameters.update(zip(_AFFINE, before[name], strict=True))
