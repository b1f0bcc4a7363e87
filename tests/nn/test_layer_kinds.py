"""Every layer that has a form in cells: function, chips, gradients, repairs, files."""

import copy

import pytest
import timm
import torch
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import nn

from hwaware.chip import CHIP_SEED_START, Chip
from hwaware.compensation import Dora, FitData, RandomSparseAdaptation, ReadVerifyWrite, VeraPlus
from hwaware.compensation.costs import network_size
from hwaware.compensation.methods.dora import _second_moments
from hwaware.errors import UserError
from hwaware.export.bundle import read_bundle, write_bundle
from hwaware.hardware import load_hardware
from hwaware.nn import AnalogLayer, analog_layers, convert, effective_state_dict, to_digital
from hwaware.nn.install import installed_beside
from hwaware.training import RetentionLoss, TrainingNoise, install_noise, install_retention, retention_loss

TEN_YEARS_S = 315_360_000.0


class Padded(nn.Module):
    """A layer, and a linear one on what it gives."""

    def __init__(self, layer, x):
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(layer(x).flatten(1).shape[1], 3)

    def forward(self, x):
        return self.head(self.layer(x).flatten(1))


def _input(*shape):
    return torch.randn(16, *shape, generator=torch.Generator().manual_seed(1))


def _scaled(kind, *about, **options):
    layer = kind(*about, **options)
    nn.init.normal_(layer.gain, 1.0, 0.3)
    return layer


#: A layer, and the shape of its input.
KINDS = {
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), (4, 9)),
    "conv1d_depthwise": (lambda: nn.Conv1d(4, 8, 3, groups=4, padding_mode="circular", padding=1), (4, 9)),
    "conv3d": (lambda: nn.Conv3d(2, 4, (3, 3, 1), padding=(1, 1, 0)), (2, 4, 4, 2)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), (4, 3, 3)),
    "transposed_grouped": (lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2, bias=False), (4, 3, 3)),
    "transposed1d": (lambda: nn.ConvTranspose1d(4, 6, 3, dilation=2), (4, 5)),
    "std": (lambda: StdConv2d(4, 6, 3), (4, 5, 5)),
    "std_same": (lambda: StdConv2dSame(4, 6, 3, stride=2), (4, 5, 5)),
    "scaled_std": (lambda: _scaled(ScaledStdConv2d, 4, 6, 3, groups=2), (4, 5, 5)),
    "scaled_std_same": (lambda: _scaled(ScaledStdConv2dSame, 4, 6, 3, stride=2, gamma=1.7), (4, 5, 5)),
}

every_kind = pytest.mark.parametrize("kind", KINDS)


def _made(kind, **options):
    """A network with such a layer: digital and converted, and an input."""
    torch.manual_seed(0)
    make, shape = KINDS[kind]
    x = _input(*shape)
    digital = Padded(make(), x).eval()
    model = copy.deepcopy(digital)
    report = convert(model, load_hardware("reram_cmo", **options))
    assert {row.name for row in report.layers} == {"layer", "head"} and isinstance(model.layer, AnalogLayer)
    return digital, model, x


@pytest.mark.parametrize("scale", ["tensor", "channel"])
@every_kind
def test_the_function_is_kept_and_comes_back(kind, scale):
    digital, model, x = _made(kind, scale=scale)
    wanted, keys = digital(x), list(digital.state_dict())
    torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-5)
    assert list(model.state_dict()) == keys
    fresh = copy.deepcopy(digital)
    nn.init.zeros_(fresh.layer.weight)
    fresh.load_state_dict(effective_state_dict(model))
    torch.testing.assert_close(fresh(x), wanted, rtol=1e-4, atol=1e-5)
    to_digital(model)
    assert type(model.layer) is type(digital.layer) and set(vars(model.layer)) == set(vars(digital.layer))
    torch.testing.assert_close(model.state_dict(), digital.state_dict(), rtol=1e-4, atol=1e-6)


@every_kind
def test_what_is_installed_is_what_multiplies(kind):
    _, model, x = _made(kind)
    layer = model.layer
    layer.bias = None
    before = layer(x)
    layer._installed = 2 * layer.effective_weight()
    torch.testing.assert_close(layer(x), 2 * before, rtol=1e-4, atol=1e-5)
    outputs = before.shape[1]
    assert layer.rows_shape[0] == outputs and layer.rows_shape[1] * layer.groups == x.shape[1]
    layer._installed = torch.zeros(layer.rows_shape)
    layer._installed[2] = 1
    assert layer(x)[:, 2].abs().sum() > 0 == layer(x)[:, [*range(2), *range(3, outputs)]].abs().sum()


@every_kind
def test_a_bundle_gives_it_back(kind, tmp_path):
    digital, model, x = _made(kind)
    bundle = read_bundle(write_bundle(tmp_path / "bundle", model, "kinds"))
    other = copy.deepcopy(digital)
    nn.init.normal_(other.layer.weight)
    bundle.install(other)
    torch.testing.assert_close(other(x), digital(x), rtol=1e-3, atol=1e-4)
    with Chip.program(model, 3).at(TEN_YEARS_S), Chip.program(other, 3).at(TEN_YEARS_S):
        torch.testing.assert_close(other(x), model(x), rtol=1e-3, atol=1e-3)
    wrong = Padded(nn.Conv2d(4, 6, 1), torch.zeros(1, 4, 5, 5))
    with pytest.raises(UserError, match=r"layer 'layer' has shape .*, the network's \[6, 4, 1, 1\]"):
        bundle.install(wrong)
    assert type(wrong.layer) is nn.Conv2d


def test_no_bundle_gives_back_standardised_weights_of_levels(tmp_path):
    _, model, _ = _made("std", levels=15)
    with pytest.raises(UserError, match=r"layer 'layer' \(StdConv2d\) standardises its weights in every pass, so a"):
        write_bundle(tmp_path / "bundle", model, "kinds")


@every_kind
def test_a_chip_ages_it_and_its_latents_can_be_set(kind):
    digital, model, x = _made(kind, mapping="offset_reference", columns=2)
    chip = Chip.program(model, CHIP_SEED_START)
    with chip.at(TEN_YEARS_S), torch.no_grad():
        aged = model(x)
    assert 0.001 < (aged - digital(x)).norm() / digital(x).norm() < 1
    latent = model.layer.latent().detach().clone()
    model.layer.hold(latent)
    torch.testing.assert_close(model.layer.latent(), latent, rtol=1e-4, atol=1e-5)


@every_kind
def test_training_draws_noise_and_reaches_the_parameters(kind):
    digital, model, x = _made(kind)
    wanted = torch.autograd.grad(digital(x).square().sum(), digital.layer.weight)[0]
    found = torch.autograd.grad(model(x).square().sum(), model.layer.weight)[0]
    exact = wanted if model.layer.is_computed else None
    if exact is not None:  # the parameter is the digital one, so that its gradient is
        torch.testing.assert_close(found, exact, rtol=1e-2, atol=1e-3 * exact.abs().max().item())
    install_noise(model.train(), TrainingNoise())
    install_retention(model, RetentionLoss())
    assert not torch.equal(model.layer.realised_weight(), model.layer.realised_weight())
    (model(x).square().sum() + retention_loss(model)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def _data(model, x):
    with torch.no_grad():
        targets = model(x).detach()

    def training(seed):
        while True:
            yield x, targets

    return FitData(
        training=training,
        calibration=lambda n: (x[:n], targets[:n]),
        loss=lambda network, batch: (network(batch[0]) - batch[1]).square().mean(),
        predict=lambda network, batch: network(batch[0]),
        accuracy=lambda network: 50.0,
        divergence=nn.functional.mse_loss,
    )


METHODS = [VeraPlus(steps=20), RandomSparseAdaptation(share=0.3, mask="error", epochs=0), ReadVerifyWrite(share=0.5)]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@every_kind
def test_repairs_know_it(kind, method):
    """Of a mapping whose weights all fall alike: each of them brings the chip nearer to what it was."""
    _, model, x = _made(kind, mapping="offset")
    data, chip = _data(model, x), Chip.program(model, CHIP_SEED_START)
    if isinstance(method, VeraPlus):
        state = method.fit(model, (TEN_YEARS_S / 10, TEN_YEARS_S), data, 3, {})
    else:
        state = method.fit(chip, TEN_YEARS_S, data)
    batch = next(data.training(0))
    with chip.at(TEN_YEARS_S), torch.no_grad():
        broken = data.loss(model, batch)
        with method.installed(model, state):
            assert data.loss(model, batch) < 0.98 * broken
    size = network_size(model, data.predict, batch)
    assert method.cost(size, 1).bytes_stored > 0 and set(size.layers) == {"layer", "head"}


@every_kind
def test_dora_sees_what_each_weight_is_multiplied_with(kind):
    """With the outputs of other weights as targets, the normal equations hold for these."""
    _, model, x = _made(kind)
    layer = model.layer
    other = torch.randn(layer.rows_shape)
    with torch.no_grad():
        xx, tx, tt = _second_moments(layer, x, layer.with_bias(layer.apply_weight(x, other)))
    rows = other.flatten(1).unflatten(0, (layer.groups, -1))
    torch.testing.assert_close(rows @ xx, tx, rtol=1e-3, atol=1e-3 * tx.abs().max().item())
    torch.testing.assert_close((tx * rows).sum(), tt, rtol=1e-3, atol=0.0)
    chip = Chip.program(model, CHIP_SEED_START)
    state = Dora(images=16, steps=5).fit(chip, TEN_YEARS_S, _data(model, x))
    with chip.at(TEN_YEARS_S), Dora().installed(model, state), torch.no_grad():
        assert model(x).isfinite().all()


@pytest.mark.parametrize("full_kernel", [False, True])
@every_kind
def test_vera_s_gradients_are_those_of_its_branch(kind, full_kernel):
    _, model, x = _made(kind)
    method = VeraPlus(rank=2, full_kernel=full_kernel, bits=16)
    state = {f"{name}/b": torch.randn(layer.rows_shape[0]) for name, layer in analog_layers(model).items()}
    state |= {f"{name}/d": torch.randn(method.rows) for name in analog_layers(model)}
    state = {name: (0.05 * value).requires_grad_() for name, value in state.items()}
    down, up = method._projections(model)["layer"]
    with method.installed(model, state):
        found = torch.autograd.grad(model(x).square().sum(), [state["layer/b"], state["layer/d"]])
    matrix = (state["layer/b"][:, None] * up * state["layer/d"]) @ down.flatten(1)
    with method.installed(model, {name: value.detach() for name, value in state.items()}):
        exact = model.layer.realised_weight().detach() - matrix.detach().view(model.layer.rows_shape)
        model.layer._installed = exact + matrix.view(model.layer.rows_shape)
        wanted = torch.autograd.grad(model(x).square().sum(), [state["layer/b"], state["layer/d"]])
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2 * other.abs().max().item())


@every_kind
def test_a_transposed_convolution_s_operations_are_counted_as_it_makes_them(kind):
    _, model, x = _made(kind)
    with torch.no_grad():
        size = network_size(model, lambda network, batch: network(batch[0]), (x, None)).layers["layer"]
    weights, made = model.layer.weight[0, 0].numel(), 0
    if kind.startswith("transposed"):  # each input meets the whole kernel
        made = size.inputs * size.out_channels // size.groups * weights
    else:
        made = size.outputs * size.in_channels * weights
    assert size.macs == made


def test_an_output_size_is_refused_in_a_line():
    _, model, x = _made("transposed")
    with pytest.raises(UserError, match="ConvTranspose2d in cells takes no output_size"):
        model.layer(x, output_size=[6, 6])


def test_standardised_weights_are_always_compensated():
    model = nn.Sequential(StdConv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    with pytest.raises(UserError, match=r"layer '0' \(StdConv2d\): weights that are standardised"):
        convert(model, load_hardware("reram_cmo"), corrected=False)
    assert type(model[0]) is StdConv2d
    convert(model, load_hardware("reram_cmo", kappa=None), corrected=False)


def test_finetuned_standardised_weights_load_into_the_plain_network():
    digital, model, x = _made("scaled_std")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    digital.load_state_dict(effective_state_dict(model))
    torch.testing.assert_close(digital(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_branch_is_the_same_beside_the_cells_and_in_the_weights():
    from hwaware.nn import Beside

    for kind in KINDS:
        _, model, x = _made(kind)
        layer = model.layer
        beside = Beside(torch.randn(layer.rows_shape).flatten(1), torch.rand(layer.rows_shape[0]))
        with installed_beside(model, lambda name, one, beside=beside: beside if name == "layer" else Beside()):
            wanted = layer(x)
        plain = layer.with_bias(beside.on_output(layer, x, layer.without_bias(layer(x))))
        torch.testing.assert_close(plain, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["test_nfnet", "resnetv2_50x1_bit"])
def test_networks_of_standardised_layers_convert(name):
    torch.manual_seed(0)
    if name == "resnetv2_50x1_bit":
        model = timm.models.resnetv2.ResNetV2(
            [1, 1], channels=(128, 256), num_classes=4, conv_layer=StdConv2d, stem_chs=32
        )
    else:
        model = timm.create_model(name, num_classes=4)
    model.eval()
    digital, images = copy.deepcopy(model), torch.randn(2, 3, 64, 64)
    convert(model, load_hardware("reram_cmo"))
    assert len(analog_layers(model)) == sum(isinstance(m, nn.Conv2d | nn.Linear) for m in digital.modules())
    torch.testing.assert_close(model(images), digital(images), rtol=1e-3, atol=1e-4)
