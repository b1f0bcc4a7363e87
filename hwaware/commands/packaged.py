"""The recipes that come with hwaware: inside the package where it is installed, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

from hwaware.errors import nearest, nearest_yaml

#: The key by which a recipe names the one it builds on, relative to its own folder.
BASED_ON = "based_on"

_PACKAGE = Path(__file__).parents[1]
_FOLDER = "recipes"


def packaged_recipes() -> dict[str, Path]:
    """The files by what they are called: ``quickstart``, ``compare/cifar10_resnet20``."""
    folder = _folder()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def written(name: str) -> str:
    """How a recipe is named in command lines: ``recipes/quickstart.yaml``."""
    return f"{_FOLDER}/{name}.yaml"


def found_recipe(named: str | Path, folder: Path = Path()) -> Path:
    """The file that a recipe's path stands for: itself; or, of ``recipes/…`` where that is not there, the packaged one.

    Args:
        named: a path as it was given.
        folder: that it is relative to.

    Returns:
        A path of a file, if there is one.
    """
    path, named = folder / named, Path(named)
    if named.parts[:1] == (_FOLDER,) and not path.exists():
        packaged = _folder().joinpath(*named.parts[1:])
        return packaged if packaged.is_file() else path
    return path


def nearest_recipe(path: Path) -> str:
    """A hint for a recipe that is not there: of those in its folder; for ``recipes/…``, of the packaged ones."""
    hint = nearest_yaml(path)
    if hint or path.parts[:1] != (_FOLDER,):
        return hint
    return nearest(path.as_posix(), map(written, packaged_recipes()))


def _folder() -> Path:
    inside = _PACKAGE / _FOLDER
    return inside if inside.is_dir() else _PACKAGE.parent / _FOLDER
