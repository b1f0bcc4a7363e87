"""The notebooks of docs/tutorials are those of the scripts beside them, and run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SCRIPTS = sorted((ROOT / "docs" / "tutorials").glob("*.py"))


def cells(script: str) -> list[tuple[str, str]]:
    """``(kind, source)`` of each cell of a percent script."""
    parts = re.split(r"^# %%(.*)\n", script, flags=re.MULTILINE)[1:]
    kinds = ["markdown" if "[markdown]" in kind else "code" for kind in parts[::2]]
    texts = (part.strip("\n") for part in parts[1::2])
    return [
        (kind, re.sub(r"^# ?", "", text, flags=re.MULTILINE) if kind == "markdown" else text)
        for kind, text in zip(kinds, texts, strict=True)
    ]


def test_there_are_three():
    assert [script.stem for script in SCRIPTS] == ["readings", "repairs", "survive"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_is_that_of_its_script_with_outputs(script):
    notebook = json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))
    found = [(one["cell_type"], "".join(one["source"]).strip("\n")) for one in notebook["cells"]]
    assert found == cells(script.read_text(encoding="utf-8")), "scripts/tutorials makes it anew"
    outputs = [output for one in notebook["cells"] for output in one.get("outputs", ())]
    assert any("image/png" in output.get("data", ()) for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_it_runs(script, tmp_path):
    pytest.importorskip("IPython", reason="the documentation's extra is not installed: pip install 'hwaware[docs]'")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(tmp_path.rglob("*.png"))
