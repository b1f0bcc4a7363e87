"""Random numbers that follow from what they are for, the same on every machine."""

from __future__ import annotations

import hashlib

import torch


def hashed(key: str) -> int:
    """A whole number in [0, 2⁶⁴) that (but for chance) differs between different keys."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def seed_of(key: str) -> int:
    """A seed for torch's generators, which take signed ones, in [0, 2⁶³)."""
    return hashed(key) >> 1


def stream(key: str, torch_device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of the random numbers that a key names."""
    return torch.Generator(torch_device).manual_seed(seed_of(key))
