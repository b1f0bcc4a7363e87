"""Ranges of converters that train: what moves them, what is kept, how a run goes on."""

import pytest
import torch
from torch import nn

from hwaware.errors import UserError
from hwaware.export.weights import load_weights, read_checkpoint
from hwaware.hardware import Converters, CrossbarOptions, HardwareOptions, Ranges, load_hardware
from hwaware.nn import Measured, analog_layers, convert
from hwaware.training import RangeLearning, RangeParameters
from tests.tasks.test_task import OLD, fit, make


def _hardware(**converters):
    crossbar = CrossbarOptions(rows=64, converters=Converters(**converters))
    return HardwareOptions({"name": "reram_cmo"}, crossbar=crossbar)


BOTH = {"dac_bits": 6, "adc_bits": 6, "samples": 50}


def _task(**options):
    task = make(hardware=_hardware(**BOTH), **options)
    Measured(ranges={name: (1.0, 1.0) for name in analog_layers(task.network)}).give(task.network)
    return task


def _network(**converters):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4))
    convert(model, load_hardware("reram_cmo", kappa=None, rows=4, converters=Converters(**converters)))
    model[0].ranges = Ranges(1.0, 1.0)
    return model


@pytest.mark.parametrize(("gradient", "grows"), [(-1.0, True), (1.0, False)])
def test_a_range_follows_what_it_cuts_off(gradient, grows):
    """Larger outputs wanted: those that are cut off ask for a wider range; smaller ones for a narrower."""
    model = _network(adc_bits=4)
    ranges = RangeParameters(model)
    ranges.start()
    model(10 * torch.ones(3, 8) * model[0].weight.sign()[0]).backward(gradient * torch.ones(3, 4))
    (log,) = ranges.logs.values()
    assert (log.grad.item() < 0) == grows and log.grad.item() != 0
    with torch.no_grad():
        log += 1.0
    ranges.stop()
    assert model[0].ranges == pytest.approx((1.0, 2.71828), rel=1e-5) and model[0].learned is None


def test_each_array_has_a_range_of_its_own():
    model = _network(dac_bits=8, adc_bits=8, per_array=True)
    model[0].ranges = Ranges(1.0, 100.0)
    model[0].weight.data.abs_()
    ranges = RangeParameters(model)
    ranges.start()
    x = 0.1 * torch.ones(3, 8)
    x[:, 4:] = 5.0  # cut off by the second array's DAC
    model(x).sum().backward()
    x_log, y_log = ranges.logs["0/x"], ranges.logs["0/y"]
    assert x_log.shape == y_log.shape == (2,)
    assert x_log.grad[1].abs() > 20 * x_log.grad[0].abs()  # the other only rounds
    assert ranges.pull().item() == pytest.approx(2 * 4.60517)  # two arrays' logarithms of 100


def test_ranges_train_and_go_with_the_weights(tmp_path):
    task, kept = _task(noise=OLD, range_learning=RangeLearning(rate=5.0, decay=10.0)), _task(noise=OLD)
    trainer = fit(task)
    fit(kept)
    found, measured = Measured.of(task.network).ranges, Measured.of(kept.network).ranges
    assert all(a[k] < b[k] for a, b in zip(found.values(), measured.values(), strict=True) for k in (0, 1))
    assert list(task.network.state_dict()) == list(kept.network.state_dict())
    (group,) = (one for one in trainer.optimizers[0].param_groups if one["lr"] == pytest.approx(0.05))
    assert len(group["params"]) == 6
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    assert read_checkpoint(tmp_path / "run.ckpt")["hwaware"]["ranges"] == found
    _, network = load_weights(make(hardware=_hardware(**BOTH)), tmp_path / "run.ckpt")
    assert Measured.of(network).ranges == found


def test_a_run_goes_on_bit_for_bit(tmp_path):
    def run():
        return _task(range_learning=RangeLearning(decay=0.1))

    whole, half = run(), run()
    fit(whole, max_epochs=2)
    fit(half).save_checkpoint(tmp_path / "half.ckpt")
    rest = run()
    fit(rest, max_epochs=2, ckpt_path=tmp_path / "half.ckpt")
    assert Measured.of(rest.network).ranges == Measured.of(whole.network).ranges
    for name, value in whole.network.state_dict().items():
        assert value.equal(rest.network.state_dict()[name])


def test_bad_input():
    with pytest.raises(UserError, match=r"rate=0.0 must be above 0"):
        RangeLearning(rate=0.0)
    with pytest.raises(UserError, match=r"decay=-1 must be 0 or more"):
        RangeLearning(decay=-1)
    with pytest.raises(UserError, match="range_learning needs converters with dac_bits or adc_bits"):
        make(hardware=HardwareOptions({"name": "reram_cmo"}), range_learning=RangeLearning())
    with pytest.raises(UserError, match="range_learning needs a network in memory cells"):
        make(hardware=None, range_learning=RangeLearning())
