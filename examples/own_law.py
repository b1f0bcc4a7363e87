"""A custom law: programming error and drift of a cell as functions of its target conductance and age.

Its numbers, and what a chip makes of them; from this folder::

    hwaware device show own_law.Creep
    python own_law.py

In any recipe, name it as ``--model.hardware.device.name own_law.Creep``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import hwaware
from hwaware.hardware import Device, Hardware


@dataclass(frozen=True, kw_only=True)
class Creep(Device):
    """Each decade of time takes a share of a cell's conductance, more from some cells than from others."""

    g_min_us: float = 1.0
    g_max_us: float = 50.0
    loss_per_decade: float = 0.01

    def programming_std_us(self, g_us: Tensor) -> Tensor:
        return 0.005 * g_us

    def drift_mean_us(self, g_us: Tensor, age_s: float) -> Tensor:
        return -self.loss_per_decade * math.log10(1 + age_s) * g_us

    def drift_std_us(self, g_us: Tensor, age_s: float) -> Tensor:
        return 0.2 * self.loss_per_decade * math.log10(1 + age_s) * g_us


def main() -> None:
    torch.manual_seed(0)
    hardware = Hardware(device=Creep(name="creep"))
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    print(hwaware.convert(model, hardware))
    x = torch.randn(100, 64)
    exact = model(x)
    chip = hwaware.Chip.program(model, seed=2_000_000)
    for age_s in (0, 3600, 315_360_000):
        with chip.at(age_s):
            error = (model(x) - exact).std() / exact.std()
        print(f"{age_s:>9} s: outputs off by {100 * error:.1f} %")


if __name__ == "__main__":
    main()
