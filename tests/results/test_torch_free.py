"""Reading and drawing results takes no network: neither torch nor what stands above ``results`` is imported."""

import subprocess
import sys

import pytest

from hwaware.results.csv import write_rows

BLOCKED = """
import importlib, pkgutil, sys
from pathlib import Path

for name in ("torch", "lightning", "timm", "transformers"):
    sys.modules[name] = None  # importing it raises
"""

EVERY_MODULE = """
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
print(*(name for name in sys.modules if name.startswith("hwaware.")))
"""

A_REPORT = """
from hwaware.report.html import write_report
from hwaware.report.run_folder import print_tables, write_rows_and_plots
from hwaware.results.csv import read_rows

folder = Path(sys.argv[1])
rows = read_rows(folder / "rows.csv")
print_tables(rows)
print(write_report(folder, write_rows_and_plots(rows, folder, {})))
"""

#: What each may import of this package, besides errors and the Arrhenius factor.
ALLOWED = {"hwaware.results": ("hwaware.results",), "hwaware.report": ("hwaware.results", "hwaware.report")}


def _run(code, argument):
    done = subprocess.run([sys.executable, "-c", BLOCKED + code, argument], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("package", ALLOWED)
def test_every_module_imports_without_torch(package):
    others = {name for name in _run(EVERY_MODULE, package) if not name.startswith(ALLOWED[package])}
    assert others == {"hwaware.errors", "hwaware.hardware", "hwaware.hardware.temperature"}


def test_a_report_is_written_without_torch(tmp_path, rows):
    write_rows(tmp_path / "rows.csv", [row for row in rows if row.chip_seed < 2_000_002])
    assert _run(A_REPORT, str(tmp_path))[-1] == str(tmp_path / "report.html")
    assert list((tmp_path / "plots").glob("accuracy_*.png"))
