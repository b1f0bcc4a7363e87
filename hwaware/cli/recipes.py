"""Recipe files: configurations of the command line that may build on one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile

from hwaware.commands.packaged import BASED_ON, found_recipe, nearest_recipe
from hwaware.errors import UserError
from hwaware.system.reading import read_yaml


def with_ancestors(path: str | Path) -> list[Path]:
    """A recipe and all recipes that it builds on, the most general first.

    A path ``recipes/…`` may be a packaged recipe: see :func:`hwaware.commands.packaged.found_recipe`.

    Raises:
        UserError: a file is missing or not YAML, or recipes build on one another in a circle.
    """
    if not str(path):
        raise UserError("--config has no value: give --config RECIPE (recipes/*.yaml).")
    chain: list[Path] = []
    following: Path | None = found_recipe(path)
    while following is not None:
        if following.resolve() in [known.resolve() for known in chain]:
            raise UserError(f"recipe '{following}' builds on itself: {' -> '.join(map(str, [*chain, following]))}.")
        if not following.is_file():
            reason = f" (named by {BASED_ON} in '{chain[-1]}')" if chain else ""
            raise UserError(f"there is no recipe '{following}'{reason}. {nearest_recipe(following)}".rstrip())
        chain.append(following)
        content = read_yaml(following, "recipe") or {}
        if not isinstance(content, dict):
            raise UserError(f"recipe '{following}' is not a table of keys and values.")
        parent = content.get(BASED_ON)
        if not isinstance(parent, str | None):
            raise UserError(f"recipe '{chain[-1]}': {BASED_ON} {parent!r} is not the path of a recipe.")
        following = None if parent is None else found_recipe(Path(parent).expanduser(), following.parent)
    return chain[::-1]


class RecipeFile(ActionConfigFile):
    """``--config FILE``: applies what the file builds on, then the file. Of several, the last one wins."""

    @staticmethod
    def apply_config(parser: Any, cfg: Any, dest: str, value: str) -> None:
        for path in with_ancestors(value):
            ActionConfigFile.apply_config(parser, cfg, dest, str(path))
        cfg[BASED_ON] = None  # done: a saved configuration is complete


def recipe_name(paths: list[Any]) -> str:
    """A run's name: the last recipe's file name."""
    return Path(str(paths[-1])).stem if paths else "run"
