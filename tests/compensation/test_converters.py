"""Repairs of networks behind DACs and ADCs: what is digital stands beside the converters, not behind them."""

import pytest
import torch

from hwaware.chip import Chip, drift_free
from hwaware.compensation import GlobalDriftCompensation, Lora, RandomSparseAdaptation, VeraPlus
from hwaware.compensation.access import on_outputs
from hwaware.hardware import Converters, load_hardware
from hwaware.nn import analog_layers, calibrate, convert
from tests.compensation.conftest import Small
from tests.compensation.test_methods import IDS, METHODS, TEN_YEARS_S, _fit

CONVERTERS = Converters(dac_bits=8, adc_bits=8, output_noise=0.002, samples=64)


@pytest.fixture
def device():
    return load_hardware("reram_cmo", mapping="differential", kappa=None, converters=CONVERTERS)


@pytest.fixture
def model(device):
    torch.manual_seed(0)
    model = Small().eval()
    convert(model, device)
    images = torch.randn(64, 3, 12, 12, generator=torch.Generator().manual_seed(5))
    calibrate(model, lambda network, x: network(x), [images])
    return model


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_repairs_a_chip_with_converters_and_leaves_no_trace(method, data, model, error):
    chip = Chip.program(model, seed=2_000_000)
    images = data.calibration(8)[0]
    with torch.no_grad():
        before = model(images)
    with chip.at(TEN_YEARS_S):
        drifted = error(model)
    state = _fit(method, model, data, chip)
    with chip.at(TEN_YEARS_S), method.installed(model, state):
        assert error(model) < drifted
    with torch.no_grad():
        assert torch.equal(model(images), before)
    assert all(layer._beside is None and layer._output_draws is None for layer in analog_layers(model).values())


@pytest.mark.parametrize("method", [VeraPlus(), GlobalDriftCompensation(), RandomSparseAdaptation(), Lora()])
@torch.no_grad()
def test_the_digital_part_passes_no_converter(method, data, model):
    """The layer's own output, then the digital part on the digital input, computed here from the state."""
    draw = torch.Generator().manual_seed(3)
    state, seen = {}, {}
    layers = analog_layers(model)
    for name, layer in layers.items():
        n, values = layer.weight.shape, layer.weight.numel()
        state |= {f"{name}/b": torch.randn(n[0], generator=draw), f"{name}/d": torch.randn(2, generator=draw)}
        state |= {f"{name}/scale": torch.tensor(1.3), f"{name}/where": torch.arange(0, values, 3)}
        state |= {f"{name}/values": torch.randn(-(-values // 3), generator=draw)}
        if isinstance(method, Lora):
            state |= {f"{name}/a": torch.randn(1, *n[1:], generator=draw), f"{name}/b": torch.randn(n[0], 1)}
            state |= {f"{name}/scale": torch.ones(n[0])}

    def record(name, layer, x, y):
        seen.setdefault(name, (x.clone(), y.clone()))
        return y

    with drift_free(model), method.installed(model, state), on_outputs(model, record):
        model(data.calibration(8)[0])
    for name, layer in layers.items():
        x, y = seen[name]
        with drift_free(model):
            bare = layer(x)
        bias = 0 if layer.bias is None else layer.along_channels(layer.bias, bare)
        if isinstance(method, GlobalDriftCompensation):
            expected = 1.3 * (bare - bias) + bias
        else:
            if isinstance(method, VeraPlus):
                continue  # quantised vectors: only that it is another function than behind the ADC, below
            branch = torch.zeros(layer.weight.numel())
            if isinstance(method, Lora):
                branch = state[f"{name}/b"] @ state[f"{name}/a"].flatten(1)
            else:
                branch[state[f"{name}/where"]] = state[f"{name}/values"]
            expected = bare + layer.apply_weight(x, branch.view_as(layer.weight))
        torch.testing.assert_close(y, expected, atol=1e-4, rtol=1e-4)
    if isinstance(method, VeraPlus):  # beyond the range of the ADC, which the branch is not cut off at
        x, y = seen["stem"]
        assert y.abs().max() > 1.5 * model.stem.ranges.y_max
