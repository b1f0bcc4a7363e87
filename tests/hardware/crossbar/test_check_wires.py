"""The script that says how far off corrections for wires are, and what is committed of it."""

import csv

import check_wires

from tests.conftest import ROOT


def _lines(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_is_committed_is_what_the_script_makes(tmp_path):
    check_wires.main(["--out", str(tmp_path), "--rows", "32"])
    for name in ("nonnegative.csv", "signed.csv"):
        made, committed = _lines(tmp_path / name), _lines(ROOT / "results" / "crossbar_wires" / name)
        assert len(made) == 9
        for line, known in zip(made, committed, strict=False):
            for column in line.keys() - {"commit"}:
                if column.startswith(("rms", "max", "pairs")):  # in single precision: another machine rounds otherwise
                    assert abs(float(line[column]) - float(known[column])) <= 0.1 * float(known[column]) + 1e-6, column
                else:
                    assert line[column] == known[column]
    (timed,) = _lines(tmp_path / "times.csv")
    assert timed.keys() == _lines(ROOT / "results" / "crossbar_wires" / "times.csv")[0].keys()
