"""CIFAR ResNets: shapes, the public checkpoints, and how timm's users handle them."""

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors import safe_open

import hwaware.models
from hwaware.models.cifar_resnet import shortcut_option_a

NAMES = {"resnet20_cifar": 20, "resnet32_cifar": 32, "resnet56_cifar": 56}


@pytest.mark.parametrize(("name", "depth"), NAMES.items())
def test_depth_and_size(name, depth):
    model = timm.create_model(name)
    weighted = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(weighted) == depth  # 6n + 2, none in the shortcuts
    # He et al. 2016, table 6: 0.27 M, 0.46 M, 0.85 M
    millions = {20: 0.27, 32: 0.46, 56: 0.85}[depth]
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_keys_are_those_of_the_public_checkpoints(shared_dir):
    with safe_open(shared_dir / "data/weights/resnet56_cifar10.safetensors", "pt") as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
    own = timm.create_model("resnet56_cifar").state_dict()
    assert shapes == {k: tuple(v.shape) for k, v in own.items() if "num_batches_tracked" not in k}


def test_shortcut_takes_every_second_pixel_and_adds_zero_channels():
    x = torch.randn(2, 16, 5, 6)
    y = shortcut_option_a(x, 32, stride=2)
    assert y.shape == (2, 32, 3, 3)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any() and not y[:, 24:].any()
    assert torch.equal(shortcut_option_a(x, 16, stride=1), x)


def test_data_config():
    config = timm.data.resolve_model_data_config(timm.create_model("resnet20_cifar"))
    assert config["input_size"] == (3, 32, 32) and config["crop_pct"] == 1.0
    assert config["mean"] == (0.485, 0.456, 0.406) and config["std"] == (0.229, 0.224, 0.225)


def test_timm_interface():
    model = timm.create_model("resnet20_cifar", num_classes=7, in_chans=1).eval()
    x = torch.randn(2, 1, 32, 32)
    features = model.forward_features(x)
    assert features.shape == (2, 64, 8, 8)
    pooled = model.forward_head(features, pre_logits=True)
    assert torch.equal(pooled, features.mean((2, 3)))
    assert torch.equal(model(x), F.linear(pooled, model.linear.weight, model.linear.bias))
    assert model.get_classifier() is model.linear and model.num_classes == 7

    model.reset_classifier(3)
    assert model(x).shape == (2, 3)
    model.reset_classifier(0)
    assert torch.equal(model(x), pooled)
    model.reset_classifier(0, global_pool="")
    assert torch.equal(model(x), features)
    with pytest.raises(ValueError, match="num_classes=0"):
        model.reset_classifier(3)


def test_features_only():
    x = torch.randn(1, 3, 32, 32)
    torch.manual_seed(2)
    model = timm.create_model("resnet20_cifar").eval()
    torch.manual_seed(2)
    maps = timm.create_model("resnet20_cifar", features_only=True).eval()(x)
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]
    assert torch.equal(maps[-1], model.forward_features(x))


def test_pretrained_from_a_file(shared_dir):
    file = str(shared_dir / "data/weights/resnet20_cifar10.safetensors")
    overlay = dict(file=file)
    model = timm.create_model("resnet20_cifar", pretrained=True, pretrained_cfg_overlay=overlay)
    with safe_open(file, "pt") as tensors:
        assert torch.equal(model.linear.weight, tensors.get_tensor("linear.weight"))
    grey = timm.create_model(
        "resnet20_cifar", pretrained=True, pretrained_cfg_overlay=overlay, in_chans=1, num_classes=5
    )
    assert torch.allclose(grey.conv1.weight, model.conv1.weight.sum(1, keepdim=True))  # timm adapts the first layer
    assert grey.linear.out_features == 5


def test_accuracy_of_the_public_weights(shared_dir):
    """915 of the first 1,000 test images; all 10,000 give 91.73 %, as published (checked by hand, 17 s)."""
    from hwaware.data.sources import ParquetImages
    from hwaware.data.transforms import eval_transform

    model = hwaware.models.build_model(
        "resnet20_cifar", weights=str(shared_dir / "data/weights/resnet20_cifar10.safetensors")
    ).eval()
    images = ParquetImages([shared_dir / "data/cifar10/test.parquet"])
    transform = eval_transform(timm.data.resolve_model_data_config(model))
    x = torch.stack([transform(images.rgb(i)) for i in range(1000)])
    with torch.inference_mode():
        answers = torch.cat([model(part).argmax(1) for part in x.split(250)])
    assert int((answers == torch.from_numpy(images.labels[:1000])).sum()) == 915
