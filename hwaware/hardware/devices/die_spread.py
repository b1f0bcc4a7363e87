"""Spread of a device's constants from one die to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from hwaware.errors import UserError
from hwaware.hardware.temperature import acceleration

#: Standard deviations at which draws are truncated.
CUT_OFF = 3.0

#: The largest share. From one third on, draws are truncated earlier so that no factor is below 0; here at two σ.
MOST_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class DieSpread:
    """Standard deviations between dies of the constants that all cells of a die share.

    A constant of a die is the device's constant times a factor (for the temperature: plus a difference). The factor is
    a Gaussian about 1, truncated on both sides at three standard deviations or where it reaches 0, whichever is nearer
    (:func:`reach`). So the mean over dies is the device's constant. Truncation reduces the standard deviation by 1.4 %,
    and by 12 % for a share of 0.5. Factors of different constants are independent.

    Attributes:
        drift_mean: relative standard deviation of the mean drift.
        drift_std: relative standard deviation of the spread of drift between the cells of a die.
        window: relative standard deviation of either end of the conductance window.
        programming: relative standard deviation of the programming error.
        temperature_k: standard deviation of the temperature (K); needs the device's ``temperature_c``.
        chips_per_die: number of consecutive chip seeds that share a die. Each is the same die written again: the cells
            draw anew, the die does not.

    Raises:
        UserError: a value is out of range.
    """

    drift_mean: float = 0.0
    drift_std: float = 0.0
    window: float = 0.0
    programming: float = 0.0
    temperature_k: float = 0.0
    chips_per_die: int = 1

    def __post_init__(self) -> None:
        for name in ("drift_mean", "drift_std", "window", "programming"):
            if not 0 <= (share := getattr(self, name)) <= MOST_SHARE:
                raise UserError(f"die_spread.{name}={share} must be a share in [0, {MOST_SHARE}]; 0.1 for 10 %.")
        if not 0 <= self.temperature_k < math.inf:
            raise UserError(f"die_spread.temperature_k={self.temperature_k} must be 0 K or more.")
        if type(self.chips_per_die) is not int or self.chips_per_die < 1:
            raise UserError(f"die_spread.chips_per_die={self.chips_per_die} must be a whole number of at least 1.")

    def given(self) -> dict[str, Any]:
        """The values that differ from their defaults, as plain types."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != one.default}

    def check(self, g_min_us: float, g_max_us: float, at: tuple[float | None, float | None]) -> None:
        """Raises UserError if some die would have an empty window or an impossible temperature.

        Args:
            g_min_us, g_max_us: the device's window (µS).
            at: the device's temperature (°C) and activation energy (eV).
        """
        off = self.window * reach(self.window)
        low, high = g_min_us * (1 + off), g_max_us * (1 - off)
        if low >= high:
            most = (g_max_us - g_min_us) / (g_max_us + g_min_us) / CUT_OFF
            raise UserError(
                f"die_spread.window={self.window} makes the window of some chips empty: g_min_us goes up to {low:.4g} "
                f"and g_max_us down to {high:.4g} µS. It must be below {most:.4g}."
            )
        if not self.temperature_k:
            return
        if at[0] is None:
            raise UserError(
                f"die_spread.temperature_k={self.temperature_k} needs temperature_c and activation_energy_ev: "
                "they say how much faster a warmer chip ages."
            )
        for temperature_c in (at[0] - CUT_OFF * self.temperature_k, at[0] + CUT_OFF * self.temperature_k):
            try:
                acceleration(temperature_c, at[1])
            except UserError as error:
                raise UserError(f"die_spread.temperature_k={self.temperature_k} is too large: {error}") from None


def reach(share: float) -> float:
    """Number of standard deviations at which a factor with this relative spread is truncated, on both sides of 1."""
    return min(CUT_OFF, 1 / share) if share else CUT_OFF
