"""Names that users give to runs, networks, devices and data: they become file names, and cells of tables."""

from __future__ import annotations

import re

from hwaware.errors import UserError

#: Starts with a letter, digit or underscore: a spreadsheet takes "=", "+", "-" or "@" there for a formula, a shell "-"
#: for an option. Nothing that leads to another folder, or means something in Markdown.
_NAME = re.compile(r"\w[\w .,:+()&=@%-]{0,99}")


def check_name(name: str, what: str) -> str:
    """The name.

    Args:
        name: to check.
        what: it is of, for the message.

    Raises:
        UserError: it has none of the characters that names have, or too many.
    """
    if _NAME.fullmatch(name):
        return name
    shown = name if len(name) <= 40 else f"{name[:40]}…"
    suggested = re.sub(r"[^\w .,:+()&=@%-]+", "_", name).lstrip(" .,:+()&=@%-")[:100] or "run"
    raise UserError(
        f"{what} {shown!r} can't be a name: up to 100 letters, digits and ' _.,:+()&=@%-', the first a letter or "
        f"digit. '{suggested}' would do."
    )
