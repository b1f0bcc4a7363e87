"""Custom networks that a user's file registers in timm, named by module: ``own_network.small_digits``."""

from __future__ import annotations

import sys
from importlib import import_module

import timm

from hwaware.errors import UserError, nearest


def registered(name: str) -> str:
    """The network's name in timm; imports the module of a dotted name.

    Only for names that a user or a recipe gives, never for names in weight files or bundles.

    Raises:
        UserError: the module registers no such network.
    """
    module, _, own = name.rpartition(".")
    if not module or timm.is_model(name.partition(".")[0]) or not all(map(str.isidentifier, name.split("."))):
        return name  # a timm name, with or without a tag, or a hub name
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise UserError(
                f"network '{name}': {module} needs the module '{error.name}', which is not installed."
            ) from None
        hint = nearest(name, timm.list_models())
        raise UserError(f"unknown network '{name}': there is no {module}.py here, and none in timm. {hint}") from None
    if not timm.is_model(own):
        there = hasattr(sys.modules[module], own)
        hint = nearest(own, timm.list_models(module=module.rpartition(".")[2]))
        hint = "Put @timm.models.register_model above it." if there else hint
        raise UserError(f"network '{name}': {module} registers no network '{own}' in timm. {hint}".rstrip())
    return own
