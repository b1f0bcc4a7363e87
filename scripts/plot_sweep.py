#!/usr/bin/env python
"""Plots accuracy against a device parameter, from rows that differ in it.

    python scripts/plot_sweep.py results/biased_lenet5/rows.csv severity results/biased_lenet5/severity.png

The parameter may also be range_fraction, for several κ with and without correction for the I-V curve; the converters'
input_range, for all ages; or their adc_bits, for several array sizes (rows without ADCs are left out). --metric,
--age-s, --networks and --percentile select rows (default: the first row's metric and age, and everything else).
--chance draws the chance level.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hwaware.report.sweep_plots import (
    plot_adc_sweep,
    plot_input_range_sweep,
    plot_parameter_sweep,
    plot_range_sweep,
)
from hwaware.results.csv import read_rows
from hwaware.results.setting import params_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("parameter")
    parser.add_argument("out", type=Path)
    parser.add_argument("--metric")
    parser.add_argument("--age-s", type=float)
    parser.add_argument("--networks", nargs="+", help="default: all")
    parser.add_argument("--percentile", type=float, help="of converters' ranges; default: all")
    parser.add_argument("--chance", type=float, help="percent; default: not drawn")
    arguments = parser.parse_args()
    rows = read_rows(arguments.rows)
    metric = arguments.metric or rows[0].metric
    age_s = rows[0].age_s if arguments.age_s is None else arguments.age_s
    rows = [
        row
        for row in rows
        if row.metric == metric and (arguments.networks is None or row.network in arguments.networks)
    ]
    kept = [row for row in rows if row.age_s == age_s]
    if arguments.parameter == "input_range":
        print(plot_input_range_sweep(rows, arguments.out, chance=arguments.chance))
    elif arguments.parameter == "adc_bits":
        found = [(row, params_of(row.device_params).get("converters", {})) for row in kept]
        percentile = arguments.percentile
        kept = [row for row, of in found if "adc_bits" in of and percentile in (None, of["percentile"])]
        print(plot_adc_sweep(kept, arguments.out, chance=arguments.chance))
    elif arguments.parameter == "range_fraction":
        print(plot_range_sweep(kept, arguments.out, age_s, chance=arguments.chance))
    else:
        print(plot_parameter_sweep(kept, arguments.parameter, arguments.out, chance=arguments.chance))


if __name__ == "__main__":
    main()
