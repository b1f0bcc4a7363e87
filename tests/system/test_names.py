import numpy as np
import pytest

from hwaware.cli.main import main
from hwaware.data import ImageData
from hwaware.data.contract import ImageInputs
from hwaware.errors import UserError
from hwaware.hardware import load_hardware
from hwaware.hardware.devices import device_from_dict, device_to_dict
from hwaware.system.names import check_name
from tests.command_line import FINETUNE, pretrained_weights

HARMFUL = [
    *("../up", "/root/x", "a/b", "a\\b", "..", ".", "", "~"),
    *('=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", " =1", "\t=1"),
    *("a|b", "a`b`", "[a](b)", "<b>", "*a*", "a\nb", "a\0b", "\u202eabc", "x" * 101),
]


@pytest.mark.parametrize("name", HARMFUL)
def test_names_that_lead_elsewhere_or_mean_something_are_refused(name):
    with pytest.raises(UserError, match=r"^recipe .* is not a valid name") as refusal:
        check_name(name, "recipe")
    assert "\n" not in str(refusal.value)
    suggested = str(refusal.value).split("'")[-2]
    assert check_name(suggested, "recipe") == suggested


@pytest.mark.parametrize(
    "name", ["reram_cmo_acc0.2", "imagenet_850 (val)", "kd_vat", "größe=3", "a:b", "7", "_x", "x" * 100]
)
def test_usual_names_are_taken(name):
    assert check_name(name, "recipe") == name


@pytest.mark.parametrize("option", ["recipe", "evaluation.finetuned_as", "data.name", "model.hardware.device.name"])
def test_no_command_leaves_its_folder(option, tmp_path, monkeypatch, capsys):
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    (inside / "=up.yaml").write_text("law: log_time_drift\n")
    name = "=up.yaml" if option.endswith("device.name") else "../up"
    arguments = ["drift", "--config", FINETUNE, "--weights", str(pretrained_weights()), f"--{option}", name]
    assert main(arguments) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert [path.name for path in inside.iterdir()] == ["=up.yaml"]
    assert capsys.readouterr().err.count("\n") == 1


def test_a_device_of_a_file_has_a_name():
    plain = device_to_dict(load_hardware("reram_cmo").device)
    with pytest.raises(UserError, match=r"^device '\.\./reram' is not a valid name"):
        device_from_dict({**plain, "name": "../reram"})


def test_classes_are_counted_before_they_are_named():
    data = ImageData(source="digits")
    data.inputs = ImageInputs({"input_size": (3, 8, 8)}, None)
    images = data.origin.splits["train"]()
    images.labels = np.asarray([0, 10**12])
    with pytest.raises(UserError, match="has label 1000000000000; up to 1,000,000 classes"):
        data._check_classes(images, "train")
