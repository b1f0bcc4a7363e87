"""A time-independent variation with its own standard deviation for each state."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hwaware.errors import UserError
from hwaware.hardware.devices.device import Device


@dataclass(frozen=True, kw_only=True)
class StateVariation(Device):
    """``g' = g·(1 + severity·σ(g)·z)``, ``z ~ N(0, 1)``: a programming error, without later drift.

    S. Diware et al., AICAS 2023 (10.1109/AICAS57966.2023.10168661), map weights to the states that are most immune to
    this variation.

    Attributes:
        state_std: σ of the states, evenly spaced over the window from g_min to g_max; linear in g between them.
        severity: factor on all of them.
    """

    state_std: tuple[float, ...]
    severity: float = 1.0

    has_time_law = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.state_std) < 2 or not all(0 <= std < math.inf for std in self.state_std):
            raise UserError(
                f"state_std={list(self.state_std)} of device '{self.name}' must be two or more values of 0 or "
                "more, one for each state."
            )
        if not self.severity >= 0:
            raise UserError(
                f"severity={self.severity} of device '{self.name}' must be 0 or more; 1 uses state_std as it is."
            )

    def programming_std_us(self, g_us: Tensor) -> Tensor:
        last = len(self.state_std) - 1
        position = (g_us - self.g_min_us) * (last / (self.g_max_us - self.g_min_us))
        below = position.detach().floor().clamp_(0, last - 1)
        std = torch.tensor(self.state_std, dtype=g_us.dtype, device=g_us.device) * self.severity
        index = below.long()
        return torch.lerp(std[index], std[index + 1], position - below) * g_us

    def drift_mean_us(self, g_us: Tensor, age_s: float) -> float:
        return 0.0

    def drift_std_us(self, g_us: Tensor, age_s: float) -> float:
        return 0.0
