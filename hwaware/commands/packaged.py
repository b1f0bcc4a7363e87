"""The recipes that come with hwaware: inside the installed package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

from hwaware.errors import nearest, nearest_yaml

#: The key of a recipe for the recipe that it builds on, relative to its own folder.
BASED_ON = "based_on"

_PACKAGE = Path(__file__).parents[1]
_FOLDER = "recipes"


def packaged_recipes() -> dict[str, Path]:
    """The recipe files by name: ``quickstart``, ``compare/cifar10_resnet20``."""
    folder = _folder()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def written(name: str) -> str:
    """The path of a recipe in command lines: ``recipes/quickstart.yaml``."""
    return f"{_FOLDER}/{name}.yaml"


def found_recipe(named: str | Path, folder: Path = Path()) -> Path:
    """The file of a recipe's path: the path itself or, for a missing ``recipes/…``, the packaged recipe.

    Args:
        named: the given path.
        folder: folder that it is relative to.

    Returns:
        The path, which may not exist.
    """
    path, named = folder / named, Path(named)
    if named.parts[:1] == (_FOLDER,) and not path.exists():
        packaged = _folder().joinpath(*named.parts[1:])
        return packaged if packaged.is_file() else path
    return path


def nearest_recipe(path: Path) -> str:
    """A hint for a missing recipe: the nearest one in its folder or, for ``recipes/…``, of the packaged ones."""
    hint = nearest_yaml(path)
    if hint or path.parts[:1] != (_FOLDER,):
        return hint
    return nearest(path.as_posix(), map(written, packaged_recipes()))


def _folder() -> Path:
    inside = _PACKAGE / _FOLDER
    return inside if inside.is_dir() else _PACKAGE.parent / _FOLDER
