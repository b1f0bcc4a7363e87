"""Whether a checkpoint is of the run that a recipe describes: its latent weights mean something under that one only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from hwaware.errors import UserError
from hwaware.hardware import placement_from_plain


def refuse_other_run(
    saved: Mapping[str, Any], network_name: str, hardware: dict[str, Any] | None, network: nn.Module
) -> None:
    """Raises UserError where a checkpoint is of another network, or of one on other hardware.

    Args:
        saved: what the checkpoint says: ``network`` (its name) and ``hardware``.
        network_name, hardware: the recipe's; see :attr:`hwaware.tasks.HardwareAwareTask.hardware_plain`.
        network: whose layers are held.
    """
    _refuse("network", saved.get("network"), network_name)
    theirs = saved.get("hardware")
    if theirs is None or hardware is None:
        _refuse("hardware", theirs, hardware)
        return
    names = [name for name, _ in network.named_modules()]
    placement, mine = placement_from_plain(theirs), placement_from_plain(hardware)
    same = placement.assign(names) == mine.assign(names)  # however it is said
    if not same or theirs["corrected"] != hardware["corrected"]:
        _refuse("hardware", {**placement.plain(), "corrected": theirs["corrected"]}, hardware)


def _refuse(what: str, saved: Any, mine: Any) -> None:
    """Raises UserError where a checkpoint's network or hardware is not the recipe's."""
    if saved != mine:
        raise UserError(
            f"the checkpoint is of another {what}, so its latent weights would mean something else.\n"
            f"{_difference(saved, mine)}. The run's own config.yaml has what it began with."
        )


def _difference(saved: Any, mine: Any, name: str = "") -> str:
    """Where a checkpoint and a recipe differ, in words."""
    if isinstance(saved, list) and isinstance(mine, list) and len(saved) == len(mine):  # of layers' rules
        saved, mine = (dict(enumerate(one, start=1)) for one in (saved, mine))
    if isinstance(saved, dict) and isinstance(mine, dict):
        keys = [key for key in {**saved, **mine} if saved.get(key) != mine.get(key)]
        return "; ".join(_difference(saved.get(key), mine.get(key), f"{key}: ") for key in keys)
    return f"{name}checkpoint {saved}, recipe {mine}"
