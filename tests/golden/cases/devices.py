"""Cells by themselves."""

from __future__ import annotations

import csv
import hashlib
import io

import yaml

import hwaware
from tests.golden.lines import Lines
from tests.golden.workplace import TEN_YEARS_S, Workplace


def simulated(place: Workplace, name: str) -> Lines:
    """Readings of every preset's cells."""
    (place.folder / name).mkdir()
    for preset in hwaware.device_names():
        out = place.folder / name / f"{preset}.csv"
        times = ("--times", 0, 60, 86400, TEN_YEARS_S)
        place.run("device", "simulate", preset, "--out", out, "--cells", 60, *times)
        text = out.read_text()
        yield f"{preset}|sha256", hashlib.sha256(text.encode()).hexdigest()
        values = [float(row["conductance_us"]) for row in csv.DictReader(io.StringIO(text))]
        yield f"{preset}|mean conductance", repr(sum(values) / len(values))


def fitted(place: Workplace, name: str) -> Lines:
    """The constants of a device that is fitted to simulated readings."""
    folder = place.folder / name
    folder.mkdir()
    readings, out = folder / "readings.csv", folder / "mine.yaml"
    place.run("device", "simulate", "reram_cmo", "--out", readings, "--cells", 120)
    place.run("device", "fit", readings, "--out", out)
    for key, value in yaml.safe_load(out.read_text()).items():
        if isinstance(value, float) or key == "law":
            yield key, str(value)


CASES = {"simulated": simulated, "fitted": fitted}
