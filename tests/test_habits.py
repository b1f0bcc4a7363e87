"""Files, networks and habits of users; each case is a row of results/habits.

``python scripts/habits.py`` makes the table of it. Cases use what has long been there, so that older commits can be
asked as well.
"""

from __future__ import annotations

import argparse
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

import tests.tiny  # noqa: F401 - registers the tiny network
from hwaware.cli.main import main
from hwaware.data import ImageData, ImageInputs
from hwaware.errors import UserError
from hwaware.hardware import load_hardware

Case = Callable[[Path], None]
#: For each case the number of its kind, its words, and the check.
HABITS: dict[str, tuple[int, str, Case]] = {}

RAMP = np.linspace(0, 1, 64).reshape(8, 8)
BYTES = np.round(255 * RAMP).astype(np.uint8)
PLAIN = {"input_size": (3, 8, 8), "interpolation": "nearest", "mean": (0.0,) * 3, "std": (1.0,) * 3, "crop_pct": 1.0}
CONFIG = PLAIN | {"crop_mode": "center"}


def habit(part: int, tried: str) -> Callable[[Case], Case]:
    def add(case: Case) -> Case:
        HABITS[case.__name__.strip("_")] = (part, tried, case)
        return case

    return add


# Images.


def _opened(folder: Path, **options) -> ImageData:
    data = ImageData(path=str(folder), **options)
    data.inputs = ImageInputs(CONFIG)
    data.setup()
    return data


def _seen(folder: Path, image: Image.Image, ending: str, **options) -> np.ndarray:
    """The first channel of an image that a folder has in one format, in [0, 1]."""
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            (folder / split / name).mkdir(parents=True)
            for number in range(6):
                image.save(folder / split / name / f"{number}.{ending}", **options)
    images, _ = next(iter(_opened(folder).test_dataloader()))
    return images[0, 0].numpy()


def _near(found: np.ndarray, wanted: np.ndarray, within: float = 0.01) -> None:
    assert np.abs(found - wanted).max() <= within


@habit(1, "big-endian 16-bit grey TIFF")
def _tiff_big_endian(folder):
    image = Image.frombytes("I;16B", (8, 8), np.round(65535 * RAMP).astype(">u2").tobytes())
    _near(_seen(folder, image, "tif"), RAMP)


@habit(1, "bilevel TIFF, as of a scanner")
def _tiff_bilevel(folder):
    _near(_seen(folder, Image.fromarray(RAMP > 0.5), "tif"), (RAMP > 0.5) * 1.0)


@habit(1, "GIF with a palette of greys in another order")
def _gif(folder):
    image = Image.fromarray(255 - BYTES, "P")
    image.putpalette(np.repeat(np.arange(255, -1, -1), 3).astype(np.uint8).tobytes())
    _near(_seen(folder, image, "gif"), RAMP)


@habit(1, "grey PNG with transparency")
def _png_la(folder):
    image = Image.merge("LA", (Image.fromarray(BYTES), Image.fromarray(255 - BYTES)))
    _near(_seen(folder, image, "png"), RAMP)


@habit(1, "CMYK TIFF, as of a print shop")
def _cmyk(folder):
    _near(_seen(folder, Image.fromarray(np.stack([BYTES] * 3, -1)).convert("CMYK"), "tif"), RAMP)


@habit(1, "photograph held upside down (EXIF 3)")
def _exif(folder):
    exif = Image.Exif()
    exif[0x0112] = 3
    _near(_seen(folder, Image.fromarray(BYTES[::-1, ::-1].copy()), "jpg", exif=exif, quality=100), RAMP, 0.03)


@habit(1, "float TIFF in counts of photons: refused, with its name")
def _counts(folder):
    with pytest.raises(UserError, match="tif"):
        _seen(folder, Image.fromarray((900 * RAMP).astype(np.float32)), "tif")


@habit(18, "a folder with Thumbs.db and a hidden class")
def _hidden(folder):
    (folder / "train" / ".cache").mkdir(parents=True)
    (folder / "train" / ".cache" / "x.png").write_bytes(b"")
    (folder / "train" / ".directory").write_bytes(b"")
    _near(_seen(folder, Image.fromarray(BYTES), "png"), RAMP)
    assert _opened(folder).class_names == ("ant", "bee")


@habit(24, "folders of classes alone, 30 and 6 images")
def _flat(folder):
    for name, count in (("rare", 6), ("usual", 30)):
        (folder / name).mkdir()
        for number in range(count):
            Image.fromarray(BYTES).save(folder / name / f"{number}.png")
    data = _opened(folder)
    assert data.class_names == ("rare", "usual") and data.n_train + data.n_val + data.n_test == 36


# Tables of images.


def _table(folder: Path, image: str, label: str, labels: list, raw: bool = False) -> ImageData:
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    Image.fromarray(BYTES).save(buffer, "png")
    cells = [buffer.getvalue() if raw else {"bytes": buffer.getvalue(), "path": None} for _ in labels]
    for split in ("train", "test"):
        parquet.write_table(pyarrow.table({image: cells, label: labels}), folder / f"{split}.parquet")
    return _opened(folder)


@habit(11, "labels as words with capitals and umlauts")
def _words(folder):
    assert _table(folder, "image", "label", ["Öl", "Wasser"] * 10).class_names == ("Wasser", "Öl")


@habit(11, "labels as true and false")
def _booleans(folder):
    assert _table(folder, "image", "label", [True, False] * 10).num_classes == 2


@habit(11, "a label that is missing in one row: refused in a line")
def _missing(folder):
    with pytest.raises(UserError, match="label"):
        _table(folder, "image", "label", ["a", "b"] * 10 + [None])


@habit(18, "columns jpg and cls, raw bytes, as web data sets have them")
def _columns(folder):
    assert _table(folder, "jpg", "cls", [0, 1] * 10, raw=True).num_classes == 2


@habit(18, "columns picture and target")
def _columns_others(folder):
    assert _table(folder, "picture", "target", [0, 1] * 10).num_classes == 2


# Questions.

TEXT = "The kiln was fired in 1802 by Mo Lee."


def _questions(folder: Path, content: str, name: str = "train.json"):
    from hwaware.data.squad_files import read_questions

    (folder / name).write_text(content, encoding="utf-8")
    return read_questions([folder / name])


def _flat_row(**more) -> dict:
    answers = {"text": ["1802"], "answer_start": [22]}
    return {"id": "a", "title": "Kiln", "context": TEXT, "question": "When?", "answers": answers} | more


@habit(2, 'is_impossible: "no", in a flat column')
def _impossible_no(folder):
    (one,) = _questions(folder, json.dumps([_flat_row(is_impossible="no")]))
    assert one.answers == ("1802",)


@habit(2, "is_impossible: 1, beside a plausible answer")
def _impossible_one(folder):
    (one,) = _questions(folder, json.dumps([_flat_row(is_impossible=1)]))
    assert one.answers == ()


@habit(2, "an answer of spaces alone")
def _spaces(folder):
    (one,) = _questions(folder, json.dumps([_flat_row(answers={"text": ["  "], "answer_start": [0]})]))
    assert one.answers == ()


@habit(17, "an object a line, without titles, answers as objects, starts as text")
def _lines(folder):
    row = _flat_row(answers=[{"text": "Mo Lee", "answer_start": "30"}], id=7)
    del row["title"]
    (one,) = _questions(folder, json.dumps(row) + "\n", "train.jsonl")
    assert (one.answers, one.starts, one.id) == (("Mo Lee",), (30,), "7")


@habit(17, "a start of 22.0, as of a spreadsheet")
def _start(folder):
    (one,) = _questions(folder, json.dumps([_flat_row(answers={"text": ["1802"], "answer_start": [22.0]})]))
    assert one.starts == (22,)


# Checkpoints.


def _network(state: object, folder: Path, **options) -> nn.Module:
    from hwaware.models import build_model

    torch.save(state, folder / "theirs.pt")
    return build_model("tiny_test_net", weights=str(folder / "theirs.pt"), num_classes=10, **options)


def _theirs(shift: float = 0.0) -> dict:
    torch.manual_seed(1)
    state = timm.create_model("tiny_test_net", num_classes=10).state_dict()
    return {key: value + shift if value.is_floating_point() else value for key, value in state.items()}


def _same(network: nn.Module, state: dict) -> None:
    own = network.state_dict()
    assert all(torch.equal(own[key], value) for key, value in state.items() if value.is_floating_point())


@habit(3, "YOLO's habit: model and ema beside one another")
def _ema(folder):
    _same(_network({"model": _theirs(), "model_ema": _theirs(0.5), "epoch": 3}, folder), _theirs(0.5))


@habit(3, "the raw weights by weights_key")
def _raw(folder):
    both = {"state_dict": _theirs(), "state_dict_ema": _theirs(0.5)}
    _same(_network(both, folder, weights_key="state_dict"), _theirs())


@habit(12, "DDP around torch.compile: module._orig_mod.")
def _compiled(folder):
    _same(_network({f"module._orig_mod.{key}": value for key, value in _theirs().items()}, folder), _theirs())


@habit(12, "a Lightning checkpoint whose network is called encoder")
def _encoder(folder):
    state = {f"encoder.{key}": value for key, value in _theirs().items()}
    _same(_network({"state_dict": state, "pytorch-lightning_version": "2.1.0", "global_step": 9}, folder), _theirs())


@habit(16, "argparse's settings and numpy's figures beside the weights")
def _namespace(folder):
    beside = {"args": argparse.Namespace(lr=0.1), "best": np.float64(0.9), "epoch": np.int64(4)}
    _same(_network({"state_dict": _theirs(), **beside}, folder), _theirs())


@habit(19, "a grey network with weights of coloured images")
def _grey(folder):
    from hwaware.models import build_model

    torch.save(timm.create_model("resnet10t", num_classes=5).state_dict(), folder / "rgb.pt")
    network = build_model("resnet10t", weights=str(folder / "rgb.pt"), num_classes=5, in_chans=1)
    assert network.conv1[0].weight.shape[1] == 1


# Training.


@habit(8, "a convolution one of whose channels was pruned to zeros, at ten years")
def _pruned(folder):
    import hwaware
    from hwaware.chip import Chip

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3))
    model[0].weight.data[1], model[0].bias.data[1] = 0.0, 0.0
    hwaware.convert(model, load_hardware("reram_cmo", scale="channel"))
    with torch.no_grad(), Chip.program(model.eval(), 5).at(315360000.0):
        assert model(torch.ones(1, 2, 5, 5))[0, 1].abs().max() == 0


@habit(14, "the retention loss at 1 s, where HfOx's relaxation begins")
def _relaxation(folder):
    import hwaware
    from hwaware.training import RetentionLoss, install_retention, retention_loss

    model = nn.Sequential(nn.Linear(6, 4))
    hwaware.convert(model, load_hardware("reram_wan2022"))
    install_retention(model.train(), RetentionLoss(ages_s=(1.0,)))
    model(torch.randn(2, 6))
    retention_loss(model).backward()
    assert model[0].weight.grad.isfinite().all()


@habit(13, "the retention loss of a network whose first layer is frozen counts the other alone")
def _frozen(folder):
    import hwaware
    from hwaware.training import RetentionLoss, install_retention, retention_loss

    found = []
    for frozen in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
        model[0].weight.data[0, 0] = 9.0  # an outlier, by which this layer's share is another
        hwaware.convert(model, load_hardware("reram_cmo"))
        model[0].weight.requires_grad_(not frozen)
        install_retention(model.train(), RetentionLoss())
        model(torch.randn(2, 8))
        found.append(retention_loss(model).item())
    assert abs(found[0] - found[1]) > 0.1 * found[0]


@habit(21, "weights of classes in the loss, by name")
def _weights(folder):
    from hwaware.tasks import ImageClassification

    task = ImageClassification("tiny_test_net", num_classes=3, class_weights={"1": 4.0})
    output, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    wanted = nn.functional.cross_entropy(output, labels, torch.tensor([1.0, 4.0, 1.0]))
    torch.testing.assert_close(task.task_loss(output, (None, labels)), wanted)


@habit(25, "a bidirectional GRU and a depthwise Conv1d in cells")
def _layers(folder):
    import hwaware

    model = nn.Sequential(nn.Conv1d(4, 4, 3, groups=4), nn.GRU(4, 5, bidirectional=True, batch_first=True))
    x = torch.randn(2, 4, 9)
    with torch.no_grad():
        before = model[1](model[0](x).mT)[0]
        report = hwaware.convert(model, load_hardware("reram_cmo", mapping="differential", kappa="linear"))
        assert len(report.layers) >= 3
        torch.testing.assert_close(model.eval()[1](model[0](x).mT)[0], before)


@habit(28, "cells of 2 bits in a pair")
def _two_bits(folder):
    found = load_hardware("reram_cmo", cell_levels=4)
    assert found == load_hardware("reram_cmo", levels=7) and "4 of a cell" in str(found)


# Laboratories.


def _readings(folder: Path, text: str, encoding: str = "utf-8"):
    from hwaware.hardware.devices.fit import read_measurements

    (folder / "lab.csv").write_bytes(text.encode(encoding))
    found = read_measurements(folder / "lab.csv")
    assert found.target_us.tolist() == pytest.approx([10, 20, 20])
    assert found.time_s.tolist() == pytest.approx([0, 0, 3600])
    assert found.conductance_us.tolist() == pytest.approx([10.5, 20.5, 18])
    return found


@habit(20, "minutes, capitals, nanosiemens in round brackets")
def _minutes(folder):
    _readings(
        folder,
        "CELL,TARGET (nS),TIME (min),CONDUCTANCE (nS)\n1,10000,0,10500\n2,20000,0,20500\n2,20000,60,18000\n",
    )


@habit(20, "UTF-16 with Windows' line ends and Ω, inverted")
def _ohms(folder):
    rows = "".join(f"{c},{1e6 / g:.9g},{t},{1e6 / r:.9g}\r\n" for c, g, t, r in
                   ((1, 10, 0, 10.5), (2, 20, 0, 20.5), (2, 20, 1, 18)))  # fmt: skip
    found = _readings(folder, "Cell,Target [Ω],Time [h],Resistance [Ω]\r\n" + rows, "utf-16")
    assert "inverted" in " ".join(found.notes)


@habit(20, "an instrument's twelve lines before the header, Latin-1, a column of remarks")
def _preamble(folder):
    before = "".join(f"Einstellung {n}: 25 °C, 0,2 V\n" for n in range(12))
    rows = "1,10,0,10.5,gut\n2,20,0,20.5,\n2,20,3600,18,später\n"
    _readings(folder, before + "cell,target_µS,time_s,conductance_µS,remark\n" + rows, "latin-1")


@habit(20, "times of ISO 8601 in UTC, from each cell's first")
def _stamps(folder):
    rows = "1,10,2025-03-30T00:59:59Z,10.5\n2,20,2025-03-30T01:00:00Z,20.5\n2,20,2025-03-30T02:00:00Z,18\n"
    assert "first" in " ".join(_readings(folder, "cell,target_us,timestamp,conductance_us\n" + rows).notes)


@habit(20, "a paper's table: mean and SD of four states after a day, no more")
def _paper(folder):
    text = "State,Mean (µS),SD (µS),Age\n" + "".join(f"{n:02b},{10 + 20 * n},{1 + n},1 day\n" for n in range(4))
    (folder / "table.csv").write_text(text)
    assert main(["device", "fit", str(folder / "table.csv"), "--out", str(folder / "own.yaml")]) == 0
    assert "programming_error (the spread at each state's first age)" in (folder / "own.yaml").read_text()


# Words.


@habit(23, "ages in hours and weeks on the command line")
def _ages(folder):
    times = ["--times", "0", "0.5h", "2 weeks"]
    assert main(["device", "simulate", "pcm", "--cells", "2", "--out", "a.csv", *times]) == 0
    ages = {float(line.split(",")[2]) for line in Path("a.csv").read_text().splitlines()[1:]}
    assert ages == {0, 1800, 1209600}


@habit(23, "~ in a device file's path")
def _home(folder):
    import os

    from hwaware.hardware.devices import device_file, load_device

    old, os.environ["HOME"] = os.environ.get("HOME", ""), str(folder)
    try:
        (folder / "mine.yaml").write_text(device_file(load_device("pcm")))
        assert main(["device", "show", "~/mine.yaml"]) == 0
    finally:
        os.environ["HOME"] = old


@habit(15, "a law of one's own with a text and a whole number among its fields")
def _law(folder):
    from dataclasses import dataclass

    from hwaware.hardware.devices.laws.retention import RelativeDrift

    @dataclass(frozen=True, kw_only=True)
    class Named(RelativeDrift):
        lot: str = "A7"
        wafer: int = 3

    given = Named(name="mine", g_min_us=1.0, g_max_us=9.0, relative_drift=0.1).params()
    assert given["lot"] == "A7" and given["wafer"] == 3 and math.isfinite(given["relative_drift"])


@habit(4, "a layer whose weight the network reads itself, by F.linear")
def _read_past(folder):
    import hwaware
    from hwaware.chip import Chip

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(6, 6)

        def forward(self, x):
            return nn.functional.linear(x, self.body.weight)

    with pytest.raises(UserError, match="body"):
        model = Tied()
        hwaware.convert(model, load_hardware("reram_cmo"))
        with torch.no_grad(), Chip.program(model.eval(), 5).at(3600.0):
            model(torch.ones(2, 6))


@habit(9, "a device file that is edited once a task has read it")
def _edited(folder):
    from hwaware.hardware.devices import device_file, load_device
    from hwaware.hardware.options import HardwareOptions

    file = folder / "mine.yaml"
    file.write_text(device_file(load_device("pcm")))
    options = HardwareOptions(device={"name": str(file)})
    first = options.placement
    file.write_text(device_file(load_device("reram_cmo")))
    assert options.placement == first


@habit(20, "columns as DIN 1313 writes them: G / µS, t / h")
def _din(folder):
    rows = "1,10,0,10.5\n2,20,0,20.5\n2,20,1,18\n"
    _readings(folder, "DUT,Target (µS),t / h,G / µS\n" + rows)


@habit(20, "a table of states without units: all that is missing at once")
def _no_units(folder):
    from hwaware.hardware.devices.fit import read_measurements

    (folder / "table.csv").write_text("level,average,sd\n1,10,1\n2,20,1\n")
    with pytest.raises(UserError, match=r"mean_us.*std_us"):
        read_measurements(folder / "table.csv")


@habit(22, "mean and standard deviation of one's own, by recipe")
def _normalised(folder):
    found = _seen(folder, Image.fromarray(BYTES), "png")
    own = _opened(folder, mean=[0.5] * 3, std=[0.25] * 3)
    _near(next(iter(own.test_dataloader()))[0][0, 0].numpy(), (found - 0.5) / 0.25)


@habit(26, "a function that makes a network, in a file that lies here, and is not registered: what to put above it")
def _own_network(folder):
    from hwaware.cli.local_modules import local_modules
    from hwaware.tasks import ImageClassification

    (folder / "habit_net.py").write_text(
        "from torch import nn\n\n\ndef narrow(num_classes=2, **more):\n    return nn.Linear(4, num_classes)\n"
    )
    with local_modules({"name": "habit_net.narrow"}), pytest.raises(UserError, match="register_model"):
        ImageClassification("habit_net.narrow", num_classes=3)


@habit(29, "yield at 97.5 % and the 10th percentile, by option")
def _yield(folder):
    from tests.command_line import PRETRAIN

    options = ["--evaluation.yield", "97.5", "--evaluation.percentile", "10", "--print_config"]
    assert main(["drift", "--config", PRETRAIN, *options]) == 0


@habit(31, "a path mistyped: the name beside it is offered")
def _mistyped(folder):
    from hwaware.models import build_model

    (folder / "best_weights.pt").touch()
    with pytest.raises(UserError, match="best_weights"):
        build_model("tiny_test_net", weights=str(folder / "bestweights.pt"), num_classes=10)


@pytest.mark.parametrize("name", HABITS)
def test_habit(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    HABITS[name][2](tmp_path)
