"""Seeds of chips for fitting and planning, disjoint from the chips for choosing settings and for reported results."""

from __future__ import annotations

from hwaware.chip import VALIDATION_CHIP_SEED_START
from hwaware.hardware.draws import hashed

_HALF = VALIDATION_CHIP_SEED_START // 2


def fitting_chip(seed: int, step: int) -> int:
    """The seed of the chip of one step of a fit."""
    return hashed(repr((seed, step))) % _HALF


def planning_chip(seed: int, number: int) -> int:
    """The seed of one of the chips that a schedule measures on."""
    return _HALF + hashed(repr((seed, number))) % _HALF
