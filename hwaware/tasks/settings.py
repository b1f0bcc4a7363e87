"""Checks of a task's settings."""

from __future__ import annotations

from typing import Any

from hwaware.errors import UserError, nearest
from hwaware.training import WAYS, check_rates


def check_settings(
    *,
    hardware: Any,
    noise: Any,
    retention: Any,
    bias: Any,
    clip_alpha: float | None,
    range_learning: Any,
    adapters: Any,
    trainable: str,
    lr_scale: dict[str, float] | None,
    layer_decay: float | None,
    weights_way: str | None,
) -> None:
    """Raises UserError for arguments of :class:`~hwaware.tasks.HardwareAwareTask` that are wrong or contradictory."""
    moving = {"retention": retention, "bias": bias, "clip_alpha": clip_alpha}
    for field, value in {"noise": noise, **moving, "range_learning": range_learning}.items():
        if hardware is None and value is not None:
            raise UserError(
                f"{field} needs a network in memory cells, but there is no hardware: set it, or drop {field}."
            )
    if clip_alpha is not None and not clip_alpha > 0:
        raise UserError(f"clip_alpha={clip_alpha} must be above 0 (2.5 is usual); null turns clipping off.")
    if bias is not None and clip_alpha is not None:
        raise UserError("clip_alpha changes weights that bias has projected: set it to null; a fixed scale clips too.")
    if weights_way is not None and weights_way not in WAYS:
        raise UserError(f"weights_way '{weights_way}' is unknown. {nearest(weights_way, WAYS)}")
    if trainable not in ("all", "norms"):
        raise UserError(f"trainable '{trainable}' is unknown. {nearest(trainable, ('all', 'norms'))}")
    for field, value in moving.items():
        if trainable == "norms" and value is not None:
            raise UserError(f"{field} changes weights, which trainable 'norms' freezes: set it to null.")
        if adapters is not None and value is not None:
            raise UserError(f"{field} changes weights, which adapters freeze: set it to null.")
    if adapters is not None and trainable != "all":
        raise UserError(f"trainable '{trainable}': with adapters, nothing else is trained; leave one of the two out.")
    check_rates(lr_scale, layer_decay)
