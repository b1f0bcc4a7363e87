"""What a layer's arrays are, and how often they and their converters are used in one inference.

One *read* of a layer gives its outputs at one position of its output: all of its arrays are read at once. At each read

* each row in use is driven by a DAC, those of padding included, and those of a transposed convolution that meet no
  input. A layer's rows are driven in all of its arrays side by side;
* each current that an array gives is converted by an ADC. Cells of a weight whose gains differ in sign alone add up to
  one current, as do cells in parallel and what reference columns take off: a pair is one conversion. Cells whose gains
  differ in size, the digits of ``bit_sliced``, are converted one by one, shifted and added. So are parts of an output
  that lie in several arrays. Of a median in parallel cells it is counted as if the middle ones were known;
* an output of n conversions takes n - 1 additions.

A layer that is called several times has the reads of all its calls. Costs are counted whether or not converters have
bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwaware.hardware.crossbar.tiling import Tiling
from hwaware.hardware.encoding import Encoding


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
        reads: in one inference.
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
    reads: int

    @property
    def utilisation_percent(self) -> float:
        """Cells in use, of those of its arrays."""
        return 100 * self.cells / (self.arrays * self.rows * self.columns)

    @property
    def dac_conversions(self) -> int:
        return self.reads * self.dacs

    @property
    def adc_conversions(self) -> int:
        return self.reads * self.adcs

    @property
    def additions(self) -> int:
        """Of what was converted."""
        return self.reads * (self.adcs - self.outputs)

    @property
    def cell_reads(self) -> int:
        return self.reads * self.cells


def array_costs(tiling: Tiling, encoding: Encoding, reads: int) -> ArrayCosts:
    """What one layer costs.

    Args:
        tiling: of the layer, by :meth:`hwaware.hardware.Hardware.tiling`.
        encoding: of its weights.
        reads: in one inference: positions of its output.
    """
    currents = _currents(tiling, encoding)
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
        reads=reads,
    )


def _currents(tiling: Tiling, encoding: Encoding) -> list[int]:
    """Currents of one output's columns, in each of the arrays that these need."""
    gains = encoding.layout.gains[: encoding.layout.cells_per_weight]
    found: list[set[float]] = [set() for _ in range(tiling.wide)]
    for column in range(tiling.weight_columns):
        gain = abs(gains[column // encoding.parallel])
        found[(tiling.reference_columns + column) // tiling.columns].add(gain)
    return [len(one) for one in found]
