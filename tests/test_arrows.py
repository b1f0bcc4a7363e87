"""Packages import downwards only, in the order that CONTRIBUTING.md says."""

import ast
import re
from pathlib import Path

from tests.conftest import ROOT

_TABLE = re.compile(r"^\| (`.*?`) \|", flags=re.MULTILINE)


def _order():
    """The parts of the package from top to bottom."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text[text.index("## Where things are") : text.index("## Add one of your own")]
    names = re.findall(r"`(\w+)(?:/|\.py)`", " ".join(_TABLE.findall(table)))
    assert len(names) == len(set(names))
    return names


def _part(path):
    """The part that a file of the package, by its path in it, belongs to."""
    return Path(path.parts[0]).stem


def _imports(source):
    """``(line, part)`` of all imports of the package's parts: in functions and for type checkers, too."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: a relative import"
            names = [f"{node.module}.{one.name}" for one in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "hwaware":
                yield node.lineno, rest.partition(".")[0]


def _upward(source, part, order):
    """The imports of a file of a part that do not go downwards, ``(line, part)`` each."""
    allowed = order[order.index(part) :]
    return [(line, to) for line, to in _imports(source) if to not in allowed]


def test_the_order_has_all_parts():
    parts = {_part(file.relative_to(ROOT / "hwaware")) for file in (ROOT / "hwaware").rglob("*.py")}
    assert set(_order()) == parts - {"__init__", "__main__"}


def test_imports_run_downwards():
    order, wrong = _order(), []
    for file in sorted((ROOT / "hwaware").rglob("*.py")):
        path = file.relative_to(ROOT / "hwaware")
        if (part := _part(path)) in order:  # __init__ and __main__ stand above all
            found = _upward(file.read_text(encoding="utf-8"), part, order)
            wrong += [f"{path}:{line}: {part} imports {to}" for line, to in found]
    assert not wrong, "\n".join(wrong)


def test_upward_imports_are_found():
    source = """
import torch, hwaware.chip
from hwaware import cli
from hwaware.nn.layers import AnalogLayer
if TYPE_CHECKING:
    from hwaware.tasks import HardwareAwareTask
def lazily():
    from hwaware.nn import convert
    import hwaware
    import hwaware.commands.fit
"""
    found = sorted(to for _, to in _upward(source, "nn", ["cli", "commands", "tasks", "chip", "nn"]))
    assert found == ["", "chip", "cli", "commands", "tasks"]
