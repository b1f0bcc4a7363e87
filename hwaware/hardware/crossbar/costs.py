"""What a layer's arrays are, and how often they and their converters are used in one inference.

A layer is *read* once for each position of its output, and each slice of its inputs' bits (``dac_slice_bits``): all of
its arrays at once. At each read

* each row in use is driven by a DAC, those of padding included, and those of a transposed convolution that meet no
  input. A layer's rows are driven in all of its arrays side by side;
* each current that an array gives is converted by an ADC. All columns of an output in an array give one current, also
  those of a pair, of cells in parallel, and what reference columns take off; but digits of ``bit_sliced`` one each.
  Of a median of cells in parallel it is counted as if the middle ones were known.

What is converted of an output, of its parts in several arrays, digits and slices of inputs, is shifted and added: n
conversions take n - 1 additions. A layer that is called several times has the reads of all its calls. All is counted
whether or not converters have bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwaware.hardware.crossbar.tiling import Tiling
from hwaware.hardware.encoding import Codes, Encoding
from hwaware.hardware.hardware import Hardware


@dataclass(frozen=True)
class ArrayCosts:
    """Of one layer.

    Attributes:
        arrays: that hold it.
        rows, columns: of each, in cells.
        cells: in use, parallel ones and reference columns included.
        parts: arrays that the inputs of one output lie in: partial sums.
        dacs: converters at rows in use.
        adcs: conversions of one read; as many converters where each current has one.
        adcs_per_array: of these in its fullest array.
        outputs: of one read.
        positions: of the output in one inference.
        input_slices: reads of each position.
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
        """Cells in use, of those of its arrays."""
        return 100 * self.cells / (self.arrays * self.rows * self.columns)

    @property
    def reads(self) -> int:
        """In one inference."""
        return self.positions * self.input_slices

    @property
    def dac_conversions(self) -> int:
        return self.reads * self.dacs

    @property
    def adc_conversions(self) -> int:
        return self.reads * self.adcs

    @property
    def additions(self) -> int:
        """Of what was converted."""
        return self.adc_conversions - self.positions * self.outputs

    @property
    def cell_reads(self) -> int:
        return self.reads * self.cells


def array_costs(hardware: Hardware, weight: tuple[int, ...], groups: int, positions: int) -> ArrayCosts:
    """What one layer costs.

    Args:
        hardware: that holds it.
        weight: the shape of its weight.
        groups: of a convolution; 1 otherwise.
        positions: of its output in one inference.
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
    """Currents of one output's columns, in each of the arrays that these need."""
    columns_per_current = encoding.parallel if isinstance(encoding.format, Codes) else tiling.weight_columns
    found: list[set[int]] = [set() for _ in range(tiling.wide)]
    for column in range(tiling.weight_columns):
        found[(tiling.reference_columns + column) // tiling.columns].add(column // columns_per_current)
    return [len(one) for one in found]
