"""What repairs cost, as results keep it."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from hwaware.compensation import BnStats, ChannelAffine, FitData, ReadVerifyWrite, Repair, Schedule
from hwaware.evaluation import costs as counted
from hwaware.evaluation.costs import cost_lines, level_lines
from hwaware.hardware import load_hardware
from hwaware.nn import convert
from hwaware.results.costs import by_repair, read_costs, write_costs
from hwaware.results.row import Row

HARDWARE = load_hardware("reram_cmo")


@pytest.fixture
def networks():
    torch.manual_seed(0)

    def network(channels):
        head = nn.Linear(36 * channels, 3)
        layers = nn.Sequential(nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels), nn.Flatten(), head)
        convert(layers, HARDWARE)
        return layers.eval()

    return {"small": network(4), "large": network(8)}


@pytest.fixture
def repaired(networks):
    """A method for one of the networks, with a row of it."""
    images, labels = torch.randn(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)
    data = FitData(
        training=lambda seed: [(images, labels)],
        calibration=lambda n: (images[:n],),
        loss=lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1]),
        predict=lambda model, batch: model(batch[0]),
        accuracy=lambda model: 50.0,
        divergence=lambda output, exact: (output - exact).square().mean(),
    )

    def repair(network, method, schedule=None):
        params = json.dumps(HARDWARE.params(), sort_keys=True)
        row = Row(
            "recipe", "net", network, "data", "reram_cmo", params, "differential", method.name, method.params, 60.0,
            1, "top1", 90.0, 91.0, 92.0, 100, 0, "abc", "0.1.0",
        )  # fmt: skip
        return row, Repair(method, networks[network], (60.0, 3600.0), data, 0, schedule)

    return repair


@pytest.fixture
def repairs(networks, repaired):
    methods = (BnStats(batches=1), ChannelAffine(steps=1), ReadVerifyWrite(share=0.1))
    return [repaired(network, method) for network in networks for method in methods]


def test_lines_are_what_a_file_of_them_says(tmp_path, repairs):
    lines = cost_lines(repairs)
    methods = ("bn_stats", "channel_affine", "rvw")
    assert [(line.network, line.method) for line in lines] == [(n, m) for n in ("small", "large") for m in methods]
    assert read_costs(write_costs(tmp_path / "costs.csv", lines)) == by_repair(lines)
    affine, rewritten = lines[1:3]
    assert affine.sets == 2 and affine.bytes_stored > 0 and rewritten.cell_writes > 0  # on the first reported chip
    assert lines[4].bytes_stored > affine.bytes_stored  # of the larger network
    assert (affine.commit, affine.version, affine.n_samples) == ("abc", "0.1.0", 100)


def test_a_network_is_measured_once(networks, repairs, monkeypatch):
    models, measure = [], counted.network_size
    monkeypatch.setattr(counted, "network_size", lambda model, *more: models.append(model) or measure(model, *more))
    cost_lines(repairs)
    assert models == list(networks.values())


def test_levels_are_those_of_a_schedule(repairs, repaired):
    assert level_lines(repairs) == []
    schedule = Schedule(target_percent=90.0, instances=2, per_decade=1, youngest_s=60.0, oldest_s=3600.0)
    (level,) = level_lines([repaired("small", ChannelAffine(steps=1), schedule)])
    assert (level.network, level.start_s, level.mean, level.reached) == ("small", 0.0, 50.0, True)
    assert (level.target_percent, level.drift_free, level.commit) == (90.0, 50.0, "abc")
