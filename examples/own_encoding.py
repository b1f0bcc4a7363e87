"""A custom encoding: a weight as the mean of two cells, each read against a fixed current at mid-window.

Its errors beside those of one cell, and of a pair; from this folder::

    python own_encoding.py

In any recipe, name it as ``--model.hardware.encoding.mapping own_encoding.TWICE``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import hwaware
from hwaware.hardware import Mapping, import_mapping


def encode(v: Tensor, g_min_us: float, g_max_us: float) -> tuple[Tensor, Tensor]:
    """Both cells hold the weight, about the middle of the window."""
    target = (g_max_us + g_min_us) / 2 + v * (g_max_us - g_min_us) / 2
    return target, target.clone()


def decode(cells: tuple[Tensor, ...], g_min_us: float, g_max_us: float) -> Tensor:
    """The mean of the two, less the middle."""
    first, second = cells
    return ((first + second) / 2 - (g_max_us + g_min_us) / 2) * (2 / (g_max_us - g_min_us))


TWICE = Mapping("twice", cells_per_weight=2, encode=encode, decode=decode, gains=(1, 1))


def main() -> None:
    torch.manual_seed(0)
    x, import_path = torch.randn(100, 64), "own_encoding.TWICE"
    import_mapping(import_path)
    for mapping in ("offset", import_path, "differential"):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        hwaware.convert(model, hwaware.load_hardware("reram_relative", mapping=mapping, relative_drift=0.1))
        exact = model(x)
        with hwaware.Chip.program(model, seed=2_000_000).at(3600):
            error = (model(x) - exact).std() / exact.std()
        print(f"{mapping}: outputs off by {100 * error:.1f} %")


if __name__ == "__main__":
    main()
