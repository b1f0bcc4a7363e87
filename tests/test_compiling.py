"""C functions: compiled once, kept whole, and said in a line where that fails."""

from ctypes import c_int64, c_void_p

import pytest

from hwaware import compiling

SOURCE = "#include <stdint.h>\nvoid twice(int64_t n, float *x) { for (int64_t i = 0; i < n; i++) x[i] *= 2; }\n"


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """Compiles a small source, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "twice.c"
    source.write_text(SOURCE)
    return lambda name="twice": compiling.compiled(source, {name: (c_int64, c_void_p)})


def with_compiler(test):
    return pytest.mark.skipif(not any(map(compiling.shutil.which, ("cc", "gcc", "clang"))), reason="no compiler")(test)


@with_compiler
def test_compiled_once_and_kept(compiled, monkeypatch, tmp_path):
    compiled()
    (kept,) = tmp_path.rglob("*.so")
    run, commands = compiling._run, []
    monkeypatch.setattr(compiling, "_run", lambda command: commands.append(command) or run(command))
    compiled()
    assert [command[-1] for command in commands] == ["--version"]
    whole = kept.read_bytes()
    kept.unlink()
    kept.write_bytes(whole[:1000])
    assert compiled().twice and len(commands) == 3
    with pytest.raises(OSError, match="lacks thrice"):
        compiled("thrice")


@with_compiler
def test_where_nothing_can_be_kept(compiled, tmp_path):
    (tmp_path / "cache").touch()
    assert compiled().twice


def test_without_a_compiler(compiled, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(OSError, match="there is no C compiler: no cc, gcc or clang"):
        compiled()
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    with pytest.raises(OSError, match="none"):
        compiled()


def test_a_compiler_that_fails(compiled, monkeypatch, tmp_path):
    compiler = tmp_path / "cc"
    lines = "[ $1 = --version ] || { echo in file x.c: >&2; echo error: no such flag >&2; exit 1; }"
    compiler.write_text(f"#!/bin/sh\n{lines}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(OSError, match=r"cc failed: error: no such flag$"):
        compiled()
    assert not list(tmp_path.rglob("*.so"))
