"""Ages at another temperature, converted by an Arrhenius factor to the temperature that the laws are stated for.

``t_eq = t·exp(E_a/k_B·(1/T_ref - 1/T))`` with T in kelvin, as in retention bakes (JEDEC JESD22-A117). Plain numbers
without torch, because ``hwaware.results`` uses this module.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hwaware.errors import UserError

#: Reference temperature of the retention laws. Their sources measured at room temperature.
REFERENCE_TEMPERATURE_C = 25.0

_BOLTZMANN_EV_PER_K = 8.617333262e-5
_ZERO_C_IN_K = 273.15

_LARGEST = 1e12  # with a larger factor, one second equals tens of thousands of years


def acceleration(temperature_c: float | None, activation_energy_ev: float | None) -> float:
    """Acceleration of ageing relative to the reference temperature; 1 if no temperature is given.

    Args:
        temperature_c: temperature (°C).
        activation_energy_ev: activation energy (eV).

    Raises:
        UserError: only one of the two is given, or a value is out of range.
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
            f"ageing would be accelerated or slowed by more than a factor of {_LARGEST:g}."
        )
    return math.exp(exponent)


def is_extrapolated(
    age_s: float,
    measured_s: Sequence[float] | None,
    temperature_c: float | None = None,
    activation_energy_ev: float | None = None,
) -> bool:
    """Whether an age lies outside the ages at which a law's constants were measured.

    Args:
        age_s: age of the chip (s), at its temperature.
        measured_s: first and last measured age above 0 (s); None: not stated, which gives False.
        temperature_c, activation_energy_ev: see :func:`acceleration`.
    """
    if age_s == 0 or measured_s is None:
        return False
    first_s, last_s = measured_s
    return not first_s <= age_s * acceleration(temperature_c, activation_energy_ev) <= last_s
