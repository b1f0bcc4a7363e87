"""Networks on ageing chips, through every law, mapping, scale and format."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import hwaware
from tests.golden.hardware import SETTINGS, device_keys, in_cells
from tests.golden.lines import Lines, hash_of, lines_of_output, lines_of_rows
from tests.golden.workplace import SEED, TEN_YEARS_S, Workplace


def drift(options: dict[str, Any], place: Workplace, name: str) -> Lines:
    """The pretrained network, told of the cells' curve and not, on ageing chips."""
    few = ("--evaluation.networks", "[base_uncorrected, base]")
    yield from lines_of_rows(place.tiny("drift", name, *device_keys(**options), *few))


class Wide(nn.Module):
    """Layers that take more than one crossbar and more than one block of random numbers, and grouped ones."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6)
        self.wide = nn.Linear(6 * 100, 520)
        self.head = nn.Linear(520, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.grouped(x).relu()).relu()
        return self.head(self.wide(x.flatten(1)).relu())


@torch.no_grad()
def cells(options: dict[str, Any], place: Workplace, name: str) -> Lines:
    """Outputs of a random network with large and grouped layers on one chip, in plain Python."""
    torch.manual_seed(SEED)
    network, x = Wide().eval(), torch.randn(2, 4, 12, 12)
    chip = in_cells(network, **options)
    with hwaware.drift_free(network):
        yield from lines_of_output("drift-free", network(x))
    for age_s in (0.0, TEN_YEARS_S):
        with chip.at(age_s):
            yield from lines_of_output(f"age {age_s:.10g} s", network(x))
    for layer, weight in hwaware.effective_state_dict(network).items():
        yield f"effective|{layer}|sha256", hash_of({layer: weight})


CASES = {f"drift_{name}": partial(drift, options) for name, options in SETTINGS.items()}
for name, options in SETTINGS.items():
    if "converters" not in options:  # whose ranges are measured on data
        digital = {"exclude": ["grouped"]} if "exclude" in options else {}
        CASES[f"cells_{name}"] = partial(cells, options | digital)
