"""A network's further arguments in timm, and what they make of its inputs."""

from __future__ import annotations

import re

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import tests.tiny  # noqa: F401 - registers the tiny network
from hwaware.data import ImageData
from hwaware.data.transforms import eval_transform
from hwaware.errors import UserError
from hwaware.tasks import ImageClassification
from tests.command_line import pretrained_weights


def task_of(name: str, **options) -> ImageClassification:
    return ImageClassification(name, num_classes=10, **options)


def test_size_and_channels_reach_network_and_data():
    task = task_of("vit_tiny_patch16_224", kwargs={"img_size": 32, "in_chans": 1, "drop_path_rate": 0.2})
    assert task.network.patch_embed.img_size == (32, 32)
    assert task.network.blocks[-1].drop_path1.drop_prob == pytest.approx(0.2)
    data = ImageData("digits")
    data.inputs = task.inputs
    data.setup("validate")
    (x, _) = next(iter(data.val_dataloader()))
    assert x.shape[1:] == (1, 32, 32)
    assert task.network.eval()(x).shape == (len(x), 10)


def test_grey_is_normalised_by_the_mean_over_colours():
    data = ImageData("digits", mean=[0.1, 0.2, 0.3], std=0.5)
    data.inputs = task_of("tiny_test_net").inputs
    data._read_inputs()
    assert data.inputs.data_config["mean"] == (0.1, 0.2, 0.3) and data.inputs.data_config["std"] == (0.5,) * 3
    data.preprocessing = ImageData("digits").preprocessing
    data.inputs = task_of("resnet18", kwargs={"in_chans": 1}).inputs
    data._read_inputs()
    assert data.inputs.data_config["mean"] == pytest.approx((sum((0.485, 0.456, 0.406)) / 3,))


def test_own_preprocessing_gives_these_pixels():
    data = ImageData("digits", mean=0.25, std=[0.5, 0.25, 1.0], crop_pct=1.0, interpolation="nearest", image_size=16)
    data.inputs = task_of("tiny_test_net").inputs
    data._read_inputs()
    grey = Image.new("RGB", (8, 8), (51, 102, 204))
    x = eval_transform(data.inputs.data_config)(grey)
    assert x.shape == (3, 16, 16)
    expected = torch.tensor([(0.2 - 0.25) / 0.5, (0.4 - 0.25) / 0.25, 0.8 - 0.25])
    torch.testing.assert_close(x[:, 5, 5], expected, rtol=0, atol=1e-6)


def test_weights_of_coloured_images_for_grey_ones(tmp_path):
    """The sum over colours, so that a grey image gives what the same values in all colours gave."""
    network = timm.create_model("tiny_test_net")
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    with pytest.warns(UserWarning, match="is for images of 3 channels, the network for 1: conv1.weight is their sum"):
        task = task_of("tiny_test_net", weights=str(tmp_path / "w.safetensors"), kwargs={"in_chans": 1})
    grey = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(task.network.eval()(grey), network.eval()(grey.expand(-1, 3, -1, -1)))


def test_a_pushed_folder_says_how_the_network_was_made(tmp_path):
    from hwaware.export.hub import from_pretrained, save_pretrained
    from hwaware.hardware import HardwareOptions

    made = task_of("vit_tiny_patch16_224", kwargs={"img_size": 32, "depth": 2})
    hardware = task_of("tiny_test_net", hardware=HardwareOptions({"name": "reram_cmo"})).hardware_plain
    folder = save_pretrained(tmp_path / "pushed", made.network, made.name, hardware)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(from_pretrained(folder)(x), made.network.eval()(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "kwargs", "reason"),
    [
        (
            "tiny_test_net",
            {"in_chan": 1},
            "tiny_test_net does not take the argument 'in_chan'. Did you mean 'in_chans'",
        ),
        ("vit_tiny_patch16_224", {"drop_path": 0.1}, "the argument 'drop_path'. Did you mean 'drop_path_rate'"),
        ("resnet18", {"num_classes": 3}, "model.kwargs.num_classes: set model.num_classes instead."),
        ("resnet18", {"checkpoint_path": "a.pth"}, "model.kwargs.checkpoint_path: set model.weights instead."),
        (
            "vit_tiny_patch16_224",
            {"img_size": -3},
            "vit_tiny_patch16_224 does not take these arguments (img_size=-3): ",
        ),
    ],
)
def test_wrong_arguments(name, kwargs, reason):
    with pytest.raises(UserError, match=re.escape(reason)):
        task_of(name, kwargs=kwargs)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"mean": [123.675, 116.28, 103.53]},
            "data.mean=123.675 must lie in [0, 1], as pixels do. 123.675 of bytes is 0.485.",
        ),
        ({"std": 0.0}, "data.std=0.0 must lie in (0, 1], as pixels do."),
        ({"crop_pct": 87.5}, "data.crop_pct=87.5 must lie in (0, 1]; 0.875 and 1 are usual."),
        ({"interpolation": "bicubik"}, "data.interpolation 'bicubik' is unknown. Did you mean 'bicubic'?"),
        ({"image_size": [1, 2, 3]}, "data.image_size=[1, 2, 3] must be a side in pixels"),
        ({"mean": [0.5, 0.5]}, "data.mean has 2 values, and the network 3 channels."),
        ({"image_size": 96}, "data.image_size=96: the network takes images of 32 × 32 alone; model.kwargs.img_size 96"),
    ],
)
def test_wrong_preprocessing(options, reason):
    inputs = task_of("vit_tiny_patch16_224", kwargs={"img_size": 32, "depth": 1}).inputs
    with pytest.raises(UserError, match=re.escape(reason)):
        data = ImageData("digits", **options)
        data.inputs = inputs
        data.setup()


def test_more_channels_than_images_have():
    data = ImageData("digits")
    data.inputs = task_of("tiny_test_net", kwargs={"in_chans": 4}).inputs
    with pytest.raises(UserError, match="the network takes 4 channels, and images have 3, or 1: set model"):
        data.setup()


def test_a_network_that_names_no_size():
    task = task_of("tiny_test_net", weights=str(pretrained_weights()))
    task.network.pretrained_cfg = {"num_classes": 10}
    data = ImageData("digits")
    data.inputs = task.inputs
    with pytest.warns(UserWarning, match=r"names no size of its images: they are brought to 224 × 224.*image_size"):
        data._read_inputs()
    data = ImageData("digits", image_size=8)
    data.inputs = task.inputs
    data._read_inputs()
    assert data.inputs.data_config["input_size"] == (3, 8, 8)
