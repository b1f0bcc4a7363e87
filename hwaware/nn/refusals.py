"""Checks before conversion: errors name all unsuitable layers at once, with a remedy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase

from torch import Tensor, nn

from hwaware.errors import UserError, nearest
from hwaware.hardware import Hardware, Placement
from hwaware.hardware.placement import ancestry, matches
from hwaware.nn.layers import ANALOG_CLASSES, Part, shape_in_cells, weight_key

#: Modules whose weights are looked up or scale element by element: no matrix product, so they stay digital.
ALWAYS_DIGITAL = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)

#: Number of layers of one kind that a message names; the others are counted, and patterns match them all.
_NAMED = 4

_UNKNOWN = "has weights, but no analog form is known for that class"
_COMPUTED = "computes its weight (weight_norm?), so cells can't hold it"
_FAST_PATH = "lies in a module whose fast path reads its weight without calling it, which no chip can affect"


def as_digital(names: Collection[str], among: Collection[str] = ()) -> str:
    """The recipe setting that keeps layers digital, for messages; uses patterns if they match no other layer."""
    all_names = set(names)
    names = [name for name in names if not all_names.intersection(list(ancestry(name))[:-1])]  # nor those inside
    found: dict[str, None] = {}
    for name in names:
        found[next((one for one in _patterns(name) if _only(one, all_names, among)), name)] = None
    patterns = [f"'{one}'" if "*" in one else one for one in found]
    match = patterns[0] if len(patterns) == 1 else f"[{', '.join(patterns)}]"
    return f"hardware.layers: [{{match: {match}, digital: true}}]"


def _patterns(name: str) -> Iterator[str]:
    """Patterns from a name, with all its numbers replaced, all but the first, …."""
    parts = name.split(".")
    numbers = [at for at, part in enumerate(parts) if part.isdigit()]
    for kept in range(len(numbers)):
        yield ".".join("*" if at in numbers[kept:] else part for at, part in enumerate(parts))


def _only(pattern: str, names: Collection[str], among: Collection[str]) -> bool:
    """Whether a pattern matches several of these layers and no others."""
    hits = {other for other in among if any(fnmatchcase(part, pattern) for part in ancestry(other))}
    return len(hits) > 1 and hits <= set(names)


def in_words(modules: Mapping[str, nn.Module], names: Collection[str]) -> str:
    """Layers by name and class, for messages."""
    by_kind: dict[str, list[str]] = defaultdict(list)
    for name in names:
        module = modules[name]
        by_kind[getattr(module, "digital_class", type(module)).__name__].append(name)
    words = []
    for kind, some in by_kind.items():
        named = ", ".join(f"'{name}'" for name in some[:_NAMED])
        more = f" and {len(some) - _NAMED} more" if len(some) > _NAMED else ""
        words.append(f"layer{'s' * (len(some) > 1)} {named}{more} ({kind})")
    return "; ".join(words)


def is_rewritten(module: nn.Module) -> bool:
    """Whether a module calls layers instead of using its own weights (:mod:`hwaware.nn.rewriting`)."""
    return any(isinstance(child, Part) for child in module.children())


def refuse_unfit(modules: Mapping[str, nn.Module], on: Mapping[str, Hardware | None]) -> None:
    """Raises UserError for layers that should be analog but can't be."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, module in modules.items():
        if on[name] is not None and (why := _unfit(name, module, modules)) is not None:
            found[why].append(name)
    if not found:
        return
    every = [name for names in found.values() for name in names]
    able = {name for name, module in modules.items() if type(module) in ANALOG_CLASSES}
    told = []
    for why, names in found.items():
        verb = why if len(names) == 1 else why.replace("has ", "have ").replace("computes its", "compute their")
        told.append(f"{in_words(modules, names)} {verb.replace('lies', 'lie' if len(names) > 1 else 'lies')}.")
    hint = " Or register a form (hwaware.nn.register_analog); python -m hwaware.nn.supported lists all."
    hint = hint if _UNKNOWN in found else ""
    raise UserError(f"{' '.join(told)} Keep digital: {as_digital(every, able | set(every))}.{hint}")


def _unfit(name: str, module: nn.Module, modules: Mapping[str, nn.Module]) -> str | None:
    """Why a module can't be analog; None: it can, or it has no weights for cells."""
    if type(module) in ANALOG_CLASSES:
        if "weight" not in module._parameters and not isinstance(module, Part):
            return _COMPUTED
        above = (modules.get(parent) for parent in list(ancestry(name))[:-1])
        reads = any(isinstance(one, nn.MultiheadAttention) and not is_rewritten(one) for one in above)
        return _FAST_PATH if reads else None
    weights = [value for key, value in module._parameters.items() if "weight" in key and value is not None]
    if isinstance(module, ALWAYS_DIGITAL) or all(weight.ndim < 2 for weight in weights):
        if not isinstance(module, tuple(ANALOG_CLASSES)):  # a parametrised layer stores its weight elsewhere
            return None
    return None if is_rewritten(module) else _UNKNOWN


def refuse_idle(placement: Placement, modules: Mapping[str, nn.Module]) -> None:
    """Raises UserError for a pattern that sets hardware but matches no layer that could be analog."""
    able = [name for name, module in modules.items() if type(module) in ANALOG_CLASSES]
    for rule in placement.rules:
        for pattern in rule.match if rule.hardware is not None else ():
            if not (hits := set(matches(pattern, modules))) & set(able):
                kind = type(modules[min(hits)]).__name__
                raise UserError(
                    f"hardware.layers: '{pattern}' matches no layer that can be analog, only {kind}. "
                    f"{nearest(pattern, able)}"
                )


def refuse_ties(model: nn.Module, chosen: Mapping[str, nn.Module], on: Mapping[str, Hardware | None]) -> None:
    """Raises UserError for a weight that is shared with a digital layer or a layer on other hardware."""
    owners: dict[tuple[int, int | None], list[tuple[str, str]]] = defaultdict(list)
    for name, module in model.named_modules():
        parts = {part.keys[0] for part in module.children() if isinstance(part, Part)}
        for key, parameter in module._parameters.items():
            if parameter is not None and key not in parts:
                owners[id(parameter), None].append((name, key))
        if isinstance(module, Part):
            owners[weight_key(module)].append((name, "weight"))
    for name, layer in chosen.items():
        for owner, key in owners[weight_key(layer)]:
            if owner not in chosen or key != "weight":
                raise UserError(
                    f"the weight of layer '{name}' is tied to '{owner}.{key}', which stays digital, so cells can't "
                    f"hold it: keep it digital ({as_digital([name])}), or untie them."
                )
            if on[owner] != on[name]:
                raise UserError(
                    f"layers '{owner}' and '{name}' share one weight but have different hardware: give both the "
                    "same in hardware.layers."
                )


def refuse_arrays(chosen: Mapping[str, nn.Module], on: Mapping[str, Hardware | None]) -> None:
    """Raises UserError for a layer that would need far too many arrays."""
    for name, layer in chosen.items():
        hardware = on[name]
        assert hardware is not None  # no chosen layer is digital
        try:
            hardware.check_layer(shape_in_cells(layer), getattr(layer, "groups", 1))
        except UserError as error:
            raise UserError(f"layer '{name}': {error}") from None


def refuse_weights(chosen: Mapping[str, nn.Module]) -> None:
    """Raises UserError for a layer without weights, or with weights that are not finite."""
    for name, layer in chosen.items():
        weight: Tensor = layer.weight  # type: ignore[assignment]
        if not weight.numel():
            shape = tuple(weight.shape)
            raise UserError(f"layer '{name}' has no weights (shape {shape}): keep it digital ({as_digital([name])}).")
        if not weight.is_meta and not weight.isfinite().all():
            raise UserError(f"the weight of layer '{name}' has values that are not finite (NaN or infinite).")
