"""A device and a data set of one's own, in one file each, in every command (``examples/`` has the files).

They lie in the working directory, as a user's would, and are named on the command line.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from torch import nn

import hwaware
from hwaware.cli.main import main
from hwaware.results.csv import read_rows
from hwaware.training import RetentionLoss
from tests.command_line import CONF, FINETUNE, ROOT, pretrained_weights, run

# A device whose law is known: constants alone, in YAML.
OWN_CONSTANTS = """\
law: log_time
source: measured in our laboratory
g_min_us: 2
g_max_us: 60
programming_std_offset_us: 0.05
programming_std_slope: 0.01
drift_mean_slope_us: -0.03
drift_std_offset_us: 0.1
drift_std_slope_us: 0.02
encoding: {mapping: offset}
"""

# What the examples have.
OWN_LAW, OWN_IMAGES = ((ROOT / "examples" / f"{name}.py").read_text() for name in ("own_law", "own_data"))

# Any LightningDataModule whose batches the task understands.
OWN_MODULE = '''\
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset


class Dots(LightningDataModule):
    """Images of noise, the brighter ones of class 1.

    Args:
        n: images.
    """

    def __init__(self, n: int = 64):
        super().__init__()
        self.n = n

    def _loader(self):
        labels = torch.arange(self.n) % 2
        images = torch.randn(self.n, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + labels[:, None, None, None]
        return DataLoader(TensorDataset(images, labels), batch_size=16)

    train_dataloader = val_dataloader = test_dataloader = _loader
'''

AGE_S = 315_360_000.0
FEW = ("--trainer.max_steps", 3, "--evaluation.n_chips", 1, "--evaluation.ages_s", f"[0,{AGE_S}]")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def newest_rows(folder):
    return read_rows(max(folder.rglob("rows.csv"), key=lambda path: path.stat().st_mtime))


@pytest.mark.slow
def test_own_constants(here):
    (here / "lab.yaml").write_text(OWN_CONSTANTS)
    # What a recipe says of the encoding would win over the file.
    device = ("--model.hardware.device.name", "lab.yaml", "--model.hardware.encoding.mapping", "offset")
    run("drift", "--config", FINETUNE, "--model.weights", pretrained_weights(), *device, *FEW[2:])
    rows = newest_rows(here)
    assert {(row.device, row.mapping) for row in rows} == {("lab", "offset")} and len(rows) == 2 * 2
    assert json.loads(rows[0].device_params)["drift_mean_slope_us"] == -0.03


@pytest.mark.slow
def test_own_law_through_training_and_chips(here):
    (here / "creep_law.py").write_text(OWN_LAW)
    device = ("--model.hardware.device.name", "creep_law.Creep", "--model.hardware.device.loss_per_decade", 0.02)
    common = ("--config", FINETUNE, "--model.weights", pretrained_weights(), *device, *FEW)
    run("fit", *common)  # noise and retention loss at the law's own moments
    finished = newest_rows(here)
    assert {row.device for row in finished} == {"Creep"} and {row.network for row in finished} == {"base", "finetuned"}
    assert json.loads(finished[0].device_params)["loss_per_decade"] == 0.02
    (weights,) = here.rglob("model.safetensors")
    run("drift", *common, "--recipe", "again", "--weights", weights)
    assert [row.value for row in newest_rows(here)] == [row.value for row in finished]


def test_own_law_in_python(here, monkeypatch):
    """A chip's cells do what the law says; so does the retention loss, which knows its moments in closed form."""
    (here / "creep_python.py").write_text(OWN_LAW)
    monkeypatch.syspath_prepend(here)
    hardware = hwaware.load_hardware("creep_python.Creep", mapping="offset", kappa=None, loss_per_decade=0.02)
    model, device = nn.Sequential(nn.Linear(200, 200)), hardware.device
    hwaware.convert(model, hardware)
    chip = hwaware.Chip.program(model, seed=2_000_000)
    new, old = (chip.conductances_at("0", age_s)[0] for age_s in (0.0, 999.0))
    change = old / new - 1
    inside = new > device.g_min_us * 1.5  # those at the edge are clamped
    assert change[inside].mean().item() == pytest.approx(-0.06, rel=0.02)
    assert change[inside].std().item() == pytest.approx(0.012, rel=0.05)
    hwaware.install_retention(model, RetentionLoss(ages_s=(999.0,)))
    assert 0 < hwaware.retention_loss(model).item() < 1
    bundle = hwaware.hardware.devices.device_to_dict(device)
    assert bundle["law"] == "creep_python.Creep" and hwaware.hardware.devices.device_from_dict(bundle) == device


@pytest.mark.slow
def test_own_images_are_compared_with_repairs(here):
    (here / "stripes.py").write_text(OWN_IMAGES)
    data = (
        "--data",
        "stripes.StripesData",
        "--data.batch_size",
        50,
        "--data.val_rows",
        "[320,400]",
        "--model.num_classes",
        2,
    )
    off = [part for key in ("hardware", "noise", "retention", "clip_alpha") for part in (f"--model.{key}", "null")]
    run("fit", "--config", FINETUNE, *data, *off, "--recipe", "bars", "--data.augment", "crop")
    (weights,) = here.rglob("model.safetensors")
    methods = "[{class_path: Dora}, {class_path: ChannelAffine, init_args: {steps: 2}}]"
    run("compare", "--config", FINETUNE, *data, *FEW[2:], "--model.weights", weights, "--evaluation.methods", methods)
    rows = newest_rows(here)
    assert {row.dataset for row in rows} == {"stripes"} and {row.n_samples for row in rows} == {100}
    assert {row.method for row in rows} == {"none", "dora", "channel_affine"}
    assert rows[0].base_digital > 70


@pytest.mark.slow
def test_own_data_module(here, capsys):
    (here / "dots.py").write_text(OWN_MODULE)
    data = ("--config", FINETUNE, "--data", "dots.Dots", "--data.n", 48, "--model.weights", pretrained_weights())
    run("fit", *data, *FEW)
    assert {(row.dataset, row.n_samples) for row in newest_rows(here)} == {("Dots", 48)}
    assert main([*map(str, ("compare", *data)), "--evaluation.methods", "[{class_path: Dora}]"]) == 2
    assert "Dots has no samples to fit repairs on" in capsys.readouterr().err


@pytest.mark.slow
def test_the_console_script_finds_the_files_as_well(here):
    """Unlike ``python -m``, it does not look in the working directory by itself."""
    (here / "dots_script.py").write_text(OWN_MODULE)
    (here / "creep_script.py").write_text(OWN_LAW)
    options = ["--data", "dots_script.Dots", "--model.hardware.device.name", "creep_script.Creep", "--print_config"]
    code = (
        "import sys; sys.path = [p for p in sys.path if p]; from hwaware.cli.main import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-P", "-c", code, "fit", "--config", str(CONF / "finetune.yaml"), *options]
    done = subprocess.run(
        command, cwd=here, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "dots_script.Dots" in done.stdout


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere_law.Creep", "No module named 'nowhere_law'"),
        ("math.pi", "must be a class derived from hwaware.hardware.Device"),
        ("reram_cmo_acc0.3", "Did you mean 'reram_cmo_acc0.2'?"),
        ("half_law.Haf", "module 'half_law' has no 'Haf'. Did you mean 'Half'?"),
        ("nan_law.Creep", "law of device 'Creep' gives no finite conductance for a cell of 1 µS at age_s="),
        ("half_law.Half", "does not define drift_mean_us, drift_std_us"),
    ],
)
def test_bad_devices(name, reason, here, capsys):
    (here / "half_law.py").write_text(OWN_LAW.replace("class Creep", "class Half").replace("def drift_", "def drift"))
    (here / "nan_law.py").write_text(OWN_LAW.replace("return -self", "return math.nan * self"))
    arguments = ["fit", "--config", FINETUNE, "--model.weights", str(pretrained_weights())]
    assert main([*arguments, "--model.hardware.device.name", name]) == 2
    assert reason in capsys.readouterr().err


def test_a_law_without_finite_conductances_is_refused_by_every_command(here, capsys):
    (here / "no_law.py").write_text(OWN_LAW.replace("return -self", "return math.nan * self"))
    cells = ("--targets", "20", "--times", "3600", "--out", "cells.csv")
    network = ("--config", FINETUNE, "--model.weights", str(pretrained_weights()))
    on_it = ("sensitivity", *network, "--model.hardware.device.name", "no_law.Creep")
    for command in (("device", "simulate", "no_law.Creep", *cells), on_it):
        assert main([*command]) == 2
        assert "law of device 'Creep' gives no finite conductance" in capsys.readouterr().err
    assert not (here / "cells.csv").exists()


def test_a_file_does_not_make_its_law_known(here):
    """A downloaded header may name any module: reading it imports none."""
    (here / "harmful.py").write_text("raise SystemExit")
    sys.path.append(str(here))
    with pytest.raises(hwaware.UserError, match=r"law 'harmful.Law', which is unknown. Import its module first"):
        hwaware.hardware.devices.device_from_dict({"name": "a", "law": "harmful.Law"})
    assert "harmful" not in sys.modules
