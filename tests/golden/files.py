"""The files of golden rows: a table of lines, and beside it what they depend on."""

from __future__ import annotations

import contextlib
import csv
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import timm
import torch

from tests.golden.workplace import ROOT, SEED


def about() -> dict[str, str]:
    """What results depend on beside the code, and the commit."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True).stdout.strip()

    # The package's own commit: that of this script comes later than what it measures.
    commit = git("log", "-1", "--format=%H", "--", "hwaware")
    return {
        "seed": str(SEED),
        "last commit of hwaware/": commit + ("+" if git("status", "--porcelain", "--", "hwaware") else ""),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "timm": timm.__version__,
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


#: Of :func:`about`, what results are bit-equal for.
MUST_AGREE = ("torch", "processor", "instructions")


def _processor() -> str:
    """Name, family and model, as Linux has them."""
    found = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
    names = ("vendor_id", "cpu family", "model", "model name")
    return " ".join(found[name] for name in names if name in found) or platform.processor() or platform.machine()


def read(file: Path) -> dict[str, dict[str, str]]:
    """The lines of each case."""
    found: dict[str, dict[str, str]] = {}
    with file.open(newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            found.setdefault(row["case"], {})[row["key"]] = row["value"]
    return found


def write(file: Path, cases: Mapping[str, Mapping[str, str]]) -> None:
    """Writes the lines of each case, and ``about.csv`` beside them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(("case", "key", "value"))
        writer.writerows((name, key, value) for name, lines in cases.items() for key, value in lines.items())
    with file.with_name("about.csv").open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(("what", "value"))
        writer.writerows(about().items())


def read_about(file: Path) -> dict[str, str]:
    """What the file beside a file of rows says; nothing where there is none."""
    path = file.with_name("about.csv")
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as opened:
        return {row["what"]: row["value"] for row in csv.DictReader(opened)}
