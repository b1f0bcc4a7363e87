import pytest
import torch
from torch import nn

from hwaware.chip import Chip
from hwaware.compensation import Dora
from hwaware.compensation.methods.dora import _norms, _second_moments
from hwaware.hardware import load_hardware
from hwaware.nn import convert


@pytest.mark.parametrize("layer", [nn.Linear(6, 5), nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(3, 5, 3, bias=False)])
def test_is_pefts_dora(layer):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model = nn.Sequential(layer).eval()
    x = torch.randn(2, 6) if isinstance(layer, nn.Linear) else torch.randn(2, 3, 8, 8)
    wrapped = nn.Sequential(type(layer)(6, 5) if isinstance(layer, nn.Linear) else _same(layer))
    wrapped.load_state_dict(model.state_dict())
    dora = peft.get_peft_model(wrapped, peft.LoraConfig(r=2, lora_alpha=2, use_dora=True, target_modules=["0"])).eval()
    inner = dora.base_model.model.get_submodule("0")
    a = torch.randn_like(inner.lora_A["default"].weight) * 0.3
    b = torch.randn_like(inner.lora_B["default"].weight) * 0.3
    inner.lora_A["default"].weight.data, inner.lora_B["default"].weight.data = a, b
    magnitude = inner.lora_magnitude_vector["default"].weight.detach().flatten() * 1.1
    inner.lora_magnitude_vector["default"].weight.data *= 1.1

    convert(model, load_hardware("reram_cmo", kappa=None))
    b = b.flatten(1)
    norms = _norms(model[0].weight + (b @ a.flatten(1)).view_as(model[0].weight))
    state = {"0/scale": magnitude / norms, "0/a": a, "0/b": b}
    with torch.no_grad(), Dora().installed(model, state):
        torch.testing.assert_close(model(x), dora(x), rtol=1e-4, atol=1e-5)


def _same(layer):
    return nn.Conv2d(3, 5, 3, padding=layer.padding, bias=layer.bias is not None)


def test_more_images_and_rank_repair_more(model, data, error):
    device = load_hardware("reram_relative", mapping="differential", relative_drift=0.3)
    from hwaware.nn import to_digital

    convert(to_digital(model), device)
    chips = [Chip.program(model, seed=2_000_000 + i) for i in range(3)]

    def left(method):
        total = 0.0
        for chip in chips:
            state = method.fit(chip, 1.0, data)
            with chip.at(1.0), method.installed(model, state):
                total += error(model)
        return total

    few, many = left(Dora(images=2, rank=1, steps=60)), left(Dora(images=128, rank=4, steps=60))
    assert many < 0.7 * few


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(6, 8),
        nn.Conv2d(4, 8, 3, stride=2, padding=1),
        nn.Conv2d(4, 8, 3, padding=1, groups=2, padding_mode="reflect"),
        nn.Conv2d(4, 4, (3, 1), padding="same", groups=4, bias=False),
    ],
)
def test_second_moments_give_the_squared_error(layer, monkeypatch):
    """Also where the images are taken in parts: what training would compute from inputs and outputs themselves."""
    monkeypatch.setattr("hwaware.compensation.methods.dora._ELEMENTS", 500)
    torch.manual_seed(0)
    model = nn.Sequential(layer).eval()
    convert(model, load_hardware("reram_cmo", kappa=None))
    layer, x = model[0], torch.randn(5, 7, 6) if isinstance(model[0], nn.Linear) else torch.randn(5, 4, 9, 9)
    with torch.no_grad():
        target, changed = layer(x), 0.7 * layer.weight + 0.1
        wanted = (layer.apply_weight(x, changed, layer.bias) - target).square().sum()
        xx, tx, tt = _second_moments(layer, x, target)
        w = changed.flatten(1).unflatten(0, (len(xx), -1))
        torch.testing.assert_close((w @ xx * w).sum() - 2 * (w * tx).sum() + tt, wanted, rtol=1e-4, atol=1e-3)
