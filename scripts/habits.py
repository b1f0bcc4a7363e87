"""The table of tests/test_habits.py: each case, and whether it passed before and passes now; results/habits/README.md.

    python scripts/habits.py [--new]

"Before" is the last commit before users' habits were worked on. The same tests run with its package, in a temporary
copy. A row of results/habits/habits.csv is one case; --new runs the missing cases and keeps the others.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "results" / "habits"
BEFORE = "c8932f1"

_HEAD = """# Files, networks and habits of users

Each line is one case of tests/test_habits.py: a file, network or habit of users; the first column numbers its kind.
*Before* is commit {before}, the last one before such habits were worked on; *now* is the commit in the last column. The
same tests ran on both: `python scripts/habits.py` makes this page and habits.csv.

{found}
"""


def main(arguments: Sequence[str]) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.test_habits import HABITS

    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True)
    now, before, file = head.stdout.strip(), BEFORE, FOLDER / "habits.csv"
    kept = {}
    if "--new" in arguments:
        with file.open(newline="", encoding="utf-8") as rows:
            kept = {row["tried"]: row for row in csv.DictReader(rows)}
    tried = [name for name, (_, words, _) in HABITS.items() if words not in kept]
    with tempfile.TemporaryDirectory() as scratch:
        archive = subprocess.run(
            ["git", "archive", before, "hwaware"], cwd=ROOT, check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", scratch], input=archive, check=True)
        for name in ("tests", "scripts", "recipes", "examples"):
            shutil.copytree(ROOT / name, Path(scratch, name))
        shutil.copy(ROOT / "pyproject.toml", scratch)
        held = outcomes(Path(scratch), tried)
    holds = outcomes(ROOT, tried)
    lines = [
        kept.get(words)
        or {"part": part, "tried": words, "before": held.get(name, "no"), "now": holds.get(name, "no"), "commit": now}
        for name, (part, words, _) in sorted(HABITS.items(), key=lambda one: one[1][0])
    ]
    FOLDER.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as rows:
        table = csv.DictWriter(rows, list(lines[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(lines)
    count = {when: sum(line[when] == "yes" for line in lines) for when in ("before", "now")}
    found = f"{count['before']} of {len(lines)} held before, {count['now']} hold now."
    page = _HEAD.format(before=before, found=found)
    page += "\n| part | tried | held before | holds now | tried at |\n| ---: | --- | --- | --- | --- |\n"
    page += "".join(f"| {' | '.join(map(str, line.values()))} |\n" for line in lines)
    (FOLDER / "README.md").write_text(page, encoding="utf-8")
    print(found, FOLDER / "README.md", sep="\n")


def outcomes(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Of each of some cases ``yes`` or ``no``, with the package in a folder."""
    cases = [f"tests/test_habits.py::test_habit[{name}]" for name in names]
    options = ["-n", "0", "-p", "no:cacheprovider", "--noconftest", "-rA", "-q"]  # its fixtures are of today's package
    command = [sys.executable, "-m", "pytest", *options, *cases]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    printed = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True).stdout
    marks = re.findall(r"^(PASSED|FAILED) \S*test_habit\[(\w+)\]", printed, flags=re.MULTILINE)
    if not marks:
        raise SystemExit(printed[-2000:])
    return {name: "yes" if mark == "PASSED" else "no" for mark, name in marks}


if __name__ == "__main__":
    main(sys.argv[1:])
