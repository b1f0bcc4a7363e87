"""Names that users give to runs, networks, devices and data. They become file names and table cells."""

from __future__ import annotations

import re

from hwaware.errors import UserError

#: The first character is a letter, digit or underscore: a spreadsheet takes "=", "+", "-" or "@" for a formula, a shell
#: "-" for an option. No character may lead to another folder or have a meaning in Markdown.
_NAME = re.compile(r"\w[\w .,:+()&=@%-]{0,99}")


def check_name(name: str, what: str) -> str:
    """Returns a valid name.

    Args:
        name: name to check.
        what: what it names, for the message.

    Raises:
        UserError: the name has other characters, or too many.
    """
    if _NAME.fullmatch(name):
        return name
    shown = name if len(name) <= 40 else f"{name[:40]}…"
    suggested = re.sub(r"[^\w .,:+()&=@%-]+", "_", name).lstrip(" .,:+()&=@%-")[:100] or "run"
    raise UserError(
        f"{what} {shown!r} is not a valid name. A name has up to 100 letters, digits and ' _.,:+()&=@%-', and starts "
        f"with a letter or digit, such as '{suggested}'."
    )
