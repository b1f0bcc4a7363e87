"""Standard Gaussian values for the training noise, cheap enough to draw one per weight in every step.

Torch draws Gaussians on the CPU one after the other (about 3.5 ns a value), which alone would be most of the cost of
hardware-aware training. Here they are read from a fixed pool instead: a draw is a *view* of the pool from a random
offset on, so that it costs nothing beyond reading memory. The offset comes from torch's global generator: the same seed
gives the same noise, and activation checkpointing, which restores that generator, recomputes the same noise.

Why that does no harm: a weight's noise is still a standard Gaussian (the pool is standardised, so that not even its
sampling error in mean and variance remains), independent between the weights of a layer as long as the layer is not
larger than the pool, and two draws are aligned with probability 16 / 2^22 only; at any other alignment their
correlation is that of independent values. :func:`fresh_gaussian` switches to torch's own draws, to measure this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

POOL_SEED = 20_260_322
POOL_SIZE = 2**22  # 16 MB: more values than the largest layer of a ResNet18 or a BERT-base has, and still cheap to hold
ALIGNMENT = 16  # offsets are multiples of a cache line (64 bytes), so that vector loads do not straddle two

_fresh = False


@contextmanager
def fresh_gaussian() -> Iterator[None]:
    """Within this context torch draws every value anew: the slow reference for the pool."""
    global _fresh
    before, _fresh = _fresh, True
    try:
        yield
    finally:
        _fresh = before


@lru_cache(maxsize=1)
def pool() -> Tensor:
    """The pool: POOL_SIZE float32 values of mean 0 and variance 1 (to rounding). Made once; never to be written."""
    with torch.inference_mode(False):  # whatever mode the first caller is in
        generator = torch.Generator().manual_seed(POOL_SEED)
        values = torch.randn(POOL_SIZE, generator=generator, device="cpu")
        # Not in place: that blocks of this size were freed makes glibc keep such memory from step to step rather than
        # return it, and page faults on every layer's weights would cost more than the noise.
        values = values - values.mean()
        return values / values.std(correction=0)


def gaussian_blocks(sizes: Iterable[int], device: torch.device) -> Iterator[Tensor]:
    """One flat float32 tensor of standard Gaussian values for each entry of ``sizes``, all independent of each other.

    On the CPU they are read-only views of the pool, taken as a ring: block after block from a random start. After a
    whole lap a new start is drawn, so that a layer may be larger than the pool. On other devices torch draws them.
    """
    if _fresh or device.type != "cpu":
        for size in sizes:
            yield torch.randn(size, device=device)
        return
    values = pool()
    left = 0  # of this lap
    for size in sizes:
        if size > left:
            start = ALIGNMENT * int(torch.randint(POOL_SIZE // ALIGNMENT, (), device="cpu"))
            left = POOL_SIZE
        block = values[start : start + size]
        if len(block) < size:  # over the end of the ring; repeats only where one block alone is larger than the pool
            rest = size - len(block)
            block = torch.cat((block, *([values] * (rest // POOL_SIZE)), values[: rest % POOL_SIZE]))
        yield block
        start, left = (start + size) % POOL_SIZE, left - size
