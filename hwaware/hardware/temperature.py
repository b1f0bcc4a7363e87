"""Ages at another temperature: an Arrhenius factor turns them into ages at the temperature that laws are stated for.

``t_eq = t·exp(E_a/k_B·(1/T_ref - 1/T))``, T in kelvin: how retention is told from bakes (JEDEC JESD22-A117). Plain
numbers, without torch: results ask too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hwaware.errors import UserError

#: What the retention laws' constants are taken to hold for. Their sources measured at room temperature.
REFERENCE_TEMPERATURE_C = 25.0

_BOLTZMANN_EV_PER_K = 8.617333262e-5
_ZERO_C_IN_K = 273.15

_LARGEST = 1e12  # further off, an age of a second is one of tens of thousands of years


def acceleration(temperature_c: float | None, activation_energy_ev: float | None) -> float:
    """How many times as fast as at the reference temperature cells age; 1 where no temperature is given.

    Raises:
        UserError: only one of the two is given, or one can't be.
    """
    if temperature_c is None and activation_energy_ev is None:
        return 1.0
    if temperature_c is None or activation_energy_ev is None:
        given = {"temperature_c": temperature_c, "activation_energy_ev": activation_energy_ev}
        name, missing = sorted(given, key=lambda name: given[name] is None)
        raise UserError(f"{name}={given[name]} needs {missing} as well: together they say how much faster cells age.")
    if not temperature_c > -_ZERO_C_IN_K:
        raise UserError(f"temperature_c={temperature_c} must be above {-_ZERO_C_IN_K} °C (85 is usual).")
    if not activation_energy_ev > 0:
        raise UserError(f"activation_energy_ev={activation_energy_ev} must be above 0 eV.")
    reference, actual = (_ZERO_C_IN_K + value for value in (REFERENCE_TEMPERATURE_C, temperature_c))
    exponent = activation_energy_ev / _BOLTZMANN_EV_PER_K * (1 / reference - 1 / actual)
    if abs(exponent) > math.log(_LARGEST):
        raise UserError(
            f"temperature_c={temperature_c} with activation_energy_ev={activation_energy_ev}: "
            f"ages would be off by more than a factor of {_LARGEST:g}."
        )
    return math.exp(exponent)


def is_extrapolated(
    age_s: float,
    measured_s: Sequence[float] | None,
    temperature_c: float | None = None,
    activation_energy_ev: float | None = None,
) -> bool:
    """Whether no cell was read at so great an age, or at so small a one above 0, for a law's constants.

    Args:
        age_s: of the chip (s), at its temperature.
        measured_s: first and last age above 0 (s) at which cells were read; None: not stated, and so False.
        temperature_c, activation_energy_ev: see :func:`acceleration`.
    """
    if age_s == 0 or measured_s is None:
        return False
    first_s, last_s = measured_s
    return not first_s <= age_s * acceleration(temperature_c, activation_energy_ev) <= last_s
