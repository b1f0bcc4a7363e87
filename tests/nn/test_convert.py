import copy
import io

import pytest
import timm
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from hwaware.errors import UserError
from hwaware.hardware import Placement, Rule, load_hardware
from hwaware.nn import (
    AnalogLayer,
    AnalogLinear,
    analog_layers,
    convert,
    effective_state_dict,
    main_hardware,
    to_digital,
)
from hwaware.training import TrainingNoise, install_noise
from tests.placing import without

DEVICE = load_hardware("reram_cmo")
IMAGES = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(1))


def _conv(**options):
    return nn.Conv2d(4, 8, 3, **options)


LAYERS = {
    "plain": lambda: _conv(),
    "strided": lambda: _conv(stride=2, padding=1),
    "depthwise": lambda: _conv(groups=4),
    "grouped": lambda: _conv(groups=2, bias=False),
    "same": lambda: _conv(padding="same"),
    "reflect": lambda: _conv(padding=1, padding_mode="reflect"),
    "circular": lambda: _conv(padding=(1, 2), padding_mode="circular"),
    "dilated": lambda: _conv(dilation=2),
    "timm_same_strided": lambda: timm.layers.Conv2dSame(4, 8, 3, stride=2),
    "timm_same_depthwise": lambda: timm.layers.Conv2dSame(4, 8, 5, stride=2, groups=4, bias=False),
    "linear": lambda: nn.Linear(9, 5),
    "timm_linear": lambda: timm.layers.Linear(9, 5),
}


@pytest.mark.parametrize("scale", ["tensor", "channel"])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_function_is_kept_and_comes_back(kind, scale):
    model = nn.Sequential(LAYERS[kind]())
    digital = copy.deepcopy(model)
    convert(model, load_hardware("reram_cmo", scale=scale))
    assert isinstance(model[0], AnalogLayer) and isinstance(model[0], type(digital[0]))
    assert not torch.equal(model[0].weight, digital[0].weight)  # latents are not the weights
    torch.testing.assert_close(model(IMAGES), digital(IMAGES), rtol=1e-4, atol=1e-6)
    to_digital(model)
    assert type(model[0]) is type(digital[0]) and set(vars(model[0])) == set(vars(digital[0]))
    torch.testing.assert_close(model[0].weight, digital[0].weight, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_chip_s_weights_are_what_multiplies(kind):
    """Twice the weights, twice the output: no analog class falls back to the parameter."""
    model = nn.Sequential(LAYERS[kind]())
    convert(model, DEVICE)
    model[0].bias = None
    before = model(IMAGES)
    model[0]._installed = 2 * model[0].effective_weight()
    torch.testing.assert_close(model(IMAGES), 2 * before, rtol=1e-4, atol=1e-5)


def test_uncorrected_leaves_weights_and_distorts_the_function():
    model = nn.Sequential(nn.Linear(9, 5))
    digital = copy.deepcopy(model)
    convert(model, DEVICE, corrected=False)
    assert torch.equal(model[0].weight, digital[0].weight)
    weight, scale = digital[0].weight.detach(), digital[0].weight.detach().abs().max()
    expected = scale * torch.sinh(2 * weight / scale) / torch.sinh(torch.tensor(2.0))
    torch.testing.assert_close(model[0].effective_weight(), expected)


def test_a_linear_cell_changes_nothing():
    model = nn.Sequential(nn.Linear(9, 5))
    weight = model[0].weight.detach().clone()
    convert(model, load_hardware("reram_cmo", kappa=None))
    assert torch.equal(model[0].weight, weight) and torch.equal(model[0].effective_weight(), weight)


def test_keys_equal_the_digital_model_s_both_ways():
    digital = timm.create_model("mobilenetv3_small_050", num_classes=10)
    model = copy.deepcopy(digital)
    convert(model, DEVICE)
    assert list(model.state_dict()) == list(digital.state_dict())
    model.load_state_dict(digital.state_dict())
    digital.load_state_dict(model.state_dict())


def test_effective_state_dict_is_what_the_plain_network_loads():
    digital = timm.create_model("vit_tiny_patch16_224", num_classes=7, img_size=32, depth=2).eval()
    model = copy.deepcopy(digital)
    convert(model, DEVICE)
    with torch.no_grad():
        for layer in analog_layers(model).values():
            layer.weight.mul_(1.1)
    fresh = copy.deepcopy(digital)
    fresh.load_state_dict(effective_state_dict(model))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(fresh(images), model.eval()(images), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(fresh(images), digital(images), atol=1e-4)


def test_tied_weights_stay_tied_and_are_converted_once():
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].weight = model[0].weight
    x = torch.randn(3, 6)
    before = model(x)
    report = convert(model, DEVICE)
    assert model[1].weight is model[0].weight
    assert report.n_weights == 36 and len(report.layers) == 1
    torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(to_digital(model)(x), before, rtol=1e-4, atol=1e-6)
    assert model[1].weight is model[0].weight


def test_a_module_used_twice_is_converted_once():
    layer = nn.Linear(6, 6)
    model = nn.ModuleDict({"a": layer, "b": layer})
    weight = layer.weight.detach().clone()
    report = convert(model, DEVICE)
    assert len(report.layers) == 1 and model["a"] is model["b"]
    torch.testing.assert_close(model["b"].effective_weight(), weight)
    state = effective_state_dict(model)
    torch.testing.assert_close(state["b.weight"], weight)
    torch.testing.assert_close(state["a.weight"], weight)


def test_state_of_the_layer_is_kept():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).double()).eval()
    model[0].weight.requires_grad_(False)
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append("after"))
    model[0].register_forward_pre_hook(lambda *_: calls.append("before"))
    parameter = model[0].weight
    convert(model, DEVICE)
    assert model[0].weight is parameter and not parameter.requires_grad
    assert not model[0].training and model[1].weight.dtype == torch.float64
    model[0](torch.randn(1, 4))
    assert calls == ["before", "after"]
    assert model[1](torch.randn(1, 4).double()).dtype == torch.float64


def test_channels_are_found_with_and_without_a_batch():
    layer = nn.Conv2d(3, 6, 3)
    convert(nn.Sequential(layer), DEVICE)
    batch = torch.randn(2, 3, 8, 8)  # as many rows of output as channels
    assert torch.equal(layer.with_bias(torch.zeros(6, 6, 6)), layer.with_bias(torch.zeros(2, 6, 6, 6))[0])
    torch.testing.assert_close(layer(batch[0]), layer(batch)[0])


def test_patterns():
    def network():
        return nn.ModuleDict({"stem": nn.Conv2d(3, 4, 3), "block": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))})

    model = network()
    convert(model, without(DEVICE, "stem"))
    assert list(analog_layers(model)) == ["block.0", "block.1"]
    model = network()
    convert(model, Placement(None, (Rule(("block",), DEVICE),), digital=("*.1",)))
    assert list(analog_layers(model)) == ["block.0"]
    for placement in (Placement(None, (Rule(("blok",), DEVICE),)), without(DEVICE, "blok")):
        with pytest.raises(UserError, match=r"hardware.layers: 'blok' matches no layer. Did you mean 'block'"):
            convert(network(), placement)
    with pytest.raises(UserError, match="no layer to convert"):
        convert(nn.Sequential(nn.ReLU()), DEVICE)
    with pytest.raises(UserError, match="analog already"):
        convert(model, DEVICE)


def test_report_counts_weights_and_cells():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    report = convert(model, load_hardware("reram_cmo", mapping="differential"))
    assert [(row.name, row.shape, row.n_cells) for row in report.layers] == [
        ("0", (4, 3, 3, 3), 216),
        ("3", (2, 4), 16),
    ]
    assert (report.n_weights, report.n_cells, report.n_digital_parameters) == (116, 232, 4 + 8 + 2)
    assert "232 cells of reram_cmo (differential)" in str(report)
    single = nn.Sequential(nn.Linear(4, 2))
    assert convert(single, load_hardware("reram_cmo", mapping="offset")).n_cells == 8


def test_what_a_fixed_scale_clips_is_reported():
    device = load_hardware("diware2023")
    model = nn.Linear(4, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.5, -2.5, -2.0, 1.0]]))
    report = convert(nn.Sequential(model), device)
    assert report.n_clipped == report.layers[0].n_clipped == 2
    assert "2 weights outside the fixed scale of ±2 were clipped" in str(report)
    assert "clipped" not in str(convert(nn.Sequential(nn.Linear(4, 1)), device))
    assert convert(nn.Sequential(nn.Linear(4, 1, device="meta")), device).n_clipped == 0


def test_reference_columns_are_counted():
    """One per array of 512 columns, of which it is one, as long as the array has rows; small groups share it."""
    device = load_hardware("reram_cmo", mapping="offset_reference")
    for layer, cells in (
        (nn.Linear(4, 2), 8 + 4),
        (nn.Linear(4, 513), 4 * 513 + 2 * 4),
        (nn.Linear(1025, 511), 1025 * 512),
        (nn.Conv2d(6, 6, 3, groups=6), 2 * 6 * 9),
    ):
        assert convert(nn.Sequential(layer), device).n_cells == cells


def test_smaller_crossbars_have_more_reference_columns():
    device = load_hardware("reram_cmo", mapping="offset_reference", columns=128)
    for layer, cells in ((nn.Linear(4, 127), 4 * 128), (nn.Linear(4, 509), 4 * 509 + 5 * 4)):
        assert convert(nn.Sequential(layer), device).n_cells == cells


def _layer_by_layer():
    """A network of three layers: the first on one cell a weight, the last digital."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3))
    single = load_hardware("pcm", mapping="offset", kappa=None, clamp="zero")
    return model, single, Placement(DEVICE, (Rule(("0",), single), Rule(("2",), None)))


def test_each_layer_has_the_hardware_of_its_place():
    model, single, placement = _layer_by_layer()
    digital, x = copy.deepcopy(model), torch.randn(7, 6)
    report = convert(model, placement)
    assert {name: layer.hardware for name, layer in analog_layers(model).items()} == {"0": single, "1": DEVICE}
    assert [(row.name, row.n_cells) for row in report.layers] == [("0", 30), ("1", 40)]
    assert report.n_digital_parameters == 12 + 5 + 4 + 3 and main_hardware(model) == single  # 30 weights against 20
    assert "70 cells of reram_cmo (differential) and pcm (offset)" in str(report)
    assert torch.equal(model[0].weight, digital[0].weight)  # a linear cell needs no correction
    assert not torch.equal(model[1].weight, digital[1].weight)
    torch.testing.assert_close(model(x), digital(x), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(to_digital(model).state_dict(), digital.state_dict())
    assert set(vars(model[0])) == set(vars(digital[0]))


def test_training_noise_is_that_of_each_layer():
    model, _, placement = _layer_by_layer()
    exact = load_hardware("reram_relative", relative_drift=0.0)
    convert(model, Placement(exact, placement.rules))
    install_noise(model.train(), TrainingNoise())
    off = [(model[n].realised_weight() - model[n].effective_weight()).abs().max().item() for n in (0, 1)]
    assert off[0] > 1e-2 > 1e-3 > off[1]  # but for the table's positions


def test_a_layer_of_zeros_stays_finite():
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].weight.data.zero_()
    model[0].weight.data[0, 0] = 0.0
    for scale in ("tensor", "channel"):
        zeros = copy.deepcopy(model)
        convert(zeros, load_hardware("reram_cmo", scale=scale))
        assert torch.equal(zeros[0].effective_weight(), torch.zeros(4, 4))


def test_deepcopy_pickle_and_weights_only():
    model = nn.Sequential(nn.Linear(4, 4))
    convert(model, DEVICE)
    copied = copy.deepcopy(model)
    x = torch.randn(2, 4)
    assert torch.equal(copied(x), model(x)) and copied[0].weight is not model[0].weight
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    copied.load_state_dict(torch.load(buffer, weights_only=True))


def test_bf16_autocast_computes_weights_in_fp32_and_casts_once():
    model = nn.Sequential(nn.Linear(64, 64))
    digital = copy.deepcopy(model)
    convert(model, DEVICE)
    x = torch.randn(4, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model[0].realised_weight().dtype == torch.float32
        got, expected = model(x), digital(x)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, expected, rtol=0.02, atol=0.02)
    got.float().sum().backward()
    assert model[0].weight.grad.dtype == torch.float32


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_activation_checkpointing_recomputes_the_same_noise(use_reentrant):
    def gradients(checkpointed):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh())
        convert(model, DEVICE)
        install_noise(model, TrainingNoise())
        x = torch.randn(4, 16, requires_grad=True)
        torch.manual_seed(5)
        y = checkpoint_sequential(model, 2, x, use_reentrant=use_reentrant) if checkpointed else model(x)
        y.square().sum().backward()
        return [p.grad for p in model.parameters()]

    for plain, recomputed in zip(gradients(False), gradients(True), strict=True):
        assert torch.equal(plain, recomputed)


def test_checkpoint_function_keeps_the_gradient_of_one_layer():
    model = nn.Sequential(nn.Linear(8, 8))
    convert(model, DEVICE)
    x = torch.randn(2, 8)
    checkpoint(model, x, use_reentrant=False).sum().backward()
    assert model[0].weight.grad.abs().sum() > 0


@pytest.mark.slow
def test_torch_compile():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    convert(model, DEVICE)
    compiled = torch.compile(model, backend="aot_eager")
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(compiled(x), model(x))
    install_noise(model, TrainingNoise())
    model.train()
    torch.manual_seed(1)
    expected = model(x)
    torch.manual_seed(1)
    torch.testing.assert_close(compiled(x), expected)
    compiled(x).sum().backward()
    assert model[0].weight.grad.abs().sum() > 0


def test_noise_only_in_training_mode_and_fresh_per_call():
    model = nn.Sequential(nn.Linear(32, 32))
    convert(model, DEVICE)
    assert isinstance(model[0], AnalogLinear)
    exact = model[0].effective_weight()
    install_noise(model, TrainingNoise())
    torch.testing.assert_close(model.eval()[0].realised_weight(), exact, rtol=1e-5, atol=1e-7)
    model.train()
    first, second = model[0].realised_weight(), model[0].realised_weight()
    assert (first - exact).std() > 0.005 * exact.abs().max() and (first - second).std() > 0.005 * exact.abs().max()
