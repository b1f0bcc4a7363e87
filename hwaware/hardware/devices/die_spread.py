"""By how much a device's constants differ from one die to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from hwaware.errors import UserError
from hwaware.hardware.temperature import acceleration

#: Standard deviations at which draws are cut off.
CUT_OFF = 3.0

#: The largest share: from a third on draws are cut off nearer, so that no factor is below 0, and here at two.
MOST_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class DieSpread:
    """Standard deviations between dies, of what all cells of a die have in common.

    A constant of a die is the device's times a factor (of the temperature: plus a difference), a Gaussian about 1 that
    is cut off on both sides, at three standard deviations or where it would be 0, whichever is nearer
    (:func:`reach`). So means over dies are the device's constants; the standard deviation is 1.4 % below the stated
    one, and for a share of 0.5 it is 12 % below. Factors of different constants are independent.

    Attributes:
        drift_mean: of the mean change by drift, as a share of it.
        drift_std: of the spread of that change between the cells of a die, as a share of it.
        window: of either end of the conductance window, as a share of it.
        programming: of the programming error, as a share of it.
        temperature_k: of the temperature, in K; needs the device's ``temperature_c``.
        chips_per_die: chips of so many consecutive seeds are one die, written anew: cells draw again, the die does not.

    Raises:
        UserError: a value can't be.
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
        """What is not as by default, as plain types."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != one.default}

    def check(self, g_min_us: float, g_max_us: float, at: tuple[float | None, float | None]) -> None:
        """Raises UserError where some die would have no window, or a temperature that can't be.

        Args:
            g_min_us, g_max_us: the device's window (µS).
            at: its temperature (°C) and activation energy (eV).
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
    """Standard deviations at which a factor with that share is cut off, above and below 1."""
    return min(CUT_OFF, 1 / share) if share else CUT_OFF
