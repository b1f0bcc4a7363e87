"""Detects networks that read a layer's weight directly instead of calling the layer, which no chip can affect.

They are found in the first forward pass with installed weights, and refused before the output is returned.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hwaware.errors import UserError
from hwaware.nn.layers import AnalogLayer, Part, analog_layers, weight_key
from hwaware.nn.refusals import as_digital, in_words

#: Functions that multiply by a weight.
_PRODUCTS = frozenset(
    "linear bilinear matmul __matmul__ __rmatmul__ mm bmm addmm baddbmm einsum conv1d conv2d conv3d conv_transpose1d "
    "conv_transpose2d conv_transpose3d embedding multi_head_attention_forward".split()
)


class _Reads(TorchFunctionMode):
    """Records which of some weights are passed to torch functions.

    Attributes:
        found: weights (by id) that were passed to any function.
        multiplied: weights that were passed to a product, directly or as a view. The forward of an analog layer does
            not count, since it multiplies by installed weights.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()
        weights = list(weights)
        self._tensors = {id(weight) for weight in weights}
        self._places = {pointer: id(weight) for weight in weights if (pointer := _place(weight))}
        self.found, self.multiplied = set[int](), set[int]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if getattr(func, "__name__", "") == "__get__" and not isinstance(output, Tensor):
            return output  # a dtype or a shape
        is_product = getattr(func, "__name__", "") in _PRODUCTS
        for one in (*args, *kwargs.values()):
            for part in one if isinstance(one, list | tuple) else (one,):
                if id(part) in self._tensors:
                    self.found.add(id(part))
                if is_product and isinstance(part, Tensor) and (place := _place(part)) in self._places:
                    self.multiplied.add(self._places[place])
        return output


def _place(tensor: Tensor) -> int:
    """Address of a tensor's values; 0: none."""
    try:
        return 0 if tensor.is_meta else tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # sparse, nested or functional tensors are not weights of layers
        return 0


@contextmanager
def refusing_reads(model: nn.Module) -> Iterator[None]:
    """Within the context the first forward pass of a converted network in eval mode is checked; later ones cost
    nothing.

    Raises:
        UserError: at the network's call, if it reads the weight of an analog layer without calling the layer.
    """
    forward, own = model.forward, model.__dict__.get("forward")
    if all(layer._watched for layer in analog_layers(model).values()) or hasattr(model, "_orig_mod"):  # compiled
        yield
        return
    model.__dict__["forward"] = partial(_watched, model, forward)
    try:
        yield
    finally:
        model.__dict__.pop("forward")
        if own is not None:
            model.__dict__["forward"] = own


def _watched(model: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    layers = analog_layers(model)
    if model.training or all(layer._watched for layer in layers.values()):
        return forward(*args, **kwargs)
    users: dict[int, list[str]] = defaultdict(list)  # several where layers are tied, or slices of one parameter
    for name, layer in layers.items():
        users[weight_key(layer)[0]].append(name)
        layer._called = False
    try:
        with _Reads(layer.parameter if isinstance(layer, Part) else layer.weight for layer in layers.values()) as reads:
            output = forward(*args, **kwargs)
        uncalled = {name for name, layer in layers.items() if not layer._called}
    finally:
        for layer in layers.values():
            layer.__dict__.pop("_called", None)
    idle = {key: names[0] for key, names in users.items() if uncalled.issuperset(names)}
    if read := [name for key, name in idle.items() if key in reads.found]:
        raise UserError(
            f"{in_words(layers, read)} {'was' if len(read) == 1 else 'were'} converted, but the network never calls "
            f"{'it' if len(read) == 1 else 'them'}: it reads the weight directly, which no chip can affect. "
            f"Call the layers, or keep them digital ({as_digital(read, layers)})."
        )
    installed = [names[0] for key, names in users.items() if key in reads.multiplied]
    if read := [name for name in installed if layers[name]._installed is not None]:
        raise UserError(
            f"{in_words(layers, read)} {'was' if len(read) == 1 else 'were'} converted, but the network also "
            f"multiplies by the weight directly, which no chip can affect. "
            f"Call the layers, or keep them digital ({as_digital(read, layers)})."
        )
    if idle:
        _tell_idle(layers, list(idle.values()))
    for layer in layers.values():
        layer._watched = True
    return output


def _tell_idle(layers: dict[str, AnalogLayer], idle: list[str]) -> None:
    cells = sum(layers[name].n_cells for name in idle)
    warnings.warn(
        f"{in_words(layers, idle)} {'is' if len(idle) == 1 else 'are'} never called: {cells:,} unused cells "
        f"are counted. Keep unused layers digital ({as_digital(idle, layers)}).",
        stacklevel=4,
    )
