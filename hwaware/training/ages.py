"""Distribution of chip ages in training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from hwaware.errors import UserError, nearest

_KINDS = ("fixed", "log_uniform", "list")


@dataclass(frozen=True)
class AgeDistribution:
    """A distribution of chip ages, one draw per training step.

    Attributes:
        kind: ``fixed`` (one given age), ``log_uniform`` (between two given ages) or ``list`` (one of several given
            ages, with equal probability).
        ages_s: the ages (s).

    Examples:
        >>> AgeDistribution("list", (0, 3600, 86400)).ages_s
        (0.0, 3600.0, 86400.0)
    """

    kind: Literal["fixed", "log_uniform", "list"] = "log_uniform"
    ages_s: tuple[float, ...] = (1.0, 315360000.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ages_s", tuple(float(age) for age in self.ages_s))
        if self.kind not in _KINDS:
            raise UserError(f"age distribution kind '{self.kind}' is unknown. {nearest(self.kind, _KINDS)}")
        wanted = {"fixed": 1, "log_uniform": 2}.get(self.kind)
        if not self.ages_s or (wanted and len(self.ages_s) != wanted):
            raise UserError(
                f"age distribution '{self.kind}' takes {wanted or 'one or more'} ages_s, not {len(self.ages_s)}."
            )
        if any(not 0 <= age < math.inf for age in self.ages_s):
            raise UserError(f"ages_s={list(self.ages_s)} must be 0 or more seconds.")
        if self.kind == "log_uniform" and not 0 < self.ages_s[0] < self.ages_s[1]:
            raise UserError(f"a log_uniform age needs 0 < ages_s[0] < ages_s[1], not {list(self.ages_s)}.")

    def draw(self) -> float:
        """Draws one age (s) from torch's global generator."""
        if self.kind == "log_uniform":
            low, high = (math.log(age) for age in self.ages_s)
            return math.exp(low + (high - low) * torch.rand(()).item())
        return self.ages_s[int(torch.randint(len(self.ages_s), ()).item())]
