"""Converts the layers of a pretrained network to analog layers, in place, and back."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from hwaware.errors import UserError
from hwaware.hardware import Hardware, Placement
from hwaware.hardware.placement import ancestry
from hwaware.nn.layers import ANALOG_CLASSES, AnalogLayer, Part, analog_layers, weight_key
from hwaware.nn.refusals import (
    ALWAYS_DIGITAL,
    in_words,
    refuse_arrays,
    refuse_idle,
    refuse_ties,
    refuse_unfit,
    refuse_weights,
)
from hwaware.nn.rewriting import restore, rewrite

#: Modules with the analog forms of other libraries' layers; imported only if those libraries are.
_FORMS = {
    "timm": "hwaware.nn.timm_layers",
    "transformers.pytorch_utils": "hwaware.nn.transformers_layers",
    "transformers.models.falcon.modeling_falcon": "hwaware.nn.falcon_layers",
}
#: Attributes that a layer has only while it is analog. Its ranges stay, since they also hold for the next conversion.
_OF_CELLS = (
    "hardware", "noise", "error", "stuck_cells", "repaired", "weight_error", "learned", "observer", "_installed",
    "_beside", "_output_draws", "_read_noise", "_digits", "_watched",
)  # fmt: skip


@dataclass(frozen=True)
class ConvertedLayer:
    """One row of the report.

    Attributes:
        name, kind: name of the layer, and its digital class.
        shape, n_weights: shape and size of its weight.
        hardware: its hardware, in words.
        n_cells: memory cells that hold it.
        n_arrays: arrays that hold it.
        n_clipped: weights that were clipped to a fixed scale.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    n_weights: int
    hardware: str
    n_cells: int
    n_arrays: int
    n_clipped: int = 0


@dataclass(frozen=True)
class ConversionReport:
    """Result of :func:`convert`.

    Attributes:
        placement: the placement.
        layers: the converted layers.
        n_digital_parameters: number of parameters that stay digital.
        passed_over: number of weights, by name, of matrices among these that belong to no known layer. The network may
            multiply by them.
    """

    placement: Placement
    layers: tuple[ConvertedLayer, ...]
    n_digital_parameters: int
    passed_over: Mapping[str, int] = field(default_factory=dict)

    @property
    def n_weights(self) -> int:
        """Weights held in cells."""
        return sum(layer.n_weights for layer in self.layers)

    @property
    def n_cells(self) -> int:
        """Memory cells needed."""
        return sum(layer.n_cells for layer in self.layers)

    @property
    def n_arrays(self) -> int:
        """Arrays needed."""
        return sum(layer.n_arrays for layer in self.layers)

    @property
    def n_clipped(self) -> int:
        """Weights that were clipped to a fixed scale."""
        return sum(layer.n_clipped for layer in self.layers)

    def __str__(self) -> str:
        width = max((len(layer.name) for layer in self.layers), default=0)
        several = len({layer.hardware for layer in self.layers}) > 1
        rows = [
            f"{layer.name:<{width}}  {layer.kind:<12} {'×'.join(map(str, layer.shape)):<16} {layer.n_cells:>12,} cells"
            + f" of {layer.hardware}" * several
            for layer in self.layers
        ]
        on = " and ".join(dict.fromkeys(map(str, self.placement.every)))
        every = dict.fromkeys((one.crossbar.rows, one.crossbar.columns) for one in self.placement.every)
        sizes = " and ".join(f"{rows} × {columns}" for rows, columns in every)
        total = (
            f"{len(self.layers)} layers, {self.n_weights:,} weights in {self.n_cells:,} cells of {on}, "
            f"{self.n_arrays:,} arrays of {sizes}; {self.n_digital_parameters:,} parameters stay digital"
        )
        if self.passed_over:
            some = ", ".join(list(self.passed_over)[:3]) + ", …" * (len(self.passed_over) > 3)
            total += f", {sum(self.passed_over.values()):,} of them as tables or matrices of no known layer ({some})"
        if self.n_clipped:
            limits = {one.encoding.scaling.fixed for one in self.placement.every} - {None}
            limit = " and ".join(f"±{limit:g}" for limit in limits)
            total += f"\n{self.n_clipped:,} weights outside the fixed scale of {limit} were clipped"
        return "\n".join([*rows, total])


def digital_layers(model: nn.Module) -> list[str]:
    """Names of a converted model's layers that could be analog but are digital."""
    return [name for name, module in model.named_modules() if type(module) in ANALOG_CLASSES]


def weight_owners(model: nn.Module) -> dict[str, str]:
    """For each analog layer, the first layer with the same weight: tied layers share their cells."""
    first: dict[tuple[int, int | None], str] = {}
    return {name: first.setdefault(weight_key(layer), name) for name, layer in analog_layers(model).items()}


def owning_layers(model: nn.Module) -> dict[str, AnalogLayer]:
    """The analog layers by name, without those that share the weight of an earlier one."""
    owners = weight_owners(model)
    return {name: layer for name, layer in analog_layers(model).items() if owners[name] == name}


def main_hardware(model: nn.Module) -> Hardware:
    """The hardware that holds most weights of a converted network; in a tie, that of the first layer.

    Raises:
        UserError: there is no analog layer.
    """
    found: Counter[Hardware] = Counter()
    for layer in owning_layers(model).values():
        found[layer.hardware] += layer.weight.numel()
    if not found:
        raise UserError("the network has no analog layer: call convert(model, hardware) first.")
    return found.most_common(1)[0][0]


def convert(model: nn.Module, placement: Placement | Hardware, corrected: bool = True) -> ConversionReport:
    """Converts the model's linear, convolution, attention and recurrent layers to analog layers, in place.

    If it raises, the model is unchanged.

    A layer keeps its parameters, keys, hooks, ties, ``requires_grad``, mode, dtype and torch device; only its class
    changes. Latent weights are set so that the network's function stays the same, up to rounding to levels. With
    converters, call :func:`hwaware.nn.calibrate` afterwards to measure their ranges.

    Args:
        model: the network.
        placement: hardware of each layer, or one hardware for all layers.
        corrected: False keeps the weights unchanged, so that the cells' I-V curve distorts them: the network is not
            compensated for the I-V curve.

    Returns:
        A report of the converted layers and their cells; ``print`` it.

    Raises:
        UserError: a pattern matches nothing; a layer with weights can't be converted and is not set to stay digital, or
            would need too many arrays; a weight is not finite, or is shared with a digital layer or a layer on other
            hardware; there is nothing to convert.

    Examples:
        >>> import hwaware, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4))
        >>> report = convert(model, hwaware.load_hardware("reram_cmo", mapping="differential"))
        >>> type(model[0]).__name__
        'AnalogLinear'
    """
    if isinstance(placement, Hardware):
        placement = Placement(placement)
    register_forms()
    if analog := analog_layers(model):
        raise UserError(f"layer '{min(analog)}' is analog already; convert a digital network (to_digital goes back).")
    rewritten = rewrite(model)
    try:
        chosen, on = _chosen(model, placement, corrected)
    except BaseException:
        restore(rewritten)
        raise
    restore(module for module in rewritten if not set(chosen.values()).intersection(module.modules()))

    rows, kinds = [], {name: type(module).__name__ for name, module in chosen.items()}
    for name, module in chosen.items():
        module.__class__ = ANALOG_CLASSES[type(module)]
        module.hardware = on[name]  # type: ignore[assignment]
    for name, layer in owning_layers(model).items():  # tied layers only once
        encoding = layer.hardware.encoding
        n_clipped = 0 if layer.weight.is_meta else encoding.clipped(layer.latent())
        if corrected and encoding.predistorts:
            layer.predistort()
        shape = tuple(layer.rows_shape)
        on_it = (str(layer.hardware), layer.n_cells, layer.tiling.n_arrays)
        rows.append(ConvertedLayer(name, kinds[name], shape, layer.weight.numel(), *on_it, n_clipped))
    total = sum(parameter.numel() for parameter in model.parameters())
    digital = total - sum(row.n_weights for row in rows)
    return ConversionReport(placement, tuple(rows), digital, _passed_over(model))


def register_forms() -> None:
    """Registers the analog forms of layers of the imported libraries."""
    for library, forms in _FORMS.items():
        if library in sys.modules:
            import_module(forms)


def _chosen(
    model: nn.Module, placement: Placement, corrected: bool
) -> tuple[dict[str, nn.Module], Mapping[str, Hardware | None]]:
    """The layers to convert, and the hardware of each module."""
    modules = dict(model.named_modules())
    on = dict(placement.assign(modules))
    if "peft" in sys.modules:
        from hwaware.nn.peft_guard import digital_parts

        for part in digital_parts(model):
            on |= dict.fromkeys(name for name in modules if part in ancestry(name))
    refuse_unfit(modules, on)
    chosen = {name: module for name, module in modules.items() if on[name] and type(module) in ANALOG_CLASSES}
    if not chosen:
        raise UserError("no layer to convert: the network has no linear or convolution layer that is not digital.")
    refuse_idle(placement, modules)
    refuse_ties(model, chosen, on)
    refuse_weights(chosen)
    refuse_arrays(chosen, on)
    if not corrected:
        computed = [name for name, module in chosen.items() if ANALOG_CLASSES[type(module)].is_computed]
        if distorted := [name for name in computed if on[name].encoding.predistorts]:  # type: ignore[union-attr]
            raise UserError(
                f"{in_words(modules, distorted)}: weights that are standardised in every pass are always compensated "
                "for the cells' I-V curve: leave 'corrected' true, or give kappa linear."
            )
    return chosen, on


def _passed_over(model: nn.Module) -> dict[str, int]:
    """Matrices that belong to no known layer: the number of weights of each, by name."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, (AnalogLayer, *ALWAYS_DIGITAL)) or type(module) in ANALOG_CLASSES:
            continue
        parts = {part.keys[0] for part in module.children() if isinstance(part, Part)}
        for key, value in module.named_parameters(recurse=False):
            if value.squeeze().ndim > 1 and key not in parts:
                found[f"{name}.{key}".lstrip(".")] = value.numel()
    return found


def to_digital(model: nn.Module) -> nn.Module:
    """Converts every analog layer back to a digital layer with its effective weights, in place; returns the model.

    Examples:
        >>> import hwaware, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4))
        >>> report = convert(model, hwaware.load_hardware("reram_cmo", mapping="differential"))
        >>> plain = to_digital(model)
        >>> type(model[0]).__name__
        'Linear'
    """
    layers = analog_layers(model)
    state = {
        name: layer.digital_weight() for name, layer in layers.items()
    }  # all before any is written, since layers may be tied
    for name, layer in layers.items():
        with torch.no_grad():
            layer.weight.copy_(state[name])
        layer.__class__ = layer.digital_class  # type: ignore[assignment]  # no longer an AnalogLayer
        for attribute in _OF_CELLS:
            layer.__dict__.pop(attribute, None)
    restore(model.modules())
    return model


def effective_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The model's ``state_dict`` with effective instead of latent weights, for loading into the plain digital network.

    Examples:
        >>> import hwaware, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4))
        >>> weight = model[0].weight.detach().clone()
        >>> report = convert(model, hwaware.load_hardware("reram_cmo", mapping="differential"))
        >>> torch.allclose(effective_state_dict(model)["0.weight"], weight, atol=1e-6)
        True
        >>> torch.allclose(model[0].weight, weight, atol=1e-6)  # latent: pre-distorted for the sinh-shaped I-V curve
        False
    """
    effective: dict[int, Tensor] = {}
    for layer in owning_layers(model).values():
        parameter, index = weight_key(layer)
        if index is None:
            effective[parameter] = layer.digital_weight()
        else:  # one of several layers in one parameter
            of_all: Any = layer
            effective.setdefault(parameter, of_all.parameter.detach().clone())[index] = layer.digital_weight()
    # By identity: a tied or reused layer is in the state_dict under several names.
    state: dict[str, Any] = model.state_dict(keep_vars=True)
    return {
        key: effective.get(id(value), value.detach() if isinstance(value, Tensor) else value)
        for key, value in state.items()
    }
