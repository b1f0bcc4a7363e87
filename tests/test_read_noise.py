"""Read noise of each product, against the weights of many readings."""

import pytest
import torch
from torch import nn

import hwaware.chip as chip_module
from hwaware.chip import Chip
from hwaware.errors import UserError
from hwaware.hardware import Converters, Ranges, Wires, load_hardware
from hwaware.nn import convert

MONTH_S = 2592000.0


def _network(read_noise, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 8)).eval()
    convert(model, load_hardware("pcm", read_noise=read_noise, rows=16, **settings))
    return model


@pytest.mark.parametrize("mapping", ["differential", "offset_reference"])
@pytest.mark.parametrize("settings", [{}, {"parallel": 4}, {"kappa": None}])
def test_the_variance_of_a_product_is_that_of_many_readings(mapping, settings):
    chip = Chip.program(_network("reading", mapping=mapping, **settings), seed=5)
    readings = torch.stack([chip.weight_at("0", MONTH_S, f"reading {k}") for k in range(400)])
    product = Chip.program(_network("product", mapping=mapping, **settings), seed=5)
    expected = product.read_variance_at("0", MONTH_S)
    assert readings.var(0).mean().item() == pytest.approx(expected.mean().item(), rel=0.05)
    still = product.weight_at("0", MONTH_S)
    assert torch.equal(still, product.weight_at("0", MONTH_S, "another"))
    # Cells whose noise would carry them over the window's end are cut off there in a reading, and here are not.
    assert (readings.mean(0) - still).abs().mean() < 0.2 * expected.sqrt().mean()


@pytest.mark.parametrize("converters", [None, Converters(adc_bits=16)])
def test_every_product_draws_its_own(converters):
    model = _network("product", converters=converters)
    model[0].ranges = Ranges(10.0, 20.0)
    chip = Chip.program(model, seed=5)
    x = torch.randn(40).expand(4000, 40)
    with chip.at(MONTH_S), torch.no_grad():
        y = model(x)
    variance = chip.read_variance_at("0", MONTH_S) @ x[0].square()
    torch.testing.assert_close(y.var(0), variance, rtol=0.15, atol=1e-6)
    mean = nn.functional.linear(x[0], chip.weight_at("0", MONTH_S), model[0].bias)
    torch.testing.assert_close(y.mean(0), mean, atol=0.01, rtol=0)
    with chip.at(MONTH_S), torch.no_grad():
        assert torch.equal(y, model(x))  # from the chip, the age and the purpose alone
    with chip.at(0.0), torch.no_grad():
        assert (model(x).std(0) < 1e-5).all()


def test_bad_input():
    with pytest.raises(UserError, match=r"read_noise 'products' is unknown\. Did you mean 'product'"):
        load_hardware("pcm", read_noise="products")


@pytest.mark.parametrize("read_noise", ["reading", "product"])
@pytest.mark.parametrize("settings", [{"mapping": "bit_sliced"}, {"mapping": "offset_reference", "parallel": 2}])
def test_cells_age_once_for_all_that_a_layer_needs(read_noise, settings, monkeypatch):
    settings |= {"converters": Converters(adc_bits=8), "wires": Wires(segment_ohm=1.0), "kappa": None}
    model = _network(read_noise, **settings)
    model[0].ranges = Ranges(10.0, 20.0)
    chip, layer, aged = Chip.program(model, seed=5), model[0], []
    whole = chip_module._age

    def counted(hardware, die, target_us, *rest):
        aged.append(target_us.numel())
        return whole(hardware, die, target_us, *rest)

    monkeypatch.setattr(chip_module, "_age", counted)
    with chip.at(MONTH_S):
        assert sum(aged) == layer.n_cells
        assert torch.equal(layer._installed, chip.weight_at("0", MONTH_S))
        if read_noise == "product":
            assert torch.equal(layer._read_noise.variance, chip.read_variance_at("0", MONTH_S))
        if settings["mapping"] == "bit_sliced":
            assert all(map(torch.equal, layer._digits, chip.digits_at("0", MONTH_S)))
        assert (layer._read_noise is not None, layer._digits is not None) == (
            read_noise == "product",
            settings["mapping"] == "bit_sliced",
        )
