"""Errors that a user can cause, and how they are worded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user gave is wrong; the message says what, in one or two lines.

    The command line prints it without a traceback and exits with 2.
    """


def nearest(name: str, options: Iterable[str]) -> str:
    """A hint that names the closest of ``options``, or all of them when none is close."""
    options = sorted(options)
    close = difflib.get_close_matches(str(name), options, n=1, cutoff=0.5)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Choose one of: {', '.join(options)}." if options else ""
