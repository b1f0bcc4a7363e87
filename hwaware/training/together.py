"""How a training step computes the weights in cells: layer by layer or all at once, by plain or compiled functions."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import nn

from hwaware.hardware import Hardware
from hwaware.nn import analog_layers, owning_layers
from hwaware.nn.layers import AnalogLayer
from hwaware.nn.weights.together import Together, is_supported

#: How a training step computes the weights in cells. ``by_layer``: in each layer's forward pass, in blocks that stay in
#: the cache; ``together``: for all layers before the forward pass, with few launches on a GPU; ``compiled``: by
#: ``torch.compile``, on a CPU layer by layer, on a GPU for all layers.
Way = Literal["by_layer", "together", "compiled"]
WAYS: tuple[Way, ...] = get_args(Way)


class WeightsTogether:
    """Computes the realised weights of all analog layers at once; layers on the same hardware share calls.

    Call it in each step after noise and retention loss are installed, before the forward pass. The noise is then drawn
    once per step: a layer that is called twice has the same noise in both calls. Unsupported layers (see
    :func:`hwaware.nn.weights.together.is_supported`) compute their own weights.

    Args:
        model: the converted network, on its torch device.
        compiled: whether to use ``torch.compile``.
    """

    def __init__(self, model: nn.Module, compiled: bool = False) -> None:
        self._model, self._compiled = model, compiled
        self._groups: list[tuple[list[AnalogLayer], Together]] | None = None

    def __call__(self) -> None:
        if self._groups is None:
            self._groups = self._grouped()
        for layers, plan in self._groups:
            noise = layers[0].noise
            if noise is None:
                continue
            realised = plan.realise([layer.latent() for layer in layers], noise, layers[0].error)
            for layer, one in zip(layers, realised, strict=True):
                layer.ready = one

    def _grouped(self) -> list[tuple[list[AnalogLayer], Together]]:
        groups: dict[tuple[Hardware, torch.device], list[AnalogLayer]] = {}
        owning = owning_layers(self._model)  # tied layers compute their own
        for name, layer in analog_layers(self._model).items():
            if name in owning and is_supported(layer.hardware.encoding, layer.noise, layer.error):
                groups.setdefault((layer.hardware, layer.weight.device), []).append(layer)
        return [
            (layers, Together([layer.latent().detach() for layer in layers], hardware.encoding, self._compiled))
            for (hardware, _), layers in groups.items()
        ]


def choose_way(model: nn.Module, wanted: Way | None) -> Way:
    """Chooses how a model's weights are computed in training.

    Args:
        model: the converted network, on its torch device.
        wanted: the way to use; None: ``together`` on a GPU, ``by_layer`` on a CPU.

    Returns:
        The way. If ``compiled`` is wanted but the compiler is missing or fails: a warning, and ``together`` on a GPU or
        ``by_layer`` on a CPU.
    """
    layers = list(analog_layers(model).values())
    if wanted is None or not layers:
        return "together" if layers and layers[0].weight.is_cuda else "by_layer"
    if wanted == "compiled":
        device = layers[0].weight.device
        try:
            probe(device)
        except Exception as error:  # compilers raise many kinds of errors
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            rank_zero_warn(f"torch.compile is not available ({reason}): the weights are computed by plain functions.")
            return "by_layer" if device.type == "cpu" else "together"
    return wanted


def probe(device: torch.device) -> None:
    """Compiles a small function; raises the compiler's error if that fails."""
    torch.compile(lambda x: x.sin().sum(), fullgraph=True)(torch.ones(64, device=device))


def install_way(model: nn.Module, way: Way) -> WeightsTogether | None:
    """Has a model's weights in cells computed in a way that :func:`choose_way` gave; call once, before training.

    Returns:
        What each step has to call, see :class:`WeightsTogether`; None: nothing.
    """
    layers = analog_layers(model).values()
    on_cpu = all(layer.weight.device.type == "cpu" for layer in layers)
    for layer in layers:
        layer.is_compiled = way == "compiled" and on_cpu
    if way == "by_layer" or (way == "compiled" and on_cpu):
        return None
    return WeightsTogether(model, compiled=way == "compiled")


def remove_way(model: nn.Module) -> None:
    """Undoes :func:`install_way`."""
    for layer in analog_layers(model).values():
        layer.is_compiled = False
