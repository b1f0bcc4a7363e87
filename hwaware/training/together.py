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

#: How a training step computes the weights in cells: each layer's as it comes, in blocks that stay in the processor's
#: cache; all layers' before the forward pass, with few launches on a GPU; by ``torch.compile``, on a CPU each layer's
#: as it comes, on a GPU all layers'.
Way = Literal["by_layer", "together", "compiled"]
WAYS: tuple[Way, ...] = get_args(Way)


class WeightsTogether:
    """Realises the weights of a network's analog layers at once, layers on like hardware by the same calls.

    Call it in each step once noise and retention loss are installed, before the forward pass. The noise is then that
    of the step: a layer that is called twice in it has the same noise in both. Layers that it does not know (see
    :func:`hwaware.nn.weights.together.is_supported`) do without.

    Args:
        model: converted, on its device.
        compiled: whether by ``torch.compile``.
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
        owning = owning_layers(self._model)  # tied layers realise their own
        for name, layer in analog_layers(self._model).items():
            if name in owning and is_supported(layer.hardware.encoding, layer.noise, layer.error):
                groups.setdefault((layer.hardware, layer.weight.device), []).append(layer)
        return [
            (layers, Together([layer.latent().detach() for layer in layers], hardware.encoding, self._compiled))
            for (hardware, _), layers in groups.items()
        ]


def choose_way(model: nn.Module, wanted: Way | None) -> Way:
    """How a model's weights are best computed in training.

    Args:
        model: converted, on its device.
        wanted: None: together on a GPU, by layer on a CPU; compiled only where asked for.

    Returns:
        That. Where there is no compiler, or it fails, a warning, and the same by plain functions instead of
        ``compiled``: ``together`` on a GPU, ``by_layer`` on a CPU.
    """
    layers = list(analog_layers(model).values())
    if wanted is None or not layers:
        return "together" if layers and layers[0].weight.is_cuda else "by_layer"
    if wanted == "compiled":
        device = layers[0].weight.device
        try:
            probe(device)
        except Exception as error:  # whatever the compiler raises: there are many kinds
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            rank_zero_warn(f"the weights are not computed by compiled functions ({reason}), but by plain ones.")
            return "by_layer" if device.type == "cpu" else "together"
    return wanted


def probe(device: torch.device) -> None:
    """Compiles something small; raises whatever the compiler raises where it cannot."""
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
