"""Random streams keyed by their purpose, the same on every machine."""

from __future__ import annotations

import hashlib

import torch


def hashed(key: str) -> int:
    """A hash in [0, 2⁶⁴) of a key."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def seed_of(key: str) -> int:
    """A seed in [0, 2⁶³) for torch's generators, which take signed integers."""
    return hashed(key) >> 1


def stream(key: str, torch_device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for the random stream of a key."""
    return torch.Generator(torch_device).manual_seed(seed_of(key))
