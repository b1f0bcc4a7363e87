"""C functions: compiled by the system's C compiler, once for a machine, and loaded.

What a compiler made is kept in ``$XDG_CACHE_HOME/hwaware/native`` (``~/.cache/…``), for each source, compiler and
processor.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from ctypes import CDLL
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory

#: By function the types of its arguments; none gives anything back.
Signatures = Mapping[str, Sequence[type]]

_FLAGS = ["-std=gnu11", "-O3", "-fPIC", "-shared"]
_SECONDS = 120  # that a compiler is given


def compiled(source: Path, signatures: Signatures, flags: Sequence[str] = (), about: str = "") -> CDLL:
    """The functions of a source, for this very processor; about half a second where they are not kept.

    Args:
        source: a C file.
        signatures: what it has.
        flags: of the compiler, besides the usual ones.
        about: whatever else decides what the compiler makes, such as the version of a header.

    Raises:
        OSError: there is no compiler, it fails, or what it made does not load; with the reason in a line.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or [_found()]
    native = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
    command = [*compiler, *_FLAGS, native, *flags]
    name = _digest(source, [*command, _run([*compiler, "--version"]), about, _processor()])
    for kept in _cache().glob(f"{name}-*.so"):
        if kept.stem == f"{name}-{_digest_of(kept.read_bytes())}":  # whole: part of one would end the process
            return _loaded(kept, signatures)
    with TemporaryDirectory() as folder:
        made = Path(folder) / "made.so"
        _run([*command, str(source), "-o", str(made), "-lm"])
        try:
            return _loaded(_keep(made, _cache() / f"{name}-{_digest_of(made.read_bytes())}.so"), signatures)
        except OSError:  # no room, or not ours to write
            return _loaded(made, signatures)


def _found() -> str:
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return found
    raise OSError("there is no C compiler: no cc, gcc or clang")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hwaware" / "native"


def _digest(source: Path, texts: Sequence[str]) -> str:
    return _digest_of(source.read_bytes() + "\0".join(texts).encode())


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


def _loaded(path: Path, signatures: Signatures) -> CDLL:
    found = CDLL(str(path))
    for name, arguments in signatures.items():
        function = getattr(found, name, None)
        if function is None:
            raise OSError(f"{path} lacks {name}")
        function.argtypes, function.restype = arguments, None
    return found
