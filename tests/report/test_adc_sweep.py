"""The figure of a sweep over ADCs and arrays."""

from dataclasses import replace

import pytest

from hwaware.errors import UserError
from hwaware.report.labels import heading
from hwaware.report.sweep_plots import plot_adc_sweep


def test_a_line_for_each_array_size(make_row, tmp_path):
    wires = {"segment_ohm": 1.0, "driver_ohm": 0.0}
    rows = [
        make_row(
            params={"converters": {"adc_bits": bits, "dac_bits": 8}, "rows": size, "wires": wires},
            chip_seed=chip,
            value=50.0 + bits + chip,
        )
        for size in (64, 256)
        for bits in (4, 6)
        for chip in range(3)
    ]
    assert plot_adc_sweep(rows, tmp_path / "adc.png").stat().st_size > 10_000
    _, conditions = heading(rows)
    assert "arrays of 64 × 512" in conditions and "wires of 1 Ω a cell" in conditions
    with pytest.raises(UserError, match="may differ in adc_bits, rows and network only"):
        plot_adc_sweep([*rows, replace(rows[0], mapping="offset")], tmp_path / "mixed.png")
    with pytest.raises(UserError, match="converters that have adc_bits"):
        plot_adc_sweep([make_row()], tmp_path / "none.png")
