"""The wheel is whole: what the package reads is inside, and it runs where no checkout is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from hwaware.commands.packaged import packaged_recipes
from tests.conftest import ROOT

#: What it is made of.
SOURCES = ("hwaware", "recipes", "pyproject.toml", "setup.py", "README.md", "LICENSE")

#: Runs the entry point with what follows; fails where a file of a checkout is opened.
_ENTRY = """
import sys
checkouts = tuple(sys.argv.pop(1).split("|"))

def refuse(event, arguments):
    if event == "open" and str(arguments[0]).startswith(checkouts):
        raise SystemExit(f"reads {arguments[0]}")

sys.addaudithook(refuse)
from importlib.metadata import entry_points
(script,) = entry_points(group="console_scripts", name="hwaware")
sys.exit(script.load()())
"""


@pytest.fixture(scope="module")
def installed(made_once) -> Path:
    """The folder of site packages that an installer makes of the wheel; built without isolation or network."""

    def build(folder: Path) -> None:
        source = folder / "source"
        source.mkdir()
        for name in SOURCES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source / name)
        code = f"from setuptools.build_meta import build_wheel; build_wheel({str(folder)!r})"
        done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "is absent from the `packages` configuration" not in done.stderr
        (wheel,) = folder.glob("hwaware-*-py3-none-any.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "site")

    return made_once("wheel", build) / "site"


def _run(installed: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess:
    checkouts = "|".join(f"{path}/{name}/" for path in {ROOT, ROOT.resolve()} for name in ("hwaware", "recipes"))
    command = [sys.executable, "-c", _ENTRY, checkouts, *words]
    environment = {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(cwd)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def _files(folder: Path) -> list[Path]:
    # Without bytecode: another worker may be running the same package.
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]


def test_all_that_the_package_reads_is_inside(installed):
    files = _files(ROOT / "hwaware")
    places = {installed / path.relative_to(ROOT): path for path in files}
    places |= {installed / "hwaware" / path.relative_to(ROOT): path for path in (ROOT / "recipes").rglob("*.yaml")}
    wanted = {"pcm.yaml", "isaac.yaml", "report.html.j2", "paper.mplstyle", "quickstart.yaml", "py.typed"}
    assert wanted <= {path.name for path in places}
    for place, path in places.items():
        assert place.is_file() and place.read_bytes() == path.read_bytes(), place
    assert set(_files(installed / "hwaware")) == set(places)
    assert [path.name for path in installed.iterdir() if path.suffix != ".dist-info"] == ["hwaware"]


def test_it_says_what_it_is(installed):
    (folder,) = installed.glob("*.dist-info")
    metadata = message_from_string((folder / "METADATA").read_text())
    assert metadata["License-Expression"] == "Apache-2.0" and (folder / "licenses" / "LICENSE").is_file()
    assert set(metadata.get_all("Provides-Extra")) == {"docs", "onnx", "test", "wandb"}
    assert len(metadata.get_all("Classifier")) >= 5 and metadata["Keywords"]
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    (script,) = PathDistribution(folder).entry_points
    assert (script.name, script.value) == ("hwaware", "hwaware.cli.main:main")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--version", "0.1.0"),
        ("--help", "quickstart"),
        ("recipes", "compare/cifar10_resnet20"),
        ("recipes copy biased_lenet5", "biased_lenet5.yaml"),
    ],
)
def test_it_runs_where_no_checkout_is(words, said, installed, tmp_path):
    done = _run(installed, tmp_path, *words.split())
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    if words == "recipes":
        assert len(done.stdout.splitlines()) == len(packaged_recipes())


@pytest.mark.slow
def test_it_reads_its_own_recipes_and_presets(installed, tmp_path):
    assert _run(installed, tmp_path, "recipes", "copy", "ablation/squad2_minilm_none").returncode == 0
    done = _run(installed, tmp_path, "fit", "--config", "squad2_minilm_none.yaml", "--print_config")
    assert done.returncode == 0, done.stderr
    assert "name: reram_cmo" in done.stdout


def test_what_is_read_of_a_checkout_is_noticed(tmp_path):
    done = _run(ROOT, tmp_path, "recipes")
    assert done.returncode != 0 and "reads " in done.stderr
