"""Checks that a checkpoint belongs to the network and hardware of a recipe; otherwise its latent weights are wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from hwaware.errors import UserError
from hwaware.hardware import placement_from_plain


def refuse_other_run(
    saved: Mapping[str, Any], network_name: str, hardware: dict[str, Any] | None, network: nn.Module
) -> None:
    """Raises UserError if a checkpoint belongs to another network or other hardware.

    Args:
        saved: the checkpoint's ``network`` (its name) and ``hardware``.
        network_name, hardware: those of the recipe; see :attr:`hwaware.tasks.HardwareAwareTask.hardware_plain`.
        network: the network whose layers are compared.
    """
    _refuse("network", saved.get("network"), network_name)
    theirs = saved.get("hardware")
    if theirs is None or hardware is None:
        _refuse("hardware", theirs, hardware)
        return
    names = [name for name, _ in network.named_modules()]
    placement, mine = placement_from_plain(theirs), placement_from_plain(hardware)
    same = placement.assign(names) == mine.assign(names)  # even if it is written differently
    if not same or theirs["corrected"] != hardware["corrected"]:
        _refuse("hardware", {**placement.plain(), "corrected": theirs["corrected"]}, hardware)


def _refuse(what: str, saved: Any, mine: Any) -> None:
    """Raises UserError if a checkpoint's network or hardware differs from the recipe's."""
    if saved != mine:
        raise UserError(
            f"the checkpoint belongs to another {what}, so its latent weights would be wrong here.\n"
            f"{_difference(saved, mine)}. The config.yaml of the run has its settings."
        )


def _difference(saved: Any, mine: Any, name: str = "") -> str:
    """The first difference between a checkpoint and a recipe, in words."""
    if isinstance(saved, list) and isinstance(mine, list) and len(saved) == len(mine):  # rules of layers
        saved, mine = (dict(enumerate(one, start=1)) for one in (saved, mine))
    if isinstance(saved, dict) and isinstance(mine, dict):
        keys = [key for key in {**saved, **mine} if saved.get(key) != mine.get(key)]
        return "; ".join(_difference(saved.get(key), mine.get(key), f"{key}: ") for key in keys)
    return f"{name}checkpoint {saved}, recipe {mine}"
