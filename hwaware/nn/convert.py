"""Turning a pretrained network's layers into analog ones, in place, and back."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Container, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hwaware.errors import UserError, nearest
from hwaware.hardware import Hardware, Placement
from hwaware.hardware.placement import ancestry, matches
from hwaware.nn.layers import ANALOG_CLASSES, AnalogLayer

#: Weights of these are looked up, or scale element by element: no matrix product, so they stay digital.
ALWAYS_DIGITAL = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)
#: Modules that in some modes read their children's weights without calling them.
_FAST_PATHS = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
#: What a layer has only while it is analog. Its ranges stay: they are of its signals, and the next conversion's too.
_OF_CELLS = (
    "hardware", "noise", "error", "stuck_cells", "repaired", "weight_error", "_exact_signals", "_installed", "_beside",
    "_output_draws",
)  # fmt: skip


@dataclass(frozen=True)
class ConvertedLayer:
    """One row of the report.

    Attributes:
        name, kind: of the layer, and its digital class.
        shape, n_weights: of its weight.
        hardware: what holds it, in words.
        n_cells: memory cells that hold it.
        n_clipped: weights that lay beyond the codes of a fixed scale and are clipped to them.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    n_weights: int
    hardware: str
    n_cells: int
    n_clipped: int = 0


@dataclass(frozen=True)
class ConversionReport:
    """What :func:`convert` did: the converted layers and the weights that stayed digital."""

    placement: Placement
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
        several = len({layer.hardware for layer in self.layers}) > 1
        rows = [
            f"{layer.name:<{width}}  {layer.kind:<12} {'×'.join(map(str, layer.shape)):<16} {layer.n_cells:>12,} cells"
            + f" of {layer.hardware}" * several
            for layer in self.layers
        ]
        on = " and ".join(dict.fromkeys(map(str, self.placement.every)))
        total = (
            f"{len(self.layers)} layers, {self.n_weights:,} weights in {self.n_cells:,} cells of {on}; "
            f"{self.n_digital_parameters:,} parameters stay digital"
        )
        if self.n_clipped:
            limits = {one.encoding.scaling.fixed for one in self.placement.every} - {None}
            limit = " and ".join(f"±{limit:g}" for limit in limits)
            total += f"\n{self.n_clipped:,} weights lay beyond the fixed scale of {limit} and are clipped"
        return "\n".join([*rows, total])


def analog_layers(model: nn.Module) -> dict[str, AnalogLayer]:
    """The model's analog layers by name, each module once."""
    return {name: module for name, module in model.named_modules() if isinstance(module, AnalogLayer)}


def digital_layers(model: nn.Module) -> list[str]:
    """Names of a converted model's layers that could be analog, and are not."""
    return [name for name, module in model.named_modules() if type(module) in ANALOG_CLASSES]


def weight_owners(model: nn.Module) -> dict[str, str]:
    """For each analog layer the first one that has the same weight: tied layers share their cells."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(layer.weight), name) for name, layer in analog_layers(model).items()}


def owning_layers(model: nn.Module) -> dict[str, AnalogLayer]:
    """The analog layers by name without those whose weight is an earlier one's."""
    owners = weight_owners(model)
    return {name: layer for name, layer in analog_layers(model).items() if owners[name] == name}


def main_hardware(model: nn.Module) -> Hardware:
    """The hardware that holds most of a converted network's weights; of several the first layer's.

    Raises:
        UserError: there is no analog layer.
    """
    found: Counter[Hardware] = Counter()
    for layer in owning_layers(model).values():
        found[layer.hardware] += layer.weight.numel()
    if not found:
        raise UserError("the network has no analog layer: convert(model, hardware) first.")
    return found.most_common(1)[0][0]


def convert(model: nn.Module, placement: Placement | Hardware, corrected: bool = True) -> ConversionReport:
    """Makes the model's linear and convolution layers analog, in place. Nothing is changed when it raises.

    A layer keeps its parameters, keys, hooks, ties, ``requires_grad``, mode, dtype and torch device: only its class
    changes. Latent weights are set so that the network's function stays what it was, but for the rounding to levels.
    Where there are converters, :func:`hwaware.nn.calibrate` has to measure their ranges.

    Args:
        model: the network.
        placement: what is to hold each layer; a hardware alone is to hold all.
        corrected: False leaves the weights as they are, so that the cell's non-linearity distorts them: the network is
            not compensated for it.

    Raises:
        UserError: a pattern matches nothing; a layer with weights can't be converted and is not to stay digital; a
            weight is not finite, or is shared with a digital layer or one on other hardware; nothing is left to
            convert.
    """
    if isinstance(placement, Hardware):
        placement = Placement(placement)
    if "timm" in sys.modules:
        import hwaware.nn.timm_layers  # registers its classes
    if "transformers.models.falcon.modeling_falcon" in sys.modules:
        import hwaware.nn.transformers_layers  # noqa: F401 - likewise
    modules = dict(model.named_modules())
    chosen, on = {}, placement.assign(modules)
    if "peft" in sys.modules:
        from hwaware.nn.peft_guard import digital_parts

        for part in digital_parts(model):
            on |= dict.fromkeys(name for name in modules if part in ancestry(name))
    for name, module in modules.items():
        if isinstance(module, AnalogLayer):
            raise UserError(f"layer '{name}' is analog already; convert a digital network (to_digital goes back).")
        if on[name] is None:
            continue
        _refuse_unknown(name, module)
        if type(module) in ANALOG_CLASSES:
            chosen[name] = module
    if not chosen:
        raise UserError("no layer to convert: the network has no linear or convolution layer that is not digital.")
    _refuse_idle(placement, modules)
    _refuse_fast_paths(modules, chosen)
    _refuse_ties(model, chosen, on)
    for name, module in chosen.items():
        if not module.weight.numel():
            shape = tuple(module.weight.shape)
            raise UserError(f"layer '{name}' has no weights (shape {shape}): keep it digital ({as_digital(name)}).")
        if not module.weight.is_meta and not module.weight.isfinite().all():
            raise UserError(f"the weight of layer '{name}' has values that are not finite (NaN or infinite).")

    rows, kinds = [], {name: type(module).__name__ for name, module in chosen.items()}
    for name, module in chosen.items():
        module.__class__ = ANALOG_CLASSES[type(module)]
        module.hardware = on[name]
    for name, layer in owning_layers(model).items():  # once where layers are tied
        weight, encoding = layer.weight, layer.hardware.encoding
        n_clipped = 0 if weight.is_meta else encoding.clipped(weight)
        if corrected and encoding.predistorts:
            layer.set_effective_weight(weight.detach().clone())
        shape = tuple(weight.shape)
        on_it = (str(layer.hardware), layer.n_cells)
        rows.append(ConvertedLayer(name, kinds[name], shape, weight.numel(), *on_it, n_clipped))
    total = sum(parameter.numel() for parameter in model.parameters())
    return ConversionReport(placement, tuple(rows), total - sum(row.n_weights for row in rows))


def to_digital(model: nn.Module) -> nn.Module:
    """Makes every analog layer digital again, in place, with its effective weights; returns the model."""
    state = _effective_weights(model)
    for name, layer in analog_layers(model).items():
        with torch.no_grad():
            layer.weight.copy_(state[name])
        layer.__class__ = layer.digital_class  # type: ignore[assignment]  # from here on it is no AnalogLayer
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


def as_digital(name: str) -> str:
    """What keeps a layer digital in a recipe, for messages."""
    return f"hardware.layers: [{{match: {name}, digital: true}}]"


def refuse_uncalled(model: nn.Module, called: Container[str]) -> None:
    """Raises UserError for an analog layer whose forward was not called: some networks read ``layer.weight`` past it.

    Args:
        model: a converted network that has run.
        called: the layers that it called, by name.
    """
    unused = [name for name in analog_layers(model) if name not in called]
    if unused:
        raise UserError(
            f"layer '{unused[0]}' was converted, but the network never calls it (it may read its weight directly), "
            f"so that no chip could act on it: keep it digital ({as_digital(unused[0])}). {len(unused)} such layers."
        )


def _refuse_unknown(name: str, module: nn.Module) -> None:
    if type(module) in ANALOG_CLASSES:
        if "weight" not in module._parameters:
            raise UserError(
                f"layer '{name}' ({type(module).__name__}) computes its weight (weight_norm?): no cells can hold it. "
                f"Remove the reparametrisation, or keep it digital ({as_digital(name)})."
            )
        return
    weights = [value for key, value in module._parameters.items() if "weight" in key and value is not None]
    if isinstance(module, ALWAYS_DIGITAL) or all(weight.ndim < 2 for weight in weights):
        if not isinstance(module, tuple(ANALOG_CLASSES)):  # a parametrised layer keeps its weight elsewhere
            return
    raise UserError(
        f"layer '{name}' ({type(module).__name__}) has weights, but no analog form is known for that class: "
        f"keep it digital ({as_digital(name)}), or register one (hwaware.nn.register_analog)."
    )


def _refuse_idle(placement: Placement, modules: dict[str, nn.Module]) -> None:
    """Raises UserError for a pattern that names hardware, but no layer which cells could hold."""
    able = [name for name, module in modules.items() if type(module) in ANALOG_CLASSES]
    for rule in placement.rules:
        for pattern in rule.match if rule.hardware is not None else ():
            if not (hits := set(matches(pattern, modules))) & set(able):
                kind = type(modules[min(hits)]).__name__
                raise UserError(
                    f"hardware.layers: '{pattern}' matches nothing that cells could hold, but {kind}. "
                    f"{nearest(pattern, able)}"
                )


def _refuse_fast_paths(modules: dict[str, nn.Module], chosen: dict[str, nn.Module]) -> None:
    for name in chosen:
        for parent in list(ancestry(name))[:-1]:
            if isinstance(modules.get(parent), _FAST_PATHS):
                raise UserError(
                    f"layer '{name}' lies in '{parent}' ({type(modules[parent]).__name__}), whose fast path reads its "
                    f"weight without calling it, so the chip would never be used: keep '{parent}' digital "
                    f"({as_digital(parent)})."
                )


def _refuse_ties(model: nn.Module, chosen: dict[str, nn.Module], on: Mapping[str, Hardware | None]) -> None:
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
                    f"live in cells: keep it digital ({as_digital(name)}), or untie them."
                )
            if on[owner] != on[name]:
                raise UserError(
                    f"layers '{owner}' and '{name}' share one weight, but stand on different hardware: give both the "
                    "same in hardware.layers."
                )
