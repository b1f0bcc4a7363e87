"""Modules in the working directory, which are found only if a recipe, an option or another such module names them.

If the folder were on ``sys.path``, any package that looks for an optional dependency would run a file of that name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any


class LocalModules(MetaPathFinder):
    """Finds some modules of a folder, and what modules of the folder import."""

    def __init__(self, folder: Path, names: set[str]) -> None:
        self.folder, self.names = folder, names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or not (fullname in self.names or self._asks()):
            return None
        return PathFinder.find_spec(fullname, [str(self.folder)])

    def _asks(self) -> bool:
        """Whether the importing file is in the folder itself."""
        frame = sys._getframe(2)
        while frame.f_back is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
            frame = frame.f_back
        return Path(frame.f_code.co_filename).parent == self.folder


@contextmanager
def local_modules(settings: Any) -> Iterator[None]:
    """Lets imports find modules of the working directory: those that a dotted name in the settings begins with.

    Args:
        settings: tables, lists and values.
    """
    folder = Path.cwd()
    names = {text.partition(".")[0] for text in _texts(settings) if _is_dotted(text) and not Path(text).exists()}
    finder = LocalModules(folder, {one for one in names if PathFinder.find_spec(one, [str(folder)])})
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def _texts(settings: Any) -> Iterator[str]:
    if isinstance(settings, str):
        yield settings
    elif isinstance(settings, dict | list | tuple):
        for one in settings.values() if isinstance(settings, dict) else settings:
            yield from _texts(one)


def _is_dotted(text: str) -> bool:
    return "." in text and all(map(str.isidentifier, text.split(".")))
