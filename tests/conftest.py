"""What tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

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
