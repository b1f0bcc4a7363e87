"""Who reads results, or draws them, pays for no network: neither torch nor what stands above ``results`` is imported."""

import subprocess
import sys

import pytest

CHECK = """
import importlib, pkgutil, sys

for name in ("torch", "lightning", "timm", "transformers"):
    sys.modules[name] = None  # importing it raises
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
print(*(name for name in sys.modules if name.startswith("hwaware.")), sep="\\n")
"""

#: What each may import of this package, besides errors and the Arrhenius factor.
ALLOWED = {"hwaware.results": ("hwaware.results",), "hwaware.report": ("hwaware.results", "hwaware.report")}


@pytest.mark.parametrize("package", ALLOWED)
def test_every_module_imports_without_torch(package):
    done = subprocess.run([sys.executable, "-c", CHECK, package], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    others = {name for name in done.stdout.split() if not name.startswith(ALLOWED[package])}
    assert others == {"hwaware.errors", "hwaware.hardware", "hwaware.hardware.temperature"}
