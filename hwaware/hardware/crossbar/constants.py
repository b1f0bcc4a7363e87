"""Energy and time of what arrays do, as a table of constants: a rough estimate of an inference's.

Of the arrays alone: an inference's energy is that of its conversions, cell reads and additions. Buffers, wires between
arrays, digital layers and leakage are not in it. Layers follow one another, and so do the reads of a layer, in all of
its arrays at once: a read takes as long as the array's, or as its ADCs take for their columns, whichever is longer.

A conversion takes an ADC twice the energy with each bit (R. H. Walden, IEEE Journal on Selected Areas in
Communications 17, 539-550, 1999: a converter's figure of merit), and a DAC energy in proportion to its bits, as where
each is a pulse; a slice of an input's bits is as many, its sign a polarity.
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
    """Of one layer in one inference; see the module.

    Attributes:
        dac_pj, adc_pj, cells_pj, additions_pj: energy (pJ) of conversions, reads of cells, and additions.
        latency_us: time (µs).
    """

    dac_pj: float
    adc_pj: float
    cells_pj: float
    additions_pj: float
    latency_us: float

    @property
    def energy_pj(self) -> float:
        """All of it (pJ)."""
        return self.dac_pj + self.adc_pj + self.cells_pj + self.additions_pj


@dataclass(frozen=True, kw_only=True)
class ArrayConstants:
    """What arrays and converters of one technology take; see the module.

    Attributes:
        source: that the constants are from, in words.
        adc_energy_pj: of one conversion (pJ) of ``adc_bits`` bits.
        adc_bits: that it is stated for.
        adc_time_ns: of one conversion (ns), whatever its bits.
        columns_per_adc: currents of an array that one ADC converts, one after the other.
        dac_energy_pj: of one conversion (pJ) of ``dac_bits`` bits, driving the row included.
        dac_bits: that it is stated for.
        array_read_time_ns: of an array (ns).
        cell_read_energy_fj: of a cell (fJ) in one read.
        addition_energy_pj: of one addition (pJ) of what was converted, its shift included.
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
        """What a layer takes.

        Args:
            costs: of the layer on these converters.
            converters: at its arrays.

        Raises:
            UserError: a converter has no bits.
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
    """Raises UserError where one of the converters has no bits, so that its energy can't be estimated."""
    _bits_of(converters)


def _bits_of(converters: Converters | None) -> tuple[int, int]:
    """Of one conversion of DACs and ADCs."""
    dac_bits, adc_bits = (None, None) if converters is None else (converters.dac_bits, converters.adc_bits)
    for name, bits in {"dac_bits": dac_bits, "adc_bits": adc_bits}.items():
        if bits is None:
            raise UserError(
                f"constants: converters have no {name}, and an exact one takes no energy that is known: give "
                f"--model.hardware.crossbar.converters.{name} 8, or leave constants out."
            )
    assert converters is not None and dac_bits is not None and adc_bits is not None  # for the type checker
    return converters.dac_slice_bits or dac_bits, adc_bits


def constants_names() -> list[str]:
    """Names of the tables that come with the package."""
    return sorted(one.name.removesuffix(".yaml") for one in _PRESETS.iterdir() if one.name.endswith(".yaml"))


def load_constants(name: str) -> ArrayConstants:
    """A table of constants, by its name or by the path of a YAML file of the same form.

    Args:
        name: one of :func:`constants_names`, or a path that ends in ``.yaml``.

    Raises:
        UserError: there is none, a key is unknown or missing, or a value can't be.
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
        raise UserError(f"{what} is no table of constants and values.")
    known, kinds = [field.name for field in fields(ArrayConstants)], get_type_hints(ArrayConstants)
    for key in values:
        if key not in known:
            raise UserError(f"{what} has an unknown '{key}'. {nearest(str(key), known)}")
    if lacking := [key for key in known if key not in values and key != "source"]:
        raise UserError(f"{what} lacks {', '.join(lacking)}.")
    try:
        return ArrayConstants(**{key: typed(value, kinds[key], f"{key} of constants") for key, value in values.items()})
    except UserError as error:
        raise UserError(f"{what}: {error}") from None
