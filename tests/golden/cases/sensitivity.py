"""Layers that age alone."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.golden.hardware import SETTINGS, device_keys
from tests.golden.lines import Lines, lines_of_csv
from tests.golden.workplace import Workplace


def sensitivity(options: dict[str, Any], place: Workplace, name: str) -> Lines:
    """What each layer loses."""
    folder = place.tiny("sensitivity", name, *device_keys(**options), "--chips", 2)
    yield from lines_of_csv(folder / "sensitivity.csv", "layer")


CASES = {f"sensitivity_{name}": partial(sensitivity, SETTINGS[name]) for name in ("offset", "sliced")}
