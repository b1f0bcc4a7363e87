"""Turning a pretrained network's layers into analog ones, in place, and back."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from hwaware.errors import UserError, nearest
from hwaware.hardware.crossbar.converters import Converters
from hwaware.hardware.devices import Device
from hwaware.nn.layers import ANALOG_CLASSES, AnalogLayer

#: Weights of these are looked up, or scale element by element: no matrix product, so they stay digital.
ALWAYS_DIGITAL = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)
#: Modules that in some modes read their children's weights without calling them.
_FAST_PATHS = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
#: What a layer has only while it is analog. Its ranges stay: they are of its signals, and the next conversion's too.
_OF_CELLS = (
    "device", "noise", "error", "stuck_cells", "weight_error", "converters", "_installed", "_beside", "_output_draws",
)  # fmt: skip


@dataclass(frozen=True)
class ConvertedLayer:
    """One row of the report.

    Attributes:
        name, kind: of the layer, and its digital class.
        shape, n_weights: of its weight.
        n_cells: memory cells that hold it.
        n_clipped: weights that lay beyond the codes of a fixed scale and are clipped to them.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    n_weights: int
    n_cells: int
    n_clipped: int = 0


@dataclass(frozen=True)
class ConversionReport:
    """What :func:`convert` did: the converted layers and the weights that stayed digital."""

    device: Device
    layers: tuple[ConvertedLayer, ...]
    n_digital_parameters: int

    @property
    def n_weights(self) -> int:
        """Weights held in cells."""
        return sum(layer.n_weights for layer in self.layers)

    @property
    def n_cells(self) -> int:
        """Memory cells needed."""
        return sum(layer.n_cells for layer in self.layers)

    @property
    def n_clipped(self) -> int:
        """Weights that a fixed scale clipped."""
        return sum(layer.n_clipped for layer in self.layers)

    def __str__(self) -> str:
        width = max((len(layer.name) for layer in self.layers), default=0)
        rows = [
            f"{layer.name:<{width}}  {layer.kind:<12} {'×'.join(map(str, layer.shape)):<16} {layer.n_cells:>12,} cells"
            for layer in self.layers
        ]
        mapping, slices = self.device.mapping, self.device.slices
        if slices is not None:
            mapping += f", {slices.bits} bits in {slices.slice_bits}-bit slices"
        total = (
            f"{len(self.layers)} layers, {self.n_weights:,} weights in {self.n_cells:,} cells of {self.device.name} "
            f"({mapping}); {self.n_digital_parameters:,} parameters stay digital"
        )
        if self.n_clipped:
            limit = f"±{self.device.fixed_scale:g}"
            total += f"\n{self.n_clipped:,} weights lay beyond the fixed scale of {limit} and are clipped"
        return "\n".join([*rows, total])


def analog_layers(model: nn.Module) -> dict[str, AnalogLayer]:
    """The model's analog layers by name, each module once."""
    return {name: module for name, module in model.named_modules() if isinstance(module, AnalogLayer)}


def digital_layers(model: nn.Module) -> list[str]:
    """Names of a converted model's layers that could be analog, and are not."""
    return [name for name, module in model.named_modules() if type(module) in ANALOG_CLASSES]


def convert(
    model: nn.Module,
    device: Device,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    corrected: bool = True,
    converters: Converters | None = None,
) -> ConversionReport:
    """Makes the model's linear and convolution layers analog, in place. Nothing is changed when it raises.

    A layer keeps its parameters, keys, hooks, ties, ``requires_grad``, mode, dtype and torch device: only its class
    changes. Latent weights are set so that the network's function stays what it was, but for the rounding to levels.

    Args:
        model: the network.
        device: the memory technology that is to hold the weights.
        include, exclude: shell patterns on module names (``blocks.*.attn.*``); a pattern that matches a module covers
            everything inside it. Excluded layers stay digital.
        corrected: False leaves the weights as they are, so that the cell's non-linearity distorts them: the network
            that was never told about it.
        converters: that inputs and outputs go through, once :func:`hwaware.nn.calibrate` has measured their ranges;
            None: none.

    Raises:
        UserError: a pattern matches nothing; a layer with weights can't be converted and is not excluded; a weight is
            not finite, or is shared with a digital layer; nothing is left to convert.
    """
    if converters is not None:
        converters.check(device)
    if "timm" in sys.modules:
        import hwaware.nn.timm_layers  # registers its classes
    if "transformers.models.falcon.modeling_falcon" in sys.modules:
        import hwaware.nn.transformers_layers  # noqa: F401 - likewise
    modules = dict(model.named_modules())
    included, excluded = _matches(modules, include, "include"), _matches(modules, exclude, "exclude")
    chosen = {}
    for name, module in modules.items():
        if name not in included or name in excluded:
            continue
        if isinstance(module, AnalogLayer):
            raise UserError(f"layer '{name}' is analog already; convert a digital network (to_digital goes back).")
        _refuse_unknown(name, module)
        if type(module) in ANALOG_CLASSES:
            chosen[name] = module
    if not chosen:
        raise UserError("no layer to convert: the network has no linear or convolution layer that is not excluded.")
    _refuse_fast_paths(modules, chosen)
    _refuse_digital_ties(model, chosen)
    for name, module in chosen.items():
        if not module.weight.is_meta and not module.weight.isfinite().all():
            raise UserError(f"the weight of layer '{name}' has values that are not finite (NaN or infinite).")

    rows, seen = [], set()
    for name, module in chosen.items():
        kind, weight = type(module).__name__, module.weight
        module.__class__ = ANALOG_CLASSES[type(module)]
        module.device = device
        if converters is not None:
            module.converters = converters
        if id(weight) in seen:  # tied to an earlier one: the same cells
            continue
        seen.add(id(weight))
        is_free = device.fixed_scale is None or weight.is_meta
        n_clipped = 0 if is_free else int((weight.abs() > device.fixed_scale).sum())
        if corrected and (device.curve or device.slices is not None):
            module.set_effective_weight(weight.detach().clone())
        cells = device.layout.n_cells(weight.shape, getattr(module, "groups", 1))
        rows.append(ConvertedLayer(name, kind, tuple(weight.shape), weight.numel(), cells, n_clipped))
    total = sum(parameter.numel() for parameter in model.parameters())
    return ConversionReport(device, tuple(rows), total - sum(row.n_weights for row in rows))


def to_digital(model: nn.Module) -> nn.Module:
    """Makes every analog layer digital again, in place, with its effective weights; returns the model."""
    state = _effective_weights(model)
    for name, layer in analog_layers(model).items():
        with torch.no_grad():
            layer.weight.copy_(state[name])
        layer.__class__ = layer.digital_class
        for attribute in _OF_CELLS:
            layer.__dict__.pop(attribute, None)
    return model


def effective_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The model's ``state_dict`` with effective in place of latent weights: what the plain digital network loads."""
    effective = {_key(name): weight for name, weight in _effective_weights(model).items()}
    # Through the modules' own names: a layer used twice stands in the state_dict under both.
    aliases = {
        _key(alias): _key(name)
        for name, layer in analog_layers(model).items()
        for alias, module in model.named_modules(remove_duplicate=False)
        if module is layer
    }
    return {key: effective.get(aliases.get(key, key), value) for key, value in model.state_dict().items()}


def _key(name: str) -> str:
    return f"{name}.weight" if name else "weight"


def _effective_weights(model: nn.Module) -> dict[str, Tensor]:
    # All before any is written: tied layers share the latents.
    return {name: layer.effective_weight() for name, layer in analog_layers(model).items()}


def _matches(modules: dict[str, nn.Module], patterns: Sequence[str], field: str) -> set[str]:
    if isinstance(patterns, str):
        raise UserError(f"{field}='{patterns}' is one text; give a list of patterns: ['{patterns}'].")
    if field == "include" and not patterns:
        raise UserError("include is empty, so that there is no layer to convert; ['*'] is all of them.")
    matched: set[str] = set()
    for pattern in patterns:
        hits = {name for name in modules if any(fnmatchcase(part, pattern) for part in _ancestry(name))}
        if not hits:
            raise UserError(f"{field} pattern '{pattern}' matches no layer. {nearest(pattern, filter(None, modules))}")
        matched |= hits
    return matched


def _ancestry(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))


def _refuse_unknown(name: str, module: nn.Module) -> None:
    if type(module) in ANALOG_CLASSES:
        if "weight" not in module._parameters:
            raise UserError(
                f"layer '{name}' ({type(module).__name__}) computes its weight (weight_norm?): no cells can hold it. "
                f"Remove the reparametrisation, or exclude '{name}'."
            )
        return
    weights = [key for key, value in module._parameters.items() if "weight" in key and value is not None]
    if isinstance(module, ALWAYS_DIGITAL) or all(module._parameters[key].ndim < 2 for key in weights):
        if not isinstance(module, tuple(ANALOG_CLASSES)):  # a parametrised layer keeps its weight elsewhere
            return
    raise UserError(
        f"layer '{name}' ({type(module).__name__}) has weights, but no analog form is known for that class: "
        f"exclude '{name}' to keep it digital, or register one (hwaware.nn.register_analog)."
    )


def _refuse_fast_paths(modules: dict[str, nn.Module], chosen: dict[str, nn.Module]) -> None:
    for name in chosen:
        for parent in list(_ancestry(name))[:-1]:
            if isinstance(modules.get(parent), _FAST_PATHS):
                raise UserError(
                    f"layer '{name}' lies in '{parent}' ({type(modules[parent]).__name__}), whose fast path reads its "
                    f"weight without calling it, so the chip would never be used: exclude '{parent}'."
                )


def _refuse_digital_ties(model: nn.Module, chosen: dict[str, nn.Module]) -> None:
    owners = defaultdict(list)
    for name, module in model.named_modules():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                owners[id(parameter)].append((name, key))
    for name, module in chosen.items():
        for owner, key in owners[id(module.weight)]:
            if owner not in chosen or key != "weight":
                raise UserError(
                    f"the weight of layer '{name}' is tied to '{owner}.{key}', which stays digital, so that it cannot "
                    f"live in cells: exclude '{name}', or untie them."
                )
