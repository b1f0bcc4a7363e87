"""What methods are called in files, and finding them by that."""

from __future__ import annotations

from hwaware.compensation.base import Compensation
from hwaware.errors import UserError, nearest


def name_in_files(method: type[Compensation]) -> str:
    """Its class; of a method from elsewhere than this package ``module.Class``."""
    own = method.__module__.startswith(f"{__package__}.")
    return method.__name__ if own else f"{method.__module__}.{method.__qualname__}"


def method_named(name: str) -> type[Compensation]:
    """The method that a file names.

    Raises:
        UserError: it is unknown. A method of one's own is known once its module was imported, which this does not do,
            since a downloaded file may name any.
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
