"""What the docstrings refer to is there."""

import ast
import importlib
import re

from tests.conftest import ROOT

_REFERENCE = re.compile(r":(?:func|class|meth|mod|data|attr):`~?([^`]*)`")


def _references(node, classes=()):
    """``(name, classes around it)`` of each reference in the docstrings under a node, those of constants too."""
    if isinstance(node, ast.ClassDef):
        classes = (*classes, node.name)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant) and isinstance(child.value.value, str):
            yield from ((name, classes) for name in _REFERENCE.findall(child.value.value))
        else:
            yield from _references(child, classes)


def _has(home, names):
    for name in names:
        if not hasattr(home, name):  # a field without a default is only annotated
            return any(name in vars(one).get("__annotations__", ()) for one in getattr(home, "__mro__", ()))
        home = getattr(home, name)
    return True


def _resolves(name, module, classes):
    """Whether a name is there: in the classes or the module where it stands, or by its full path."""
    homes, parts = [module], name.split(".")
    for one in classes:
        homes.append(getattr(homes[-1], one))
    if any(_has(home, parts) for home in homes):
        return True
    for at in range(len(parts), 0, -1):
        try:
            return _has(importlib.import_module(".".join(parts[:at])), parts[at:])
        except ImportError:
            continue
    return False


def _lost(source, module):
    found = _references(ast.parse(source))
    return [name for name, classes in found if not _resolves(name, module, classes)]


def test_all_references_in_docstrings_resolve():
    lost = []
    for file in sorted((ROOT / "hwaware").rglob("[!_]*.py")) + sorted((ROOT / "hwaware").rglob("__init__.py")):
        path = file.relative_to(ROOT).with_suffix("")
        module = importlib.import_module(".".join(path.parts).removesuffix(".__init__"))
        lost += [f"{path}: {name}" for name in _lost(file.read_text(encoding="utf-8"), module)]
    assert not lost, "\n".join(lost)


def test_lost_references_are_found():
    from hwaware.nn import measured

    names = ("Measured", "Measured.ranges", "hwaware.nn.convert", "json.dumps", "~hwaware.data.ImageData", "Measured.x")
    text = " ".join(f":func:`{name}`" for name in (*names, "lost", "hwaware.lost", "lost.dumps", "hwaware.lost.dumps"))
    source = f'''"""{text}"""\nclass Measured:\n    """:attr:`numbers` and :meth:`lost_too`"""'''
    lost = ["Measured.x", "lost", "hwaware.lost", "lost.dumps", "hwaware.lost.dumps", "lost_too"]
    assert _lost(source, measured) == lost
