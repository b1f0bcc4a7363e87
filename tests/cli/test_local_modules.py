"""Files in the working directory are run only where something names them."""

import os
import subprocess
import sys

import pytest

from hwaware.cli.local_modules import local_modules
from tests.command_line import ROOT


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab_module.py").write_text("import lab_neighbour\nVALUE = lab_neighbour.VALUE\n")
    (tmp_path / "lab_neighbour.py").write_text("VALUE = 3\n")
    yield tmp_path
    for name in ("lab_module", "lab_neighbour"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("settings", [{"a": [{"class_path": "lab_module.Own"}]}, ("plot", "lab_module.Own")])
def test_a_named_module_and_its_neighbours_are_found(settings, here):
    with local_modules(settings):
        import lab_module

        assert lab_module.VALUE == 3
        with pytest.raises(ImportError):
            import lab_other  # noqa: F401
    with pytest.raises(ImportError):
        import lab_unnamed  # noqa: F401


@pytest.mark.parametrize("settings", [{}, {"path": "lab_neighbour.parquet"}, {"name": "lab_neighbour"}])
def test_others_are_not(settings, here):
    (here / "lab_neighbour.parquet").touch()
    with local_modules(settings), pytest.raises(ImportError):
        import lab_neighbour  # noqa: F401


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("device", "list"), ("fit", "--config", "none.yaml"), ("sweep", "none.yaml")])
def test_no_package_imports_a_file_that_lies_here(arguments, tmp_path):
    """Of the names of standard and optional modules that packages look for."""
    for name in ("brotli", "tabulate", "yaml", "email", "csv", "colorama", "ujson", "orjson", "numexpr"):
        (tmp_path / f"{name}.py").write_text(f"open('RAN_{name}', 'w')")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-m", "hwaware", *arguments], cwd=tmp_path, env=environment, timeout=120)
    assert not list(tmp_path.glob("RAN_*"))
