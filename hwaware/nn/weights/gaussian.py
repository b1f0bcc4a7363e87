"""Standard Gaussian values for the training noise, cheap enough to draw one per weight in every step.

On the CPU torch draws Gaussians serially (about 3.5 ns a value), which would be most of the cost of hardware-aware
training. Here they come from a fixed pool: a draw is a *view* of the pool at a random offset, so that it costs only
memory reads. The offset comes from torch's global generator: the same seed gives the same noise, and activation
checkpointing, which restores that generator, recomputes the same noise.

A layer reads the beginning of the pool as a ring of about its own size. The pool is as large as the largest layer
needs. A layer's draw depends only on its size and the seed, so that a resumed run draws the same values.

The noise stays correct. A weight's noise is a standard Gaussian: each chunk of the pool has a value from every part of
the distribution, mean 0 and variance 1, so that a small ring has no sampling error. The noise of a layer's weights is
independent as long as the layer is no larger than LARGEST. Two draws are aligned with probability 8 / 2^19 at most; at
any other alignment they correlate like independent values. :func:`fresh_gaussian` switches to torch's own draws, to
measure this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

POOL_SEED = 20_260_322
CHUNK = 2**16  # values by which the pool grows
SMALLEST, LARGEST = 2**19, 2**22  # smallest and largest ring: 1 and 8 MB
ALIGNMENT = 8  # offsets are multiples of it (16 bytes)

_fresh = False
_pool = torch.empty(0, dtype=torch.float16, device="cpu")


@contextmanager
def fresh_gaussian() -> Iterator[None]:
    """In this context torch draws every value: the slow reference for the pool."""
    global _fresh
    before, _fresh = _fresh, True
    try:
        yield
    finally:
        _fresh = before


def pool(size: int) -> Tensor:
    """The first values of the pool, a whole number of chunks, in fp16. Do not write to them.

    Half precision rounds a value by a thousandth at most, which no moment shows, and halves the memory.
    """
    global _pool
    if len(_pool) < size:
        with torch.inference_mode(False):  # whatever mode the first caller is in
            if not len(_pool):
                _keep_memory()
            grown = _pool.new_empty(size)  # not by cat(), which fails under autocast on the CPU
            grown[: len(_pool)] = _pool
            for k in range(len(_pool) // CHUNK, size // CHUNK):
                grown[k * CHUNK : (k + 1) * CHUNK] = _chunk(k)
            _pool = grown
    return _pool[:size]


def clear_pool() -> None:
    """Frees the pool's memory; the next draw makes the same pool again."""
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
    """Makes glibc keep blocks of up to 10 MB between steps: the largest weight of a ResNet18 or a BERT-base.

    It keeps blocks up to the size of one that was freed. Page faults on each layer's weights would cost more than the
    noise. (This block is never written, so it takes no memory.)
    """
    torch.empty(2_500_000, device="cpu")


def gaussian_blocks(sizes: Iterable[int], device: torch.device) -> Iterator[Tensor]:
    """One flat tensor of independent standard Gaussian values for each entry of ``sizes``.

    On the CPU they are read-only views of the pool in fp16, read as a ring, block after block from a random start.
    After a whole lap a new start is drawn, so that a layer may be larger than the ring. On other torch devices, torch
    draws them in fp32.
    """
    sizes = list(sizes)
    if _fresh or device.type != "cpu":
        for size in sizes:
            yield torch.randn(size, device=device)
        return
    length = min(max(-(-sum(sizes) // CHUNK) * CHUNK, SMALLEST), LARGEST)
    values = pool(length)
    left = 0  # values of this lap
    for size in sizes:
        if size > left:
            start = ALIGNMENT * int(torch.randint(length // ALIGNMENT, (), device="cpu"))
            left = length
        yield values[start : start + size] if start + size <= length else _over_the_end(values, start, size)
        start, left = (start + size) % length, left - size


def _over_the_end(values: Tensor, start: int, size: int) -> Tensor:
    """Values of a ring; they repeat only if a single block is larger than the ring."""
    parts, found = [values[start:]], values.new_empty(size)  # not by cat(), as above
    parts += [values] * -(-(size - len(parts[0])) // len(values))
    at = 0
    for part in parts:
        room = found[at : at + len(part)]
        room.copy_(part[: len(room)])
        at += len(part)
    return found
