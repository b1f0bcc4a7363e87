"""Arguments of classes, read from their source, since importing them with torch and Lightning takes ten seconds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Found:
    """A class as its source has it.

    Attributes:
        module, name: where it is.
        takes: for each argument of its constructor the annotation, and the module that has it.
        more: whether it may take other arguments that its source does not show.
    """

    module: str
    name: str
    takes: dict[str, tuple[ast.expr | None, str]]
    more: bool


@cache
def find_class(module: str, name: str) -> Found | None:
    """A class that a module defines, or imports from another; None if it is not found."""
    place = _defined(module, name)
    if place is None:
        return None
    module, definition = place
    takes: dict[str, tuple[ast.expr | None, str]] = {}
    inherits, more = True, False
    init = next((one for one in definition.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
    if init is not None:
        arguments = init.args
        takes = {one.arg: (one.annotation, module) for one in (*arguments.args[1:], *arguments.kwonlyargs)}
        inherits = arguments.kwarg is not None
    elif _is_dataclass(definition):
        fields = [one for one in definition.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)]
        takes = {ast.unparse(one.target): (one.annotation, module) for one in fields if "ClassVar" not in ast.dump(one)}
    for base in definition.bases if inherits else ():
        found = find_class(module, ast.unparse(base))
        if found is not None:
            takes |= {key: hint for key, hint in found.takes.items() if key not in takes}
        more |= found.more if found is not None else _may_take(base)
    return Found(module, definition.name, takes, more or (inherits and init is not None and not definition.bases))


def parameters_of(module: str, function: str) -> list[str]:
    """Names of the parameters of a module's function."""
    found = [one for one in _statements(module) if isinstance(one, ast.FunctionDef) and one.name == function]
    return [one.arg for each in found for one in (*each.args.args, *each.args.kwonlyargs)]


def strings_given_to(module: str, function: str) -> list[str]:
    """The texts that are the first argument in a module's calls of a function."""
    tree = _tree(module)
    calls = [one for one in ast.walk(tree) if isinstance(one, ast.Call)] if tree is not None else []
    first = [one.args[0] for one in calls if ast.unparse(one.func) == function and one.args]
    return [one.value for one in first if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def _may_take(base: ast.expr) -> bool:
    """Whether a base class that was not found may add arguments: not ABC and the like."""
    return ast.unparse(base).partition("[")[0] not in ("ABC", "object", "Protocol", "Generic")


def _is_dataclass(definition: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(one) for one in definition.decorator_list)


def _defined(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    """The module that defines a class in a module's namespace, and its definition."""
    for one in _statements(module):
        if isinstance(one, ast.ClassDef) and one.name == name:
            return module, one
        if isinstance(one, ast.ImportFrom) and one.module and not one.level:
            original = next((each.name for each in one.names if (each.asname or each.name) == name), None)
            if original is not None:
                return _defined(one.module, original)
    return None


def _statements(module: str) -> Iterator[ast.stmt]:
    """Statements of a module, with its imports for type checkers."""
    tree = _tree(module)
    for one in tree.body if tree is not None else ():
        yield from one.body if isinstance(one, ast.If) else (one,)


@cache
def _tree(module: str) -> ast.Module | None:
    top, *parts = module.split(".")
    spec = find_spec(top)  # imports nothing, and finds editable installations
    if spec is None or not spec.submodule_search_locations:
        return None
    place = Path(next(iter(spec.submodule_search_locations)), *parts)
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else None
