"""Mixtures of experts as transformers has them: every expert's matrices in cells."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hwaware.chip import CHIP_SEED_START, Chip
from hwaware.export.bundle import read_bundle, write_bundle
from hwaware.hardware import load_hardware
from hwaware.nn import analog_layers, convert, effective_state_dict, to_digital
from hwaware.training import TrainingNoise, install_noise

mixtral = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")

DEVICE = load_hardware("reram_cmo")


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        config = mixtral.MixtralConfig(
            hidden_size=6,
            intermediate_size=5,
            num_local_experts=4,
            num_experts_per_tok=2,
            experts_implementation="eager",
        )
        self.gate, self.experts = mixtral.MixtralTopKRouter(config), mixtral.MixtralExperts(config)
        for parameter in self.parameters():  # transformers leaves memory as it is
            nn.init.zeros_(parameter)

    def forward(self, x):
        _, scores, indices = self.gate(x)
        return self.experts(x, indices, scores)


def _made():
    torch.manual_seed(0)
    digital = Mixture().eval()
    for parameter in digital.parameters():
        nn.init.normal_(parameter)
    model = copy.deepcopy(digital)
    report = convert(model, DEVICE)
    assert len(report.layers) == 1 + 2 * 4 and not report.passed_over
    return digital, model, torch.randn(16, 6)


def test_the_function_is_kept_and_comes_back():
    digital, model, x = _made()
    wanted = digital(x)
    torch.testing.assert_close(model(x), wanted, rtol=1e-3, atol=1e-4)
    assert model.experts.gate_up_2.rows_shape == (10, 6) and model.experts.down_2.rows_shape == (6, 5)
    assert list(model.state_dict()) == list(digital.state_dict())
    fresh = Mixture().eval()
    fresh.load_state_dict(effective_state_dict(model))
    torch.testing.assert_close(fresh(x), wanted, rtol=1e-3, atol=1e-4)
    to_digital(model)
    assert type(model.experts) is mixtral.MixtralExperts and list(model.experts._modules) == ["act_fn"]
    torch.testing.assert_close(model(x), wanted, rtol=1e-3, atol=1e-4)


def test_chips_noise_and_bundles(tmp_path):
    digital, model, x = _made()
    chip = Chip.program(model, CHIP_SEED_START)
    with chip.at(315_360_000.0), torch.no_grad():
        aged = model(x)
        assert not torch.allclose(aged, digital(x), atol=1e-2)
    one, other = (chip.weight_at(f"experts.down_{index}", 3600.0) for index in (0, 1))
    assert not torch.allclose(one, other) and {target.owner for target in chip.targets.values()} == set(chip.targets)
    bundle, back = read_bundle(write_bundle(tmp_path / "bundle", model, "mixture")), Mixture().eval()
    bundle.install(back)
    with Chip.program(back, CHIP_SEED_START).at(315_360_000.0), torch.no_grad():
        torch.testing.assert_close(back(x), aged, rtol=1e-2, atol=1e-2)
    install_noise(model.train(), TrainingNoise())
    assert not torch.equal(model(x), model(x))
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.flatten(1).any(1).all() for p in model.parameters())


def test_an_expert_without_tokens_is_no_error():
    _, model, x = _made()
    with Chip.program(model, CHIP_SEED_START).at(1.0), torch.no_grad():
        model(x[:1])
    assert len(analog_layers(model)) == 9
