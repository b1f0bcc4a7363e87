"""Array and operation counts of a network, layer by layer: the rows of ``arrays.csv``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerArrays:
    """Arrays of one layer, and their operations in one inference.

    See :mod:`hwaware.hardware.crossbar.costs`.

    Attributes:
        layer: name of the layer; tied layers share one name, with the reads of all.
        weights: number of weights.
        arrays: number of arrays.
        rows, columns: size of each array, in cells.
        cells: cells in use, parallel cells and reference columns included.
        utilisation_percent: cells in use, in percent of the arrays' cells.
        parts: partial sums of each output, one per array.
        dacs, adcs: converters: driven rows and converted currents in each read.
        positions: output positions in one inference.
        reads: reads in one inference, one for each position and slice of the inputs' bits.
        dac_conversions, adc_conversions, additions, cell_reads: operations in one inference.
    """

    layer: str
    weights: int
    arrays: int
    rows: int
    columns: int
    cells: int
    utilisation_percent: float
    parts: int
    dacs: int
    adcs: int
    positions: int
    reads: int
    dac_conversions: int
    adc_conversions: int
    additions: int
    cell_reads: int


@dataclass(frozen=True)
class LayerEstimate:
    """A rough estimate of energy and time from these counts and a table of constants, in separate columns.

    See :mod:`hwaware.hardware.crossbar.constants`.

    Attributes:
        constants: name or file of the table of constants.
        estimated_dac_pj, estimated_adc_pj, estimated_cells_pj, estimated_additions_pj: energy (pJ) in one inference.
        estimated_energy_pj: total energy (pJ).
        estimated_latency_us: time (µs) of one inference.
    """

    constants: str
    estimated_dac_pj: float
    estimated_adc_pj: float
    estimated_cells_pj: float
    estimated_additions_pj: float
    estimated_energy_pj: float
    estimated_latency_us: float
