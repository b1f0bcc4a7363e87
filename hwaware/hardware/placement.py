"""The hardware of each layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from hwaware.errors import UserError, nearest
from hwaware.hardware.hardware import Hardware


@dataclass(frozen=True)
class Rule:
    """The hardware of the layers that some patterns match.

    Attributes:
        match: shell patterns on module names (``blocks.*.attn.*``); a pattern that matches a module covers everything
            inside it.
        hardware: the hardware of these layers; None keeps them digital.
        given: the option that the rule comes from, for messages.

    Examples:
        >>> Rule(match=("head",), hardware=None).match
        ('head',)
    """

    match: tuple[str, ...]
    hardware: Hardware | None
    given: str = field(default="hardware.layers", compare=False)


@dataclass(frozen=True)
class Placement:
    """The hardware of each layer of a network.

    Attributes:
        default: hardware of the layers that no rule matches; None keeps them digital.
        rules: hardware of other layers; two rules that match the same layer must agree.
        digital: patterns of layers that stay digital, whatever the rules say.

    Raises:
        UserError: all layers are digital.

    Examples:
        >>> import hwaware, torch
        >>> cells = hwaware.load_hardware("reram_cmo", mapping="differential")
        >>> model = torch.nn.ModuleDict({"body": torch.nn.Linear(8, 8), "head": torch.nn.Linear(8, 2)})
        >>> report = hwaware.convert(model, Placement(default=cells, digital=("head",)))
        >>> [type(layer).__name__ for layer in model.values()]
        ['AnalogLinear', 'Linear']
    """

    default: Hardware | None
    rules: tuple[Rule, ...] = ()
    digital: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.every:
            raise UserError(
                "no layer is analog: all of hardware.layers are digital, and so are all others (others_digital)."
            )

    @property
    def every(self) -> tuple[Hardware, ...]:
        """Each hardware once, the default first."""
        found = (self.default, *(rule.hardware for rule in self.rules))
        return tuple(dict.fromkeys(one for one in found if one is not None))

    def assign(self, names: Iterable[str]) -> dict[str, Hardware | None]:
        """The hardware of each module by its name; None: digital.

        Raises:
            UserError: a pattern matches nothing, or two rules put a layer on different hardware.
        """
        found: dict[str, Hardware | None] = {name: self.default for name in names}
        named_by: dict[str, str] = {}
        for rule in self.rules:
            for pattern in rule.match:
                for name in matches(pattern, found, rule.given):
                    if name in named_by and found[name] != rule.hardware:
                        raise UserError(
                            f"{rule.given}: layer '{name}' is matched by '{named_by[name]}' and by '{pattern}', "
                            "which set different hardware: narrow one of the patterns."
                        )
                    found[name], named_by[name] = rule.hardware, pattern
        for pattern in self.digital:
            found |= dict.fromkeys(matches(pattern, found, "hardware.keep_digital"))
        return found

    def plain(self) -> dict[str, Any]:
        """The placement as plain types, as files store it; :func:`hwaware.hardware.placement_from_plain` reads it."""

        def of(hardware: Hardware | None) -> dict[str, Any] | None:
            return None if hardware is None else hardware.plain()

        layers = [{"match": list(rule.match), "hardware": of(rule.hardware)} for rule in self.rules]
        return {"default": of(self.default), "layers": layers, "digital": list(self.digital)}


def matches(pattern: str, names: Iterable[str], given: str = "hardware.layers") -> list[str]:
    """The modules that a pattern covers. The exact name of a module matches itself, even if it contains brackets.

    Args:
        pattern: shell pattern on module names.
        names: names of all modules.
        given: the option that has the pattern, for the message.

    Raises:
        UserError: the pattern matches nothing.
    """
    names = list(names)
    hits = [name for name in names if pattern in ancestry(name)]
    hits = hits or [name for name in names if any(fnmatchcase(part, pattern) for part in ancestry(name))]
    if not hits:
        known = {part for name in names if name for part in ancestry(name)}
        raise UserError(f"{given}: '{pattern}' matches no layer. {nearest(pattern, known)}".rstrip())
    return hits


def ancestry(name: str) -> Iterator[str]:
    """The names of all modules that contain a module, outermost first, then its own."""
    parts = name.split(".")
    return (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
