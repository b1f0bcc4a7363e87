"""A griffe extension that turns Sphinx roles in docstrings, ``:func:`~hwaware.convert` ``, into links of the site.

Only documented names become links. tests/test_references.py checks that the names exist.
"""

from __future__ import annotations

import html
import re
from typing import Any

from griffe import Extension, GriffeError, Object

_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):`(~?)([^`]*)`")
_CODE = re.compile(r"``([^`]+)``")


class Roles(Extension):
    """Rewrites each docstring once, when it is read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Of any module, class, function or attribute."""
        if obj.docstring is None:
            return

        def link(role: re.Match[str]) -> str:
            short, name = role[1], role[2]
            shown = name.rsplit(".", 1)[-1] if short else name
            return f'<autoref identifier="{_path(obj, name)}" optional><code>{html.escape(shown)}</code></autoref>'

        obj.docstring.value = _CODE.sub(r"`\1`", _ROLE.sub(link, obj.docstring.value))


def _path(obj: Object, name: str) -> str:
    """The full path of a name as it is used in an object's docstring."""
    first, _, rest = name.partition(".")
    if first == "hwaware":
        return name
    scope: Any = obj
    while scope is not None:
        if first in getattr(scope, "members", {}):
            return f"{scope.path}.{name}"
        scope = scope.parent
    try:
        resolved = obj.resolve(first)
    except GriffeError:
        return name
    return f"{resolved}.{rest}" if rest else resolved
