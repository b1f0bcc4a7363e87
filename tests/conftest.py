"""What tests share."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
import torch

from tests.rows import make_row, make_rows, rows  # noqa: F401 - fixtures

ROOT = Path(__file__).parent.parent

# As in the processes that tests start: sums over threads are rounded otherwise, and results are compared bit by bit.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with real images, weights and other simulators' statistics; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("HWAWARE_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"real data and reference statistics are not here: no folder {folder} (set HWAWARE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def tiny_reader(tmp_path_factory) -> Path:
    """Folder with ``model``, a BERT of random weights with its tokenizer, and ``data``, questions that it can learn."""
    path = ROOT / "scripts" / "make_tiny_reader.py"
    spec = importlib.util.spec_from_file_location("make_tiny_reader", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    folder = tmp_path_factory.mktemp("tiny_reader")
    script.make(folder)
    return folder


@pytest.fixture(scope="session")
def taught_reader(tiny_reader, tmp_path_factory) -> Path:
    """The folder of its digital run, by the recipe but shorter."""
    from tests.command_line import run

    folder = tmp_path_factory.mktemp("taught_reader")
    recipe, where = ROOT / "recipes" / "squad2_tiny_digital.yaml", ("--trainer.default_root_dir", folder)
    what = ("--model.checkpoint", tiny_reader / "model", "--data.path", tiny_reader / "data")
    run("fit", "--config", recipe, *what, *where, "--trainer.max_epochs", 4, "--trainer.enable_progress_bar", "false")
    return folder / "squad2_tiny_digital" / "version_0"
