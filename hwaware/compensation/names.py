"""Names of methods in files, and lookup by name."""

from __future__ import annotations

from hwaware.compensation.base import Compensation
from hwaware.errors import UserError, nearest


def name_in_files(method: type[Compensation]) -> str:
    """The name of its class; ``module.Class`` for a custom method."""
    own = method.__module__.startswith(f"{__package__}.")
    return method.__name__ if own else f"{method.__module__}.{method.__qualname__}"


def method_named(name: str) -> type[Compensation]:
    """Looks up a method by its name in files.

    Raises:
        UserError: the method is unknown. A custom method must have been imported before. This function never imports
            one, because a downloaded file could name any module.
    """
    known, classes = {}, Compensation.__subclasses__()
    while classes:
        cls = classes.pop()
        classes += cls.__subclasses__()
        known[name_in_files(cls)] = cls
    if name not in known:
        hint = "Import its module first." if "." in str(name) else nearest(str(name), known)
        raise UserError(f"there is no method '{name}'. {hint}".rstrip())
    return known[name]
