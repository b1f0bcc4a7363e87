"""Makes the lines of cases."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.golden.cases import CASES
from tests.golden.files import read
from tests.golden.workplace import ROOT, Workplace

SCRIPT = ROOT / "scripts" / "golden_rows.py"


def make(names: Iterable[str], folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Each case's lines.

    Raises:
        RuntimeError: a case failed, or has two lines of one key.
    """
    place = Workplace(folder)
    for name in names:
        said, started, lines = io.StringIO(), time.monotonic(), {}
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                for key, value in CASES[name](place, name):
                    if key in lines:
                        raise RuntimeError(f"two lines of case {name} have the key '{key}'")
                    lines[key] = value
        except Exception:
            print(said.getvalue()[-3000:], file=sys.stderr)
            raise
        print(f"{name:32} {len(lines):5} lines {time.monotonic() - started:6.1f} s", file=sys.stderr, flush=True)
        yield name, lines


def make_all(names: list[str], folder: Path, jobs: int) -> dict[str, dict[str, str]]:
    """Each case's lines, made by several processes, each with its share of the cases."""
    if jobs == 1:
        return dict(make(names, folder))
    parts, started = [folder / str(number) / "rows.csv" for number in range(jobs)], []
    for number, part in enumerate(parts):
        if own := [f"--only={name}" for name in names[number::jobs]]:
            command = [sys.executable, SCRIPT, "--jobs", "1", "--out", part, *own]
            started.append(subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL))
    if any([process.wait() for process in started]):
        raise SystemExit("golden_rows: a case failed, see above")
    found = {name: lines for part in parts if part.exists() for name, lines in read(part).items()}
    return {name: found[name] for name in names}
