"""Counts of a layer's arrays and converters, and of their operations in one inference.

A layer is *read* once for each position of its output and each slice of its inputs' bits (``dac_slice_bits``). One read
uses all arrays of the layer at once. At each read

* each row in use is driven by one DAC, also for padding and for the zeros of a transposed convolution. A row that
  several arrays share side by side is driven in each of them;
* each output current of an array is converted by one ADC. All columns of an output in an array give one current: those
  of a pair, of parallel cells and of the subtracted reference. Digits of ``bit_sliced`` give one current each. For a
  median of parallel cells, only the middle ones are counted.

The converted values of an output (parts in several arrays, digits, input slices) are shifted and added: n conversions
take n - 1 additions. A layer that is called several times has the reads of all its calls. Conversions are counted
whether or not the converters have a resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwaware.hardware.crossbar.tiling import Tiling
from hwaware.hardware.encoding import Codes, Encoding
from hwaware.hardware.hardware import Hardware


@dataclass(frozen=True)
class ArrayCosts:
    """Array and operation counts of one layer.

    Attributes:
        arrays: arrays that hold the layer.
        rows, columns: size of each array, in cells.
        cells: cells in use, parallel cells and reference columns included.
        parts: arrays that the inputs of one output are split over, each giving a partial sum.
        dacs: DACs at rows in use.
        adcs: ADC conversions in one read; also the number of ADCs if each current has its own.
        adcs_per_array: the same for the fullest array.
        outputs: outputs of one read.
        positions: output positions in one inference.
        input_slices: reads for each position.
    """

    arrays: int
    rows: int
    columns: int
    cells: int
    parts: int
    dacs: int
    adcs: int
    adcs_per_array: int
    outputs: int
    positions: int
    input_slices: int = 1

    @property
    def utilisation_percent(self) -> float:
        """Cells in use over all cells of the layer's arrays (%)."""
        return 100 * self.cells / (self.arrays * self.rows * self.columns)

    @property
    def reads(self) -> int:
        """Reads in one inference."""
        return self.positions * self.input_slices

    @property
    def dac_conversions(self) -> int:
        return self.reads * self.dacs

    @property
    def adc_conversions(self) -> int:
        return self.reads * self.adcs

    @property
    def additions(self) -> int:
        """Additions of converted values in one inference."""
        return self.adc_conversions - self.positions * self.outputs

    @property
    def cell_reads(self) -> int:
        return self.reads * self.cells


def array_costs(hardware: Hardware, weight: tuple[int, ...], groups: int, positions: int) -> ArrayCosts:
    """Counts the arrays and operations of one layer.

    Args:
        hardware: the layer's hardware.
        weight: shape of its weight, ``(C_out, C_in/groups, *kernel)``.
        groups: groups of a convolution; 1 otherwise.
        positions: output positions in one inference.
    """
    tiling, converters = hardware.tiling(weight, groups), hardware.crossbar.converters
    currents = _currents(tiling, hardware.encoding)
    outputs = tiling.groups * tiling.outputs
    in_one = tiling.groups_per_array * min(tiling.outputs, tiling.outputs_per_array)
    return ArrayCosts(
        arrays=tiling.n_arrays,
        rows=tiling.rows,
        columns=tiling.columns,
        cells=tiling.n_cells,
        parts=tiling.n_parts,
        dacs=tiling.groups * tiling.n_rows * tiling.sides * tiling.wide,
        adcs=outputs * tiling.n_parts * sum(currents),
        adcs_per_array=min(in_one, outputs) * max(currents),
        outputs=outputs,
        positions=positions,
        input_slices=1 if converters is None else converters.input_slices,
    )


def _currents(tiling: Tiling, encoding: Encoding) -> list[int]:
    """Output currents of one output's columns, in each of the arrays that they occupy."""
    columns_per_current = encoding.parallel if isinstance(encoding.format, Codes) else tiling.weight_columns
    found: list[set[int]] = [set() for _ in range(tiling.wide)]
    for column in range(tiling.weight_columns):
        found[(tiling.reference_columns + column) // tiling.columns].add(column // columns_per_current)
    return [len(one) for one in found]
