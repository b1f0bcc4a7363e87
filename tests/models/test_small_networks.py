"""LeNet-5 and VGG-16 for CIFAR: sizes, shapes, and the way into cells and back."""

import pytest
import timm
import torch

import hwaware.models  # noqa: F401 - registers them
from hwaware import convert, load_hardware
from hwaware.nn import to_digital

SIZES = {"lenet5": 61_706, "vgg16_cifar": 15_249_354, "vgg16_cifar_narrow": 3_816_426}


@pytest.mark.parametrize(("name", "parameters"), SIZES.items())
def test_parameters_and_shapes(name, parameters):
    model = timm.create_model(name).eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    images = torch.randn(2, *model.pretrained_cfg["input_size"])
    features = model.forward_head(model.forward_features(images), pre_logits=True)
    assert features.shape == (2, model.num_features) and model(images).shape == (2, 10)
    model.reset_classifier(3)
    assert model(images).shape == (2, 3)


@pytest.mark.parametrize("name", ["lenet5", "vgg16_cifar_narrow"])
def test_every_layer_goes_into_cells_and_back(name):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5).eval()
    images = torch.randn(2, *model.pretrained_cfg["input_size"])
    before = model(images)
    report = convert(model, load_hardware("reram_cmo", mapping="differential"))
    assert len(report.layers) == {"lenet5": 5, "vgg16_cifar_narrow": 16}[name]
    assert torch.allclose(model(images), before, atol=1e-4)
    assert torch.allclose(to_digital(model)(images), before, atol=1e-4)
