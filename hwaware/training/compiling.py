"""Whether layers realise their weights by compiled functions while they train."""

from __future__ import annotations

from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import nn

from hwaware.nn import analog_layers
from hwaware.nn.weights import compiled

#: What compiling takes at the start of a run, about, and what it saves a layer and step on a GPU (seconds).
_COMPILING_S, _SAVED_S = 30.0, 1e-3


def compile_weights(model: nn.Module, wanted: bool | None, steps: float) -> bool:
    """Lets a model's analog layers compute their weights in training by ``torch.compile``, or by plain calls.

    Both give the same weights but for rounding; compiled, a GPU launches a tenth of the kernels. On a CPU plain calls
    are as fast. Says in a line that it compiles.

    Args:
        model: converted, on its device.
        wanted: None: on a GPU, where the run saves more time by it than compiling takes.
        steps: optimiser steps of the run.

    Returns:
        Whether they are compiled; also False, with a warning, where there is no compiler or it fails.
    """
    layers = list(analog_layers(model).values())
    if wanted is None:
        wanted = bool(layers) and layers[0].weight.is_cuda and steps * len(layers) * _SAVED_S > 2 * _COMPILING_S
    if wanted and layers:
        try:
            compiled.probe(layers[0].weight.device)
        except Exception as error:  # whatever the compiler raises: there are many kinds
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            rank_zero_warn(f"the weights' transform is not compiled ({reason}); training goes on without.")
            wanted = False
        else:
            rank_zero_info("the weights' transform is compiled (compile_weights: false does without)")
    for layer in layers:
        layer.compiled = wanted
    return wanted
