"""A rough estimate of the energy and time of one inference, from a table of constants.

The estimate covers the arrays only. The energy is that of conversions, cell reads and additions; buffers, wires between
arrays, digital layers and leakage are not included. Layers run one after the other, and so do the reads of one layer.
One read uses all arrays of the layer at once. It takes the array's read time or the time that an ADC needs for its
columns, whichever is longer.

The energy of an ADC conversion doubles with each bit (R. H. Walden, IEEE Journal on Selected Areas in Communications
17, 539-550, 1999: figure of merit of converters). The energy of a DAC conversion is proportional to its bits, as if
each bit were a pulse. A slice of the input has the bits of the slice; the sign is a polarity and costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import get_type_hints

from hwaware.errors import UserError, nearest, nearest_path
from hwaware.hardware.crossbar.converters import Converters
from hwaware.hardware.crossbar.costs import ArrayCosts
from hwaware.hardware.devices.registry import typed
from hwaware.system.reading import parse_yaml, read_text

_PRESETS = resources.files("hwaware.hardware.crossbar") / "presets"


@dataclass(frozen=True)
class Estimate:
    """Energy and time of one layer in one inference; see the module.

    Attributes:
        dac_pj, adc_pj, cells_pj, additions_pj: energy (pJ) of the conversions, cell reads and additions.
        latency_us: time (µs).
    """

    dac_pj: float
    adc_pj: float
    cells_pj: float
    additions_pj: float
    latency_us: float

    @property
    def energy_pj(self) -> float:
        """Total energy (pJ)."""
        return self.dac_pj + self.adc_pj + self.cells_pj + self.additions_pj


@dataclass(frozen=True, kw_only=True)
class ArrayConstants:
    """Energy and time constants of the arrays and converters of one technology; see the module.

    Attributes:
        source: where the constants come from, in words.
        adc_energy_pj: energy (pJ) of one ADC conversion of ``adc_bits`` bits.
        adc_bits: the resolution that ``adc_energy_pj`` is stated for.
        adc_time_ns: time (ns) of one ADC conversion, whatever its bits.
        columns_per_adc: column currents that share one ADC, converted one after the other.
        dac_energy_pj: energy (pJ) of one DAC conversion of ``dac_bits`` bits, driving the row included.
        dac_bits: the resolution that ``dac_energy_pj`` is stated for.
        array_read_time_ns: time (ns) of one array read.
        cell_read_energy_fj: energy (fJ) of one cell in one read.
        addition_energy_pj: energy (pJ) of one digital addition, its shift included.

    Raises:
        UserError: a value is out of range.
    """

    adc_energy_pj: float
    adc_bits: int
    adc_time_ns: float
    columns_per_adc: int
    dac_energy_pj: float
    dac_bits: int
    array_read_time_ns: float
    cell_read_energy_fj: float
    addition_energy_pj: float
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("adc_bits", "columns_per_adc", "dac_bits"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1.")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "float" and not 0 <= value < math.inf:
                raise UserError(f"{field.name}={value} must be a finite number of 0 or more.")

    def estimate(self, costs: ArrayCosts, converters: Converters | None) -> Estimate:
        """Estimates the energy and time of one layer.

        Args:
            costs: operation counts of the layer with these converters.
            converters: the converters of its arrays.

        Raises:
            UserError: a converter has no resolution (bits).
        """
        dac_bits, adc_bits = _bits_of(converters)
        adc_ns = min(self.columns_per_adc, costs.adcs_per_array) * self.adc_time_ns
        return Estimate(
            dac_pj=costs.dac_conversions * self.dac_energy_pj * dac_bits / self.dac_bits,
            adc_pj=costs.adc_conversions * self.adc_energy_pj * 2.0 ** (adc_bits - self.adc_bits),
            cells_pj=costs.cell_reads * self.cell_read_energy_fj / 1e3,
            additions_pj=costs.additions * self.addition_energy_pj,
            latency_us=costs.reads * max(self.array_read_time_ns, adc_ns) / 1e3,
        )


def check_bits(converters: Converters | None) -> None:
    """Raises UserError if a converter has no resolution (bits), so that its energy can't be estimated."""
    _bits_of(converters)


def _bits_of(converters: Converters | None) -> tuple[int, int]:
    """Bits of one DAC conversion and of one ADC conversion."""
    dac_bits, adc_bits = (None, None) if converters is None else (converters.dac_bits, converters.adc_bits)
    for name, bits in {"dac_bits": dac_bits, "adc_bits": adc_bits}.items():
        if bits is None:
            raise UserError(
                f"constants: the converters have no {name}, and the energy of an exact converter is unknown: give "
                f"--model.hardware.crossbar.converters.{name} 8, or leave constants out."
            )
    assert converters is not None and dac_bits is not None and adc_bits is not None  # for the type checker
    return converters.dac_slice_bits or dac_bits, adc_bits


def constants_names() -> list[str]:
    """Names of the tables of constants that come with the package."""
    return sorted(one.name.removesuffix(".yaml") for one in _PRESETS.iterdir() if one.name.endswith(".yaml"))


def load_constants(name: str) -> ArrayConstants:
    """Loads a table of constants, by its name or from a YAML file of the same form.

    Args:
        name: one of :func:`constants_names`, or a path that ends in ``.yaml``.

    Raises:
        UserError: there is no such table, a key is unknown or missing, or a value is invalid.
    """
    if name in constants_names():
        text = (_PRESETS / f"{name}.yaml").read_text(encoding="utf-8")
    elif name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"there is no file of constants '{path}'. {nearest_path(path)}".rstrip())
        text = read_text(path, "file of constants")
    else:
        raise UserError(f"constants '{name}' are unknown. {nearest(name, constants_names())} A path must end in .yaml.")
    what = f"file of constants '{name}'"
    values = parse_yaml(text, what)
    if not isinstance(values, dict):
        raise UserError(f"{what} is not a table of constants and values.")
    known, kinds = [field.name for field in fields(ArrayConstants)], get_type_hints(ArrayConstants)
    for key in values:
        if key not in known:
            raise UserError(f"{what} has an unknown key '{key}'. {nearest(str(key), known)}")
    if lacking := [key for key in known if key not in values and key != "source"]:
        raise UserError(f"{what} lacks {', '.join(lacking)}.")
    try:
        return ArrayConstants(**{key: typed(value, kinds[key], f"{key} of constants") for key, value in values.items()})
    except UserError as error:
        raise UserError(f"{what}: {error}") from None
