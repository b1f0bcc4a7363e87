"""What a network's arrays cost, layer by layer, as ``arrays.csv`` keeps it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerArrays:
    """What one layer's arrays are, and how often they are used in one inference.

    See :mod:`hwaware.hardware.crossbar.costs`.

    Attributes:
        layer: its name; layers tied to each other go under the name of one, with the reads of all.
        weights: that it has.
        arrays: that hold it.
        rows, columns: of each, in cells.
        cells: in use, parallel ones and reference columns included.
        utilisation_percent: of the arrays' cells.
        parts: partial sums of each output, from as many arrays.
        dacs, adcs: converters: rows that are driven, and currents that are converted, at each read.
        positions: of its output in one inference.
        reads: of all its arrays, one for each position and slice of the inputs' bits.
        dac_conversions, adc_conversions, additions, cell_reads: in one inference.
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
    """What constants make of these counts: a rough estimate, in columns of their own.

    See :mod:`hwaware.hardware.crossbar.constants`.

    Attributes:
        constants: the table's name or file.
        estimated_dac_pj, estimated_adc_pj, estimated_cells_pj, estimated_additions_pj: energy (pJ) in one inference.
        estimated_energy_pj: all of these.
        estimated_latency_us: time (µs) of one inference.
    """

    constants: str
    estimated_dac_pj: float
    estimated_adc_pj: float
    estimated_cells_pj: float
    estimated_additions_pj: float
    estimated_energy_pj: float
    estimated_latency_us: float
