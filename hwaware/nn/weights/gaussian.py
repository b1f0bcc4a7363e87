"""Standard Gaussian values for the training noise, cheap enough to draw one per weight in every step.

Torch draws Gaussians on the CPU one after the other (about 3.5 ns a value), which alone would be most of the cost of
hardware-aware training. Here they are read from a fixed pool instead: a draw is a *view* of the pool from a random
offset on, so that it costs nothing beyond reading memory. The offset comes from torch's global generator: the same seed
gives the same noise, and activation checkpointing, which restores that generator, recomputes the same noise.

A layer reads the pool's beginning, as a ring of about its own size: the pool is as large as the largest layer needs,
and what a layer draws depends on its size and the seed alone, so that a resumed run draws what it would have drawn.

Why that does no harm: a weight's noise is still a standard Gaussian (each chunk of the pool has a value from every
part of the distribution, mean 0 and variance 1, so that a small ring has no sampling error of its own), independent
between the weights of a layer as long as that is no larger than LARGEST, and two draws are aligned with probability
8 / 2^19 at most; at any other alignment their correlation is that of independent values. :func:`fresh_gaussian`
switches to torch's own draws, to measure this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

POOL_SEED = 20_260_322
CHUNK = 2**16  # values by which the pool grows
SMALLEST, LARGEST = 2**19, 2**22  # values of a ring: 1 and 8 MB
ALIGNMENT = 8  # offsets are multiples of it: of 16 bytes

_fresh = False
_pool = torch.empty(0, dtype=torch.float16, device="cpu")


@contextmanager
def fresh_gaussian() -> Iterator[None]:
    """Within this context torch draws every value anew: the slow reference for the pool."""
    global _fresh
    before, _fresh = _fresh, True
    try:
        yield
    finally:
        _fresh = before


def pool(size: int) -> Tensor:
    """The first values of the pool, a whole number of chunks; fp16, never to be written.

    Half precision rounds a value by a thousandth at most, which no moment shows, and is half the memory.
    """
    global _pool
    if len(_pool) < size:
        with torch.inference_mode(False):  # whatever mode the first caller is in
            if not len(_pool):
                _keep_memory()
            grown = _pool.new_empty(size)  # not by cat(): on the CPU autocast has it fail
            grown[: len(_pool)] = _pool
            for k in range(len(_pool) // CHUNK, size // CHUNK):
                grown[k * CHUNK : (k + 1) * CHUNK] = _chunk(k)
            _pool = grown
    return _pool[:size]


def clear_pool() -> None:
    """Lets go of the pool's memory; the next draw makes it anew, as it was."""
    global _pool
    _pool = _pool[:0].clone()


def _chunk(number: int) -> Tensor:
    """One value from each of CHUNK equally likely parts of the distribution, in random order."""
    generator = torch.Generator().manual_seed(POOL_SEED + number)
    uniform = torch.rand(CHUNK, dtype=torch.float64, generator=generator, device="cpu")
    part = torch.randperm(CHUNK, generator=generator, device="cpu")
    values = torch.special.ndtri((part + uniform) / CHUNK)
    values -= values.mean()
    return (values / values.std(correction=0)).half()


def _keep_memory() -> None:
    """Has glibc keep blocks of up to 10 MB from step to step: the largest weight of a ResNet18 or a BERT-base.

    It does so for blocks as large as one that was freed. Page faults on each layer's weights would cost more than the
    noise. (This block is not touched, so that it takes no memory.)
    """
    torch.empty(2_500_000, device="cpu")


def gaussian_blocks(sizes: Iterable[int], device: torch.device) -> Iterator[Tensor]:
    """One flat tensor of standard Gaussian values for each entry of ``sizes``, all independent of each other.

    On the CPU they are read-only views of the pool, in fp16, taken as a ring: block after block from a random start.
    After a whole lap a new start is drawn, so that a layer may be larger than the ring. On other devices torch draws
    them, in fp32.
    """
    sizes = list(sizes)
    if _fresh or device.type != "cpu":
        for size in sizes:
            yield torch.randn(size, device=device)
        return
    length = min(max(-(-sum(sizes) // CHUNK) * CHUNK, SMALLEST), LARGEST)
    values = pool(length)
    left = 0  # of this lap
    for size in sizes:
        if size > left:
            start = ALIGNMENT * int(torch.randint(length // ALIGNMENT, (), device="cpu"))
            left = length
        yield values[start : start + size] if start + size <= length else _over_the_end(values, start, size)
        start, left = (start + size) % length, left - size


def _over_the_end(values: Tensor, start: int, size: int) -> Tensor:
    """Values of a ring; they repeat only where a block alone is larger than that."""
    parts, found = [values[start:]], values.new_empty(size)  # not by cat(), as above
    parts += [values] * -(-(size - len(parts[0])) // len(values))
    at = 0
    for part in parts:
        room = found[at : at + len(part)]
        room.copy_(part[: len(room)])
        at += len(part)
    return found
