"""The functions of ``native.c``, compiled and loaded, and how threads share their work."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL, c_double, c_int32, c_int64, c_uint64, c_void_p
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from hwaware.compiling import Signatures, compiled

#: What the compiler may do that IEEE arithmetic forbids: sum in any order, round a product and a sum at once, leave
#: exception flags alone. NaNs and infinities stay what they are.
_FLAGS = ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"]

_AT, _N, _INT, _NUMBER = c_void_p, c_int64, c_int32, c_double
_RANGE = (_N, _N, _N, _N)  # size, length of a segment, first segment, that after the last
_SIGNATURES: Signatures = {
    "hwaware_keep_memory": (),
    "hwaware_gaussians": (c_uint64, _N, _AT),
    "hwaware_scales": (_AT, *_RANGE, _AT),
    "hwaware_one_scale": (_N, _AT),
    "hwaware_forward": (_AT, _AT, *_RANGE, _AT, c_uint64, _INT, _INT, _AT, _AT),
    "hwaware_ratio": (_N, _AT, _AT, _AT),
    "hwaware_backward": (_AT, _AT, _AT, _AT, *_RANGE, _AT, _NUMBER, _NUMBER, _INT, _INT, _AT, _AT),
    "hwaware_shares": (_N, _INT, _AT, _AT, _AT, _NUMBER, _NUMBER, _AT),
    "hwaware_add_at_peaks": (_AT, _AT, *_RANGE, _AT, _AT),
}


@cache
def library() -> CDLL:
    """The functions.

    Raises:
        OSError: see :func:`hwaware.compiling.compiled`.
    """
    found = compiled(Path(__file__).with_suffix(".c"), _SIGNATURES, _FLAGS)
    found.hwaware_keep_memory()
    return found


def gaussians(key: int, size: int) -> Tensor:
    """The standard Gaussians that weights 0 to ``size - 1`` of a layer get by a key of 64 bits, fp32 ``[size]``."""
    z = torch.empty(size)
    library().hwaware_gaussians(key, size, z.data_ptr())
    return z


def over(segments: int, call: Callable[[int, int], None], size: int) -> None:
    """Shares ``segments`` of ``size`` numbers among as many threads as torch uses; ``call`` is given a first segment
    and the one after the last, and has to let others run."""
    threads = min(torch.get_num_threads(), segments, -(-size // _SMALL))
    if threads == 1:
        call(0, segments)
        return
    ends = [segments * i // threads for i in range(threads + 1)]
    pool = _pool(torch.get_num_threads() - 1, os.getpid())
    others = [pool.submit(call, *pair) for pair in pairwise(ends[1:])]
    call(ends[0], ends[1])
    for one in others:
        one.result()


_SMALL = 65_536  # numbers that one thread has done by the time that another one wakes


@lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="hwaware")
