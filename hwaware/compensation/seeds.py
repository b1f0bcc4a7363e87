"""Chips to fit on and chips to plan by: never those that settings are chosen by, nor those that are reported on."""

from __future__ import annotations

import hashlib

from hwaware.chip import VALIDATION_CHIP_SEED_START

_HALF = VALIDATION_CHIP_SEED_START // 2


def fitting_chip(seed: int, step: int) -> int:
    """The seed of the chip of one step of a fit."""
    return _hash(seed, step) % _HALF


def planning_chip(seed: int, number: int) -> int:
    """The seed of one of the chips that a schedule measures on."""
    return _HALF + _hash(seed, number) % _HALF


def _hash(*key: int) -> int:
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little")
