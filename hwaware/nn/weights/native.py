"""The functions of ``native.c``: compiled by the system's C compiler, once for a machine, and loaded.

A compiler takes about half a second; what it made is kept in ``$XDG_CACHE_HOME/hwaware/native`` (``~/.cache/…``), for
each source, compiler and processor.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL, c_double, c_int32, c_int64, c_uint64, c_void_p
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory

import torch
from torch import Tensor

#: What the compiler may do that IEEE arithmetic forbids: sum in any order, round a product and a sum at once, leave
#: exception flags alone. NaNs and infinities stay what they are.
_FLAGS = [
    *("-std=c11", "-O3", "-fPIC", "-shared", "-ffp-contract=fast"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
]
_SOURCE = Path(__file__).with_suffix(".c")
_SECONDS = 120  # that a compiler is given

_AT, _N, _INT, _NUMBER = c_void_p, c_int64, c_int32, c_double
_RANGE = (_N, _N, _N, _N)  # size, length of a segment, first segment, that after the last
_ARGUMENTS: dict[str, tuple[type, ...]] = {
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
        OSError: there is no compiler, it fails, or what it made does not load; with the reason in a line.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or [_found()]
    flags = [*_FLAGS, "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"]
    name = _digest(compiler, flags)
    for kept in _cache().glob(f"{name}-*.so"):
        if kept.stem == f"{name}-{_digest_of(kept.read_bytes())}":  # whole: part of one would end the process
            return _loaded(kept)
    with TemporaryDirectory() as folder:
        made = Path(folder) / "native.so"
        _run([*compiler, *flags, str(_SOURCE), "-o", str(made), "-lm"])
        try:
            return _loaded(_keep(made, _cache() / f"{name}-{_digest_of(made.read_bytes())}.so"))
        except OSError:  # no room, or not ours to write
            return _loaded(made)


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


def _found() -> str:
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return found
    raise OSError("there is no C compiler: no cc, gcc or clang")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hwaware" / "native"


def _digest(compiler: list[str], flags: list[str]) -> str:
    """Of all that decides what the compiler makes."""
    texts = (*compiler, _run([*compiler, "--version"]), *flags, _processor())
    return _digest_of(_SOURCE.read_bytes() + "\0".join(texts).encode())


def _digest_of(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _processor() -> str:
    """What tells apart processors of which one may not run the other's instructions: homes may be shared."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise OSError(f"{command[0]} took over {_SECONDS} s") from None
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or [""]
        raise OSError(f"{command[0]} failed: {told[0].strip()}")
    return done.stdout


def _keep(made: Path, kept: Path) -> Path:
    """Moves a file to where it is kept, whole or not at all: other processes may do so, too."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=kept.parent, delete=False) as file:
        file.write(made.read_bytes())
    os.replace(file.name, kept)
    return kept


def _loaded(path: Path) -> CDLL:
    found = CDLL(str(path))
    for name, arguments in _ARGUMENTS.items():
        function = getattr(found, name, None)
        if function is None:
            raise OSError(f"{path} lacks {name}")
        function.argtypes, function.restype = arguments, None
    found.hwaware_keep_memory()
    return found
