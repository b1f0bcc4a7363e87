#!/usr/bin/env python
"""Thousands of hostile inputs: mutated files of every kind that hwaware reads, each read as a command would.

    scripts/torture.py                             # a hundred of each kind: about ten minutes
    scripts/torture.py --examples 10 --kind recipe --out torture.csv

A file is mutated as bytes (cut, flipped, doubled, filled with input that breaks parsers) and, if it is YAML or JSON, as
a tree (a value replaced by a hostile one, a key removed or renamed). Each is then one of

    accepted      read, and accepted as valid
    refused       in one or two lines
    traceback     any other exception: a fault
    executed      a program that the file names was run: a fault
    slow          more than two seconds of CPU time, or twenty of waiting: a fault
    large         more than 1 GB: a fault

Exits with status 1 if there was a fault, and names its file. Hypothesis makes the mutations, with a seed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import hypothesis
import yaml
from hypothesis import strategies as st

from hwaware.errors import UserError
from hwaware.results.csv import write_csv

FAULTS = ("traceback", "executed", "slow", "large")
CANARY = "RAN"
SLOW_S, WAIT_S, LARGE_KB = 2.0, 20.0, 1 << 20

_PROGRAM = {"class_path": "os.system", "init_args": {"command": f"touch {CANARY}"}}
#: What stands in a value's place.
VALUES: list[Any] = [
    *(
        None,
        True,
        -1,
        0,
        0.5,
        10**12,
        10**30,
        -(10**400),
        float("nan"),
        float("inf"),
        "",
        " ",
        "x" * 5000,
        "\0",
        "é" * 40,
    ),
    *(
        "1:00",
        "1e999",
        "=1+1",
        "../../up",
        "/dev/zero",
        "/dev/stdin",
        "~",
        "${jobs.a}",
        "!!python/name:os.system",
        "nan",
    ),
    *([], {}, [[]], [None], {"": None}, [1, "a", None], {"class_path": "os.system"}, _PROGRAM, [_PROGRAM]),
    *("os.system", "subprocess.Popen", "2026-01-01", {"a": {"a": {"a": {"a": {}}}}}, [[[[[[1]]]]]], [0] * 1000),
]
#: What is put between a file's bytes.
BYTES = [
    *(
        b"\0",
        b"\xff\xfe",
        b"\x80",
        b"[" * 2000,
        b"{" * 2000,
        b"&a [*a]",
        b"9" * 5000,
        b"!!python/object/apply:os.system [ls]",
    ),
    *(b"\n\n", b"\t", b",,,,", b'"', b"'", b"NaN", b"-Infinity", b"1e999", b": : :", b"<<: *x", b"\r\n", b"--- \n"),
]


@dataclass(frozen=True)
class Kind:
    """A kind of input: a valid one, and how a command reads it.

    Attributes:
        make: writes one into a folder, and returns the file to mutate.
        read: reads what was written, by the path of that file.
        tree: loads and dumps the file's text, where it is one.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    tree: tuple[Callable[[str], Any], Callable[[Any], str]] | None = None


YAML = (yaml.safe_load, lambda content: yaml.safe_dump(content, sort_keys=False))
JSON = (json.loads, json.dumps)


def outcome(read: Callable[[], Any], folder: Path) -> tuple[str, str]:
    """What became of reading an input, and the fault's own words."""
    before, words = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, ""
    begin = time.process_time(), time.monotonic()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            read()
        result = "accepted"
    except UserError as error:
        long = str(error).count("\n") > 1 or not str(error)
        result, words = (
            ("traceback", f"of {str(error).count(chr(10)) + 1} lines: {error}") if long else ("refused", str(error))
        )
    except OSError as error:  # told in a line by the command line
        result, words = ("refused" if error.strerror else "traceback"), str(error)[:150]
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)
        ours = next((one for one in reversed(where) if "hwaware" in one.filename), where[-1])
        result, words = "traceback", f"{type(error).__name__}: {str(error)[:150]!r} in {ours.filename}:{ours.lineno}"
    if any(folder.rglob(CANARY)):
        return "executed", words
    if time.process_time() - begin[0] > SLOW_S or time.monotonic() - begin[1] > WAIT_S:
        return "slow", words
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > LARGE_KB:
        return "large", words
    return result, words


def mutated(content: bytes, kind: Kind, draw: random.Random) -> bytes:
    """A file's bytes with one to three changes."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        tree = None
        if kind.tree is not None and draw.random() < 0.7:
            with contextlib.suppress(Exception):
                tree = kind.tree[0](content.decode())
        if tree is not None and kind.tree is not None:
            with contextlib.suppress(Exception):  # some values can't be written in every format
                content = kind.tree[1](_changed(tree, draw)).encode()
            continue
        at, to = sorted(draw.randrange(len(content) + 1) for _ in range(2))
        how = draw.randrange(5)
        if how == 0:
            content = content[:at]
        elif how == 1:
            content = (
                content[:at] + bytes(b ^ (1 << draw.randrange(8)) for b in content[at : at + 4]) + content[at + 4 :]
            )
        elif how == 2:
            content = content[:at] + draw.choice(BYTES) + content[at:]
        elif how == 3:
            content = content[:at] + content[to:]
        else:
            content = content[:to] + content[at:to] * draw.randrange(1, 4) + content[to:]
    return content


def _changed(tree: Any, draw: random.Random) -> Any:
    """A tree of which one node is another."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, value in list(node.items()) if isinstance(node, dict) else list(enumerate(node)):
            places.append((node, key))
            if isinstance(value, dict | list):
                walk(value)

    if not isinstance(tree, dict | list) or not tree:
        return draw.choice(VALUES)
    walk(tree)
    node, key = draw.choice(places)
    how = draw.randrange(5)
    if how == 0:
        del node[key]
    elif how == 1 and isinstance(node, dict):
        node[draw.choice([*map(str, node), "x", "", "a.b", "class_path"])] = node.pop(key)
    else:
        node[key] = draw.choice(VALUES)
    return tree


# The kinds.


def _recipe(folder: Path) -> Path:
    from hwaware.cli.recipes import with_ancestors

    root = Path(__file__).resolve().parent.parent
    content: dict[str, Any] = {}
    for path in with_ancestors(root / "tests" / "conf" / "finetune.yaml"):
        content |= yaml.safe_load(path.read_text())
    import timm
    from safetensors.torch import save_file

    import tests.tiny  # noqa: F401 - registers the network

    save_file(timm.create_model("tiny_test_net").state_dict(), folder / "a.safetensors")
    content["model"]["init_args"]["weights"] = "a.safetensors"
    content["evaluation"]["methods"] = [{"class_path": "Dora"}, {"class_path": "VeraPlus", "init_args": {"bits": 8}}]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "recipe.yaml"


def _read_recipe(path: Path) -> None:
    from hwaware.cli.build import build
    from hwaware.cli.local_modules import local_modules
    from hwaware.cli.parser import parse
    from hwaware.cli.settings import read_settings
    from hwaware.commands import load

    arguments = ["--config", str(path)]
    with local_modules(read_settings(arguments)):
        run = load("fit")
        build(run, *parse("fit", run, arguments))


def _device(folder: Path) -> Path:
    import hwaware.hardware.devices as devices

    preset = Path(devices.__file__).parent / "presets" / "reram_cmo.yaml"
    (folder / "device.yaml").write_text(preset.read_text())
    return folder / "device.yaml"


def _read_device(path: Path) -> None:
    from hwaware.hardware import load_hardware

    load_hardware(str(path))


def _written(name: str, text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "r.yaml").write_text("{}\n")  # a recipe that studies and sweeps name
        (folder / name).write_text(text)
        return folder / name

    return make


def _rows(folder: Path) -> Path:
    from hwaware.results.csv import write_rows
    from hwaware.results.row import Row

    params = json.dumps({"clamp": "window", "g_max_us": 88.2, "g_min_us": 9.0, "kappa": 2.0, "range_fraction": 1.0})
    labels = ("r", "m", "base", "d", "reram_cmo", params, "differential", "none", "{}")
    rows = [
        Row(*labels, age, chip, "top1", 90.0 - chip, 91.0, 92.0, 100, 0, "abc", "0.1")
        for age in (0.0, 1.0)
        for chip in (1, 2)
    ]
    return write_rows(folder / "rows.csv", rows)


def _read_rows(path: Path) -> None:
    from hwaware.report.tables import markdown_table
    from hwaware.results.csv import read_rows

    if rows := read_rows(path):
        markdown_table(rows)


def _network(**settings: Any) -> Any:
    import torch
    from torch import nn

    from hwaware.hardware import load_hardware
    from hwaware.nn import convert

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    convert(network, load_hardware("reram_cmo", **settings))
    return network


def _bundle(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from hwaware.export.bundle import write_bundle
        from hwaware.hardware import Converters, Ranges
        from hwaware.nn import analog_layers

        about = Converters(adc_bits=8, per_array=True)
        small = {"rows": 12, "columns": 9, "parallel": 2, "mapping": "offset_reference", "converters": about}
        network = _network(**small)
        for layer in analog_layers(network).values():
            layer.ranges = Ranges(1.0, tuple(1.0 for _ in layer.tiling.parts))
        return write_bundle(folder / "bundle", network, "net") / name

    return make


def _read_bundle(path: Path) -> None:
    from hwaware.export.bundle import read_bundle

    read_bundle(path.parent)


def _weights(folder: Path) -> Path:
    from hwaware.export.weights import write_weights

    return write_weights(folder / "model.safetensors", _network().state_dict(), "net", None, {})


def _read_weights(path: Path) -> None:
    from hwaware.export.weights import read_header
    from hwaware.models.weight_files import read_weights

    read_header(path)
    read_weights(path)


def _checkpoint(folder: Path) -> Path:
    import torch

    own = {"network": "net", "hardware": None, "retention_weight": None, "ranges": {}}
    loops = {"fit_loop": {"state_dict": {}}}
    content = {"state_dict": _network().state_dict(), "hwaware": own, "loops": loops, "epoch": 1, "global_step": 3}
    content |= {"callbacks": {}, "pytorch-lightning_version": "2.5.0"}
    torch.save(content | {"optimizer_states": [{}], "lr_schedulers": []}, folder / "last.ckpt")
    return folder / "last.ckpt"


def _read_checkpoint(path: Path) -> None:
    from hwaware.export.weights import read_checkpoint

    read_checkpoint(path, to_resume=True)


def _read_questions(path: Path) -> None:
    from hwaware.data.squad_files import read_questions

    read_questions([path])


def _images(folder: Path) -> Path:
    import datasets
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3), dtype=np.uint8)
    pictures = [Image.fromarray(one) for one in pixels]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(2)})
    table = datasets.Dataset.from_dict({"image": pictures, "label": [0, 1] * 4}, features)
    for split in ("train", "test"):
        table.to_parquet(str(folder / f"{split}.parquet"))
    return folder / "test.parquet"


def _picture(folder: Path) -> Path:
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("a", "b"):
            (folder / split / label).mkdir(parents=True)
            for number in range(3):
                pixels = draw.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{number}.png")
    return folder / "test" / "a" / "1.png"


def _read_images(path: Path) -> None:
    from hwaware.data import ImageData
    from hwaware.data.contract import ImageInputs

    folder = path.parent if path.suffix == ".parquet" else path.parents[2]
    config = {
        "input_size": (3, 8, 8),
        "interpolation": "bicubic",
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "crop_pct": 1.0,
    }
    data = ImageData(path=str(folder), batch_size=4)
    data.inputs = ImageInputs(config, None)
    data.setup("test")
    list(data.test_dataloader())


def _read_with(module: str, name: str) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        return getattr(__import__(module, fromlist=[name]), name)(path)

    return read


QUESTIONS = {
    "version": "v2.0",
    "data": [
        {
            "title": f"t{n}",
            "paragraphs": [
                {
                    "context": "Cells drift for years.",
                    "qas": [
                        {"id": f"a{n}", "question": "What drifts?", "answers": [{"text": "Cells", "answer_start": 0}]},
                        {"id": f"b{n}", "question": "Who?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
        for n in range(3)
    ],
}
SWEEP = {
    "program": "hwaware",
    "method": "grid",
    "command": ["${env}", "hwaware", "drift", "--config", "r.yaml", "${args}"],
    "parameters": {"model.hardware.encoding.kappa": {"values": [1.0, 2.0]}, "seed_everything": {"value": 0}},
}
STUDY = {
    "about": "a",
    "inputs": {"weights": "a file"},
    "environment": {"OMP_NUM_THREADS": 1},
    "settings": {"data.path": "${inputs.weights}"},
    "jobs": {"one": {"command": "drift --config r.yaml", "settings": {"weights": "x"}, "seeds": [1, 2]}},
    "chance": {"classes": 10},
}
READINGS = "cell,target_us,time_s,conductance_us\n" + "".join(
    f"{target},{target},{time_s},{target - 0.1 * index}\n"
    for target in (10, 40, 80)
    for index, time_s in enumerate((1, 100, 10000))
)

KINDS = {
    "recipe": Kind(_recipe, _read_recipe, YAML),
    "device": Kind(_device, _read_device, YAML),
    "study": Kind(
        _written("study.yaml", yaml.safe_dump(STUDY)), _read_with("hwaware.commands.jobs", "read_study"), YAML
    ),
    "sweep": Kind(
        _written("sweep.yaml", yaml.safe_dump(SWEEP)), _read_with("hwaware.commands.grid", "read_grid"), YAML
    ),
    "rows": Kind(_rows, _read_rows),
    "readings": Kind(_written("cells.csv", READINGS), _read_with("hwaware.hardware.devices.fit", "read_measurements")),
    "questions": Kind(_written("train.json", json.dumps(QUESTIONS)), _read_questions, JSON),
    "manifest": Kind(_bundle("bundle.json"), _read_bundle, JSON),
    "bundle": Kind(_bundle("conductances.safetensors"), _read_bundle),
    "places": Kind(_bundle("places.safetensors"), _read_bundle),
    "weights": Kind(_weights, _read_weights),
    "checkpoint": Kind(_checkpoint, _read_checkpoint),
    "parquet": Kind(_images, _read_images),
    "picture": Kind(_picture, _read_images),
}


def torture(name: str, examples: int) -> tuple[Counter[str], dict[str, str]]:
    """How many mutated inputs of a kind became what, and each fault's words once."""
    kind, counts, faults = KINDS[name], Counter[str](), dict[str, str]()
    home = os.getcwd()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            file = kind.make(Path(place))
            content = file.read_bytes()
            first, words = outcome(lambda: kind.read(file), Path(place))  # imports, too
            if first not in ("accepted", "slow", "large"):
                raise RuntimeError(f"{name}: the input itself is not accepted: {words}")

            @hypothesis.settings(
                max_examples=examples,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[hypothesis.Phase.generate],
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            @hypothesis.given(st.integers(0, 2**32 - 1))
            def each(seed: int) -> None:
                file.write_bytes(mutated(content, kind, random.Random(seed)))
                result, words = outcome(lambda: kind.read(file), Path(place))
                counts[result] += 1
                if result in FAULTS:
                    faults.setdefault(words, result)
                for canary in Path(place).rglob(CANARY):
                    canary.unlink()

            each()
        finally:
            os.chdir(home)
    return counts, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100, help="of each kind")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this one; may be repeated")
    parser.add_argument("--out", type=Path, help="CSV for the counts")
    options = parser.parse_args()
    columns = ("accepted", "refused", *FAULTS)
    lines, failed = [], False
    print(f"{'kind':<12}" + "".join(f"{column:>11}" for column in columns))
    for name in options.kind or KINDS:
        counts, faults = torture(name, options.examples)
        lines.append([name, *(counts[column] for column in columns)])
        print(f"{name:<12}" + "".join(f"{counts[column]:>11}" for column in columns), flush=True)
        for words, result in faults.items():
            failed = True
            print(f"  {result}: {words}", flush=True)
    total = [sum(line[column] for line in lines) for column in range(1, len(columns) + 1)]
    print(f"{'all':<12}" + "".join(f"{count:>11}" for count in total))
    if options.out:
        write_csv(options.out, ("kind", *columns), lines)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
