"""Scripts, and programs beside results, use what the package has: they are not run by the other tests."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPTS = [*(ROOT / "scripts").glob("*.py"), *(ROOT / "results").glob("*/*.py")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_all_that_it_imports_is_there(script: Path):
    tree = ast.parse(script.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hwaware"):
            module = import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):
                    import_module(f"{node.module}.{name.name}")
