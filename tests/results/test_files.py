"""Files and folders are there whole, or not at all."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from hwaware.errors import UserError
from hwaware.results.files import new_folder, replacing, replacing_together


def test_a_folder_is_there_when_it_is_full(tmp_path):
    with new_folder(tmp_path / "deep" / "out") as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "deep" / "out").exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    assert (tmp_path / "deep" / "out" / "a.txt").read_text() == "a"


def test_nothing_is_left_of_one_that_fails(tmp_path):
    with pytest.raises(RuntimeError, match="half-way"), new_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("a")
        raise RuntimeError("half-way")
    assert not any(tmp_path.iterdir())


def test_files_that_go_together_are_all_new_or_all_old(tmp_path):
    for text in ("old", "new"):
        with replacing_together(tmp_path / "out") as folder:
            for name in ("a.txt", "b.txt"):
                (folder / name).write_text(text)
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {"a.txt": "new", "b.txt": "new"}
    with pytest.raises(RuntimeError, match="half-way"), replacing_together(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("half")
        raise RuntimeError("half-way")
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {"a.txt": "new", "b.txt": "new"}


def test_files_do_not_take_a_folder_s_place(tmp_path):
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match=r"'.*b' can't be written: it is a folder"):
        with replacing_together(tmp_path) as folder:
            for name in "abc":
                (folder / name).write_text(name)
    assert [file.name for file in tmp_path.iterdir()] == ["b"]


def test_threads_that_write_leave_the_umask_alone(tmp_path, monkeypatch):
    """Setting it to learn it holds for all threads, and for the processes that they start meanwhile."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was changed"))

    def write(number):
        with replacing(tmp_path / f"{number}.txt") as file:
            file.write(b"x")
        with new_folder(tmp_path / f"{number}"):
            pass
        return [(tmp_path / name).stat().st_mode & 0o777 for name in (f"{number}.txt", f"{number}")]

    with ThreadPoolExecutor(4) as pool:
        modes = list(pool.map(write, range(20)))
    monkeypatch.undo()
    mask = os.umask(0o022)
    os.umask(mask)
    assert modes == [[0o666 & ~mask, 0o777 & ~mask]] * 20
