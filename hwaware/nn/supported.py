"""The layers that can be analog: ``python -m hwaware.nn.supported`` prints the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from hwaware.nn.convert import register_forms
from hwaware.nn.experts import forms
from hwaware.nn.layers import ANALOG_CLASSES, Part
from hwaware.nn.refusals import ALWAYS_DIGITAL
from hwaware.nn.rewriting import CALLING

#: Modules of libraries whose own layers have analog forms.
_LIBRARIES = (
    "timm",
    "transformers.pytorch_utils",
    "transformers.models.falcon.modeling_falcon",
    "transformers.models.mixtral.modeling_mixtral",
)


@dataclass(frozen=True)
class Supported:
    """One row of the table.

    Attributes:
        layer: the class, by its public name.
        in_cells: the weights that cells hold.
        note: restrictions.
    """

    layer: str
    in_cells: str
    note: str


def supported() -> list[Supported]:
    """All layers that can be analog, those of installed libraries included, followed by those that stay digital."""
    for library in _LIBRARIES:
        try:
            import_module(library)
        except ImportError:  # an extra that is not installed
            continue
    register_forms()
    return sorted(_in_cells(), key=lambda one: (not one.layer.startswith("torch"), one.layer)) + [
        Supported(_name(kind), "nothing", "no matrix product: stays digital") for kind in ALWAYS_DIGITAL
    ]


def _in_cells() -> Iterator[Supported]:
    for digital, analog in ANALOG_CLASSES.items():
        if digital not in (Part, NonDynamicallyQuantizableLinear):  # parts of attention and recurrent modules
            yield Supported(_name(digital), "weight", analog.note)
    for digital, calling in (*CALLING.items(), *forms()):
        yield Supported(_name(digital), ", ".join(calling.layers), calling.note)


def _name(kind: type[nn.Module]) -> str:
    return f"{'torch.nn' if kind.__module__.startswith('torch.nn') else kind.__module__}.{kind.__name__}"


def table() -> str:
    """The table in Markdown."""
    lines = [
        "Training noise, retention loss, chips, costs and all repairs (VeRA+, DoRA, …) work on each.",
        "Exact classes only: a subclass may use its weight in another way, so it is refused by name.",
        "",
        "| layer | in cells | note |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*lines, *(f"| `{one.layer}` | {one.in_cells} | {one.note} |" for one in supported())])


if __name__ == "__main__":
    print(table())
