"""``hwaware recipes``: lists the recipes that come with hwaware; ``copy NAME`` writes one to start from."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from hwaware.commands.packaged import BASED_ON, packaged_recipes, written
from hwaware.commands.words import WordParser
from hwaware.errors import UserError, nearest
from hwaware.results.files import refuse_folder, replacing

_BASED_ON = re.compile(rf"^({BASED_ON}:\s*)(\S+)", re.MULTILINE)


def run(arguments: Sequence[str]) -> None:
    """Without arguments, lists the recipes; or ``copy NAME [--out FILE]``.

    Raises:
        UserError: there is no such recipe, or the file exists already.
    """
    parser = WordParser(prog="hwaware recipes", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", parser_class=WordParser)
    copy = commands.add_parser("copy", help="write one to start from", allow_abbrev=False)
    copy.add_argument("name", help="as hwaware recipes lists it")
    copy.add_argument("--out", type=Path, help="YAML file to write (default: the recipe's file name, here)")
    if arguments and arguments[0] not in (*commands.choices, "-h", "--help"):
        raise UserError(f"recipes: no command '{arguments[0]}'. {nearest(arguments[0], commands.choices)}")
    options = parser.parse_args(list(arguments))
    if options.command == "copy":
        _copy(options)
    else:
        _list()


def _list() -> None:
    recipes = packaged_recipes()
    width = max(map(len, recipes))
    for name, path in recipes.items():
        first, _, _ = path.read_text(encoding="utf-8").partition("\n")
        print(f"{name:<{width}}  {first.removeprefix('# ')}")
    hints = "one as it is: --config recipes/NAME.yaml; one to change: hwaware recipes copy NAME"
    print(hints, file=sys.stderr)  # so that a redirected list has no hints


def _copy(options: argparse.Namespace) -> None:
    recipes = packaged_recipes()
    name = options.name.removeprefix("recipes/").removesuffix(".yaml")
    if name not in recipes:
        raise UserError(f"recipes copy: there is no recipe '{options.name}'. {nearest(name, recipes)}")
    out = options.out or Path(recipes[name].name)
    if out.suffix != ".yaml":
        raise UserError(f"recipes copy: --out '{out}' must end in .yaml.")
    refuse_folder(out)
    if out.exists():
        raise UserError(f"recipes copy: '{out}' exists already: give another --out, or remove it.")
    with replacing(out) as file:
        file.write(_standing_alone(name, recipes, out).encode())
    print(out)


def _standing_alone(name: str, recipes: dict[str, Path], out: Path) -> str:
    """A recipe's text for another folder: its command names the new file, and it builds on the packaged recipe."""
    text = recipes[name].read_text(encoding="utf-8").replace(written(name), out.as_posix())
    names = {path.resolve(): one for one, path in recipes.items()}

    def packaged(found: re.Match[str]) -> str:
        return found[1] + written(names[(recipes[name].parent / found[2]).resolve()])

    return _BASED_ON.sub(packaged, text)
