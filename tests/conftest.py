"""What tests share."""

from __future__ import annotations

import base64
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from hwaware.report import drawing

ROOT = Path(__file__).parent.parent

# As in the processes that tests start: sums over threads are rounded otherwise, and results are compared bit by bit.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


#: A picture of one pixel, as PNG and as SVG.
_PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg==")
_SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"><defs/></svg>'


@pytest.fixture(autouse=True)
def _figures_are_composed_but_not_rendered(request, monkeypatch):
    """Most of a small run's time would be matplotlib's; tests marked ``rendered`` have real pictures."""
    if request.node.get_closest_marker("rendered"):
        return

    def render(figure: object, top: object, heading: tuple[str, str], path: Path) -> None:
        path.write_bytes(_PNG)
        path.with_suffix(".svg").write_text(_SVG)

    monkeypatch.setattr(drawing, "_render", render)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with real images and weights; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("HWAWARE_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"real images and weights are not here: no folder {folder} (set HWAWARE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """A folder that ``made_once(name, make)`` has ``make`` fill, in one of the processes that share the tests."""
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        path, done = common / name, common / f"{name}.done"
        with FileLock(common / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(path, ignore_errors=True)  # what is left of one that failed
                path.mkdir()
                make(path)
                done.touch()
        return path

    return folder


@pytest.fixture(scope="session")
def tiny_reader(made_once) -> Path:
    """Folder with ``model``, a BERT of random weights with its tokenizer, and ``data``, questions that it can learn."""
    path = ROOT / "scripts" / "make_tiny_reader.py"
    spec = importlib.util.spec_from_file_location("make_tiny_reader", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return made_once("tiny_reader", script.make)


@pytest.fixture(scope="session")
def taught_reader(tiny_reader, made_once) -> Path:
    """The folder of its digital run, by the recipe but shorter."""
    from tests.command_line import run

    recipe = ROOT / "recipes" / "squad2_tiny_digital.yaml"
    what = ("--model.checkpoint", tiny_reader / "model", "--data.path", tiny_reader / "data")
    short = ("--trainer.max_epochs", 4, "--trainer.enable_progress_bar", "false")

    def teach(folder: Path) -> None:
        run("fit", "--config", recipe, *what, *short, "--trainer.default_root_dir", folder)

    return made_once("taught_reader", teach) / "squad2_tiny_digital" / "version_0"
