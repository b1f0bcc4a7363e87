"""What layers' arrays cost: against counts by hand, and what constants make of them."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from hwaware.errors import UserError
from hwaware.hardware import Converters, Crossbar, Encoding, load_hardware
from hwaware.hardware.crossbar.constants import ArrayConstants, load_constants
from hwaware.hardware.crossbar.costs import ArrayCosts, array_costs

PAIR = {"mapping": "differential", "rows": 256, "columns": 512}


def _costs(weight, positions, groups=1, **settings):
    return array_costs(load_hardware("reram_cmo", **{**PAIR, **settings}), weight, groups, positions)


def test_a_convolution_of_resnet_20():
    """64 × 64 × 3 × 3 at 8 × 8 positions: 576 rows in three arrays, pairs of columns."""
    costs = _costs((64, 64, 3, 3), positions=64)
    assert costs == ArrayCosts(
        arrays=3, rows=256, columns=512, cells=576 * 128, parts=3, dacs=576, adcs=64 * 3, adcs_per_array=64, outputs=64,
        positions=64,
    )  # fmt: skip
    assert costs.adc_conversions == 64 * 64 * 3 and costs.dac_conversions == 64 * 576
    assert costs.additions == 64 * 64 * 2 and costs.cell_reads == 64 * 576 * 128
    assert costs.utilisation_percent == pytest.approx(100 * 576 * 128 / (3 * 256 * 512))


def test_rows_are_driven_in_each_array_side_by_side():
    costs = _costs((600, 100), positions=1)  # 256 pairs in 512 columns
    assert (costs.arrays, costs.dacs, costs.adcs, costs.adcs_per_array) == (3, 300, 600, 256)
    assert costs.additions == 0


def test_groups_in_one_array_are_read_at_once():
    costs = _costs((96, 1, 3, 3), positions=49, groups=96)  # 28 of them in 256 rows
    assert (costs.arrays, costs.parts, costs.dacs, costs.adcs, costs.adcs_per_array) == (4, 1, 96 * 9, 96, 28)
    alone = _costs((4, 1, 3, 3), positions=49, groups=4)
    assert (alone.arrays, alone.adcs_per_array) == (1, 4)


def test_reference_columns_are_cells_and_no_conversions():
    costs = _costs((600, 100), positions=10, mapping="offset_reference")
    assert (costs.arrays, costs.cells, costs.adcs, costs.dacs) == (2, 100 * 602, 600, 200)


def test_cells_in_parallel_add_up_before_they_are_converted():
    costs = _costs((64, 64, 3, 3), positions=64, parallel=4)
    assert (costs.arrays, costs.cells, costs.adcs, costs.dacs) == (3, 576 * 512, 64 * 3, 576)
    wide = _costs((64, 64, 3, 3), positions=64, parallel=8)
    assert (wide.arrays, wide.adcs, wide.dacs) == (6, 64 * 3, 2 * 576)


def test_slices_are_converted_one_by_one():
    sliced = {"mapping": "bit_sliced", "kappa": "linear", "bits": 8, "slice_bits": 2, "levels": None}
    costs = _costs((64, 64, 3, 3), positions=64, **sliced)
    assert (costs.arrays, costs.adcs, costs.additions) == (3, 64 * 3 * 4, 64 * 64 * (3 * 4 - 1))


def test_slices_of_inputs_are_reads_of_their_own():
    """Seven bits and a sign, two at a time: four reads of each position, all shifted and added."""
    sliced = Converters(adc_bits=8, dac_bits=8, dac_slice_bits=2)
    costs = _costs((64, 64, 3, 3), positions=64, converters=sliced)
    assert (costs.positions, costs.reads) == (64, 256)
    assert costs.dac_conversions == 256 * 576 and costs.adc_conversions == 256 * 64 * 3
    assert costs.additions == 64 * 64 * (3 * 4 - 1)
    found = ROUND.estimate(costs, sliced)
    assert found.dac_pj == 256 * 576 * 0.5 * 2 and found.latency_us == pytest.approx(256 * 0.1)


def test_a_weight_that_is_wider_than_an_array_is_converted_in_each():
    costs = _costs((4, 10), positions=1, columns=6, parallel=5)  # five cells and one of the other sign; then four
    assert (costs.arrays, costs.adcs, costs.dacs, costs.additions) == (8, 4 * 2, 10 * 4 * 2, 4)
    alone = _costs((4, 10), positions=1, columns=1)
    assert (alone.arrays, alone.adcs, alone.adcs_per_array) == (8, 8, 1)


ROUND = ArrayConstants(
    adc_energy_pj=2.0, adc_bits=8, adc_time_ns=1.0, columns_per_adc=128, dac_energy_pj=0.5, dac_bits=1,
    array_read_time_ns=100.0, cell_read_energy_fj=3.0, addition_energy_pj=0.25,
)  # fmt: skip


def test_an_estimate_is_the_counts_times_the_constants():
    costs = _costs((64, 64, 3, 3), positions=64)
    found = ROUND.estimate(costs, Converters(adc_bits=6, dac_bits=4))
    assert found.adc_pj == 64 * 192 * 2.0 / 4 and found.dac_pj == 64 * 576 * 0.5 * 4
    assert found.cells_pj == pytest.approx(64 * 576 * 128 * 0.003) and found.additions_pj == 64 * 128 * 0.25
    assert found.energy_pj == pytest.approx(found.adc_pj + found.dac_pj + found.cells_pj + found.additions_pj)
    assert found.latency_us == pytest.approx(64 * 0.1)  # 64 columns are converted sooner than an array is read


def test_a_read_takes_as_long_as_its_slowest_part():
    costs, both = _costs((600, 100), positions=10), Converters(adc_bits=8, dac_bits=8)
    assert ROUND.estimate(costs, both).latency_us == pytest.approx(10 * 0.128)  # 128 of the 256 columns to each ADC
    shared = dataclasses.replace(ROUND, columns_per_adc=1024)
    assert shared.estimate(costs, both).latency_us == pytest.approx(10 * 0.256)


@pytest.mark.parametrize("converters", [None, Converters(adc_bits=8), Converters(dac_bits=8)])
def test_exact_converters_have_no_energy(converters):
    costs = _costs((4, 10), positions=1)
    missing = "adc_bits" if converters is not None and converters.dac_bits else "dac_bits"
    with pytest.raises(UserError, match=f"constants: the converters have no {missing}"):
        ROUND.estimate(costs, converters)


def test_isaac_by_its_table():
    """Table I of the paper: power of a unit of 8 arrays of 128 × 128, every 100 ns."""
    found, mw_ns, per_read = load_constants("isaac"), 100.0, 8 * 128
    assert found.adc_energy_pj == 16 * mw_ns / per_read and found.dac_energy_pj == 4 * mw_ns / per_read
    assert found.cell_read_energy_fj == pytest.approx(1e3 * 2.4 * mw_ns / (per_read * 128))
    assert found.addition_energy_pj == pytest.approx(0.2 * mw_ns / per_read)
    assert found.adc_time_ns * found.columns_per_adc == found.array_read_time_ns == 100
    assert "ISAAC" in found.source


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    values = {key: value for key, value in dataclasses.asdict(ROUND).items() if key != "source"}
    path.write_text(yaml.safe_dump(values))
    assert load_constants(str(path)) == ROUND
    for change, reason in (
        ({"adc_enrgy_pj": 1}, "has an unknown key 'adc_enrgy_pj'. Did you mean 'adc_energy_pj'?"),
        ({"adc_energy_pj": -1}, "adc_energy_pj=-1.0 must be a finite number of 0 or more"),
        ({"adc_time_ns": float("inf")}, "adc_time_ns=inf must be a finite number"),
        ({"columns_per_adc": 0}, "columns_per_adc=0 must be at least 1"),
        ({"adc_bits": 7.5}, "adc_bits=7.5 of constants must be a whole number"),
        ({"dac_energy_pj": "much"}, "dac_energy_pj of constants: 'much' is not a number"),
    ):
        path.write_text(yaml.safe_dump(values | change))
        with pytest.raises(UserError) as error:
            load_constants(str(path))
        assert reason in str(error.value) and str(path) in str(error.value)
    path.write_text("adc_bits: 8\ndac_bits: 1\n")
    with pytest.raises(UserError, match="lacks adc_energy_pj, adc_time_ns"):
        load_constants(str(path))
    path.write_text("[1, 2]\n")
    with pytest.raises(UserError, match="is not a table"):
        load_constants(str(path))


@pytest.mark.parametrize(("name", "reason"), [("issac", "Did you mean 'isaac'?"), ("mine.yaml", "there is no file")])
def test_constants_that_are_not_there(name, reason):
    with pytest.raises(UserError) as error:
        load_constants(name)
    assert reason in str(error.value)


def test_the_number_of_parts_is_known_before_they_are_made():
    for weight in ((8, 10), (8, 7, 3, 3), (8, 3, 16, 16)):
        for rows in range(1, 300):
            cut = Crossbar(rows=rows).tiling(Encoding(), weight, 1)
            assert cut.n_parts == len(cut.parts) and cut.n_rows == sum(part.n_rows for part in cut.parts)


def test_an_array_that_is_far_too_small_is_refused_before_anything_is_made():
    hardware = load_hardware("reram_cmo", rows=1, columns=2)
    weight = (10**6, 10**9)
    with pytest.raises(UserError) as error:
        hardware.check_layer(weight, 1)
    assert "rows=1 and columns=2 split it into 1,000,000,000,000,000 arrays, more than 1,000,000" in str(error.value)
    assert "parts" not in vars(hardware.tiling(weight, 1))
    hardware.check_layer((1000, 1000), 1)
    with pytest.raises(UserError, match=r"1,001,000 arrays.*give rows=2 and columns=4 or more"):
        hardware.check_layer((1000, 1001), 1)
