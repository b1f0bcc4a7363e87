"""The names of ``import hwaware``: what is imported lazily is what type checkers see."""

import ast
from importlib import import_module
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["hwaware", "hwaware.hardware"])
def test_type_checkers_see_what_is_there(name):
    package = import_module(name)
    assert package.__file__ is not None
    (seen,) = (node for node in ast.parse(Path(package.__file__).read_text()).body if isinstance(node, ast.If))
    for imported in seen.body:
        assert isinstance(imported, ast.ImportFrom) and imported.module is not None
        for alias in imported.names:
            assert getattr(package, alias.name) is getattr(import_module(imported.module), alias.name), alias.name
    names = {alias.name for imported in seen.body for alias in imported.names}
    assert names == set(package.__all__)
