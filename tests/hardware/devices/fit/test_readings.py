"""The CSV of readings: units, order, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from hwaware.errors import UserError
from hwaware.hardware.devices.fit import read_measurements

HEADER = "cell,target_us,time_s,conductance_us\n"


def _read(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    return read_measurements(tmp_path / "a.csv")


def test_rows_in_any_order_with_gaps(tmp_path):
    rows = ["60,b,19,20,1", "0,a,10.1,10,0", "60,b,18,20,0", "", "60,a,,10,0", ",a,9,10,0"]
    text = "\n".join(["time_s,cell,conductance_us,target_us,reading", *rows])
    found = _read(tmp_path, text)
    assert found.cells == ("a", "b") and found.left_out == 2
    assert found.conductance_us.tolist() == [10.1, 18, 19] and found.cell.tolist() == [0, 1, 1]
    assert found.visit.tolist() == [0, 1, 1] and found.window_us == (10, 20) and found.ages_s.tolist() == [60]


def test_other_units_are_converted(tmp_path):
    usual = _read(tmp_path, HEADER + "1,10,3600,9.5\n2,20,86400,19\n")
    other = _read(tmp_path, "cell,target_ns,time_h,conductance_s\n1,1e4,1,9.5e-6\n2,2e4,24,1.9e-5\n")
    for column in ("target_us", "time_s", "conductance_us"):
        np.testing.assert_allclose(getattr(other, column), getattr(usual, column))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators(tmp_path, separator):
    text = "wafer,7\n" + HEADER + "1,10,0,9.5\n,,,\n2,20,3600,19\n"
    usual, other = _read(tmp_path, text), _read(tmp_path, text.replace(",", separator))
    for column in ("target_us", "time_s", "conductance_us"):
        np.testing.assert_array_equal(getattr(other, column), getattr(usual, column))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "lacks the column cell, target_us, time_s, conductance_us; it has: none"),
        (HEADER, "has no reading"),
        ("cell,target_us,time_s\n1,10,0\n", "lacks the column conductance_us"),
        ("cell,target_us,time_s,conductance\n", "'conductance' .* call it conductance_us .*conductance_ns"),
        ("cell,target_us,time_y,conductance_us\n", "'time_y' .* call it time_s"),
        ("cel,target_us,time_s,conductance_us\n", "lacks the column cell; .* is 'cel' meant. Call it cell"),
        ("cell\ttarget_us\ttime_s\n", "lacks the column conductance_us; it has: cell, target_us, time_s"),
        (
            HEADER.replace(",", ";") + "1;10;0;9,5\n",
            "line 2: conductance '9,5' has a decimal comma",
        ),
        ("cell,target_us,time_s,Read R (kΩ)\n", r"is 'Read R \(kΩ\)' meant\? Call it resistance_kohm\."),
        (HEADER.strip() + ",conductance_ns\n", "two columns of conductance: 'conductance_us' and 'conductance_ns'"),
        (HEADER + "1,10,0\n", "line 2 has 3 fields; the header has 4"),
        (HEADER + "1,10,0,ten\n", "line 2: conductance 'ten' is not a number"),
        (HEADER + "1,10,0,nan\n", "line 2: conductance 'nan' is not a number"),
        (HEADER + "1,10,0,9\n2,10,0,0\n", "line 3: conductance '0' must be above 0"),
        (HEADER + "1,10,0,-3\n", "line 2: conductance '-3' must be above 0"),
        (HEADER + "1,10,-1,3\n", "line 2: time '-1' must not be below 0; 0 is just written"),
        (HEADER + "1,-10,1,3\n", "line 2: target '-10' must not be below 0"),
        (HEADER + "1,10,5,9\n2,10,5,9\n1,10,5.0,8\n", "duplicate reading in lines 2 and 4: cell 1 at 5 s"),
        (HEADER + "1,10,0,9\n1,20,5,9\n", "line 3: cell 1 has the targets 10 and 20 µS"),
    ],
)
def test_bad_input(tmp_path, text, reason):
    with pytest.raises(UserError, match=reason):
        _read(tmp_path, text)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"there are no measurements '.*none.csv'"):
        read_measurements(tmp_path / "none.csv")


def _table(conductance, targets=(10, 20, 40, 80)):
    """Each cell read just written and later; ``conductance(cell, target, time)``."""
    rows = [(cell, targets[cell % len(targets)], time) for cell in range(40) for time in (0, 60)]
    return HEADER + "".join(f"{c},{g},{t},{conductance(c, g, t):.6g}\n" for c, g, t in rows)


@pytest.mark.parametrize(
    ("conductance", "lines"),
    [
        (lambda c, g, t: g * 1000 if (c, t) == (3, 60) else g + 0.1, "line 9"),  # nS
        (lambda c, g, t: (g + 0.01 * c) / 1000 if c > 30 else g, "lines 64, 65, 66, 67, 68 and 13 more"),  # mS
        (
            lambda c, g, t: (g + c) / 1000 if c in (2, 6) and t else g,
            "lines 7, 15",
        ),  # of one state, in part of the rows
    ],
)
def test_rows_in_another_unit_are_named(tmp_path, conductance, lines):
    with pytest.raises(UserError, match=f"seems to mix units: .*; see {lines}\\."):
        _read(tmp_path, _table(conductance))


def test_a_whole_column_in_siemens(tmp_path):
    with pytest.raises(UserError, match=r"seems to mix units: a cell with target \S+ µS reads \S+e-\d+ µS"):
        _read(tmp_path, _table(lambda c, g, t: 1e-6 * g))


@pytest.mark.parametrize(
    "conductance",
    [
        lambda c, g, t: 0.04 + 0.0001 * c if c in (2, 3, 6, 7) else g,  # leaks: cells that hardly conduct
        lambda c, g, t: 0.01 if c % 4 == 0 and t else g,  # the least that the instrument reads
    ],
)
def test_low_readings_that_do_not_follow_the_target_are_no_unit(tmp_path, conductance):
    assert len(_read(tmp_path, _table(conductance))) == 80


@pytest.mark.parametrize(
    "conductance",
    [
        lambda c, g, t: 98 + 0.01 * t if c == 4 else g,  # an idle cell is stuck on
        lambda c, g, t: 0.1 - 0.0001 * c if c in (3, 7) and t else g,  # two cells lose their filament
    ],
)
def test_an_on_off_ratio_of_a_thousand_is_no_unit(tmp_path, conductance):
    assert len(_read(tmp_path, _table(conductance, targets=(0.1, 33, 66, 100)))) == 80
    with pytest.raises(UserError, match=r"seems to mix units: .* reads 33000 µS; see line 4"):
        _read(tmp_path, _table(lambda c, g, t: 1000 * g if (c, t) == (1, 0) else g, targets=(0.1, 33, 66, 100)))


def test_targets_in_two_units(tmp_path):
    with pytest.raises(UserError, match=r"seems to mix units: targets from 20 and up to 0.08 µS; see lines"):
        _read(tmp_path, _table(lambda c, g, t: g, targets=(20, 40, 80, 20, 40, 0.08, 0.04)))
    # A single idle state far below the others is what many memories have.
    assert len(_read(tmp_path, _table(lambda c, g, t: g, targets=(0.02, 40, 80)))) == 80


LAB = "cell,target_us,time_s,conductance_us\na,10,0,11\nb,20,60,19\n"


def _inverted(text):
    rows = [line.split(",") for line in text.splitlines()[1:]]
    return "Cell,Target (kΩ),Time [s],resistance_kohm\n" + "".join(
        f"{c},{1000 / float(g)},{t},{1000 / float(r)}\n" for c, g, t, r in rows
    )


@pytest.mark.parametrize(
    ("text", "encoding", "said"),
    [
        (LAB.replace("target_us", "Target (µS)").replace("conductance_us", "Conductance [uS]"), "utf-8", ()),
        (LAB.replace("target_us", "target_µS").replace("time_s", "TIME [s]"), "latin-1", ()),
        (LAB.replace("conductance_us", "conductance μS"), "utf-16", ()),
        ("# probe station 3\nT = 25 C, operator me\n\n" + LAB, "utf-8", ()),
        (LAB.replace("\n", ",\n"), "utf-8", ()),
        (LAB.replace("cell,", ",cell,").replace("a,", "0,a,").replace("b,", "1,b,"), "utf-8", ()),
        (
            LAB.replace("_us\n", "_us,wafer\n").replace("11\n", "11,w\n").replace("19\n", "19,w\n"),
            *("utf-8", ("Columns that were ignored: wafer.",)),
        ),
        (_inverted(LAB), "utf-8", ("Resistances that were inverted: Target (kΩ), resistance_kohm.",)),
    ],
    ids=["brackets", "latin-1", "utf-16", "before the header", "trailing comma", "pandas", "further", "resistances"],
)
def test_files_as_laboratories_have_them(tmp_path, text, encoding, said):
    (tmp_path / "lab.csv").write_bytes(text.encode(encoding))
    found = read_measurements(tmp_path / "lab.csv")
    assert found.cells == ("a", "b") and found.notes == said
    assert found.target_us.tolist() == pytest.approx([10, 20]) and found.time_s.tolist() == [0, 60]
    assert found.conductance_us.tolist() == pytest.approx([11, 19])


STAMPED = """cell,target_us,{time},conductance_us{more}
a,10,2026-01-31T09:30:00,11{written}
b,20,2026-01-31T09:31:00,19{written}
a,10,2026-01-31T10:30:00,12{written}
b,20,2026-01-31T10:31:30.5,18{written}
"""


@pytest.mark.parametrize(
    ("text", "start", "ages", "said"),
    [
        (STAMPED.format(time="timestamp", more="", written=""), None, [0, 3600, 0, 3630.5], "each cell's first time"),
        (
            STAMPED.format(time="Date Time", more="", written=""),
            "2026-01-31 09:29",
            [60, 3660, 120, 3750.5],
            "2026-01-31 09:29",
        ),
        (
            STAMPED.format(time="time", more=",Written at", written=",2026-01-31 09:30:00"),
            *(None, [0, 3600, 60, 3690.5], "the column 'Written at'"),
        ),
        (
            "# wafer 3\n# cells were written: 2026-01-31T09:29:30\n"
            + STAMPED.format(time="Timestamp", more="", written=""),
            *(None, [30, 3630, 90, 3720.5], "2026-01-31T09:29:30"),
        ),
    ],
    ids=["first", "stated", "column", "before the header"],
)
def test_ages_of_dates_and_times(tmp_path, text, start, ages, said):
    (tmp_path / "lab.csv").write_text(text)
    found = read_measurements(tmp_path / "lab.csv", start)
    assert found.cells == ("a", "b") and found.time_s.tolist() == ages
    assert found.notes[-1].startswith(f"Ages count from {said}") and len(found.notes) == 1


def test_a_first_reading_that_failed_begins_a_cell_s_time(tmp_path):
    text = STAMPED.format(time="timestamp", more="", written="").replace("09:30:00,11", "09:30:00,")
    found = _read(tmp_path, text)
    assert found.left_out == 1 and found.time_s.tolist() == [3600, 0, 3630.5]


@pytest.mark.parametrize(
    ("text", "start", "reason"),
    [
        (
            STAMPED.replace("2026-01-31T10:30:00", "31.01.2026 10:30"),
            None,
            "line 4: timestamp '31.01.2026 10:30' is no",
        ),
        (STAMPED, "2026-01-31T10:00", "line 2: '2026-01-31T09:30:00' is before the start, 2026-01-31T10:00:00"),
        (STAMPED, "noon", "start 'noon' is not a date and time of ISO 8601 .2026-01-31T09:30:00"),
        (
            STAMPED.replace("T09:31:00", "T09:31:00Z"),
            None,
            "can't be compared: one has a time zone, the other has none",
        ),
        (LAB, "2026-01-31", "start '2026-01-31' is for dates and times; 'time_s' of '.*' has ages"),
    ],
)
def test_bad_dates_and_times(tmp_path, text, start, reason):
    (tmp_path / "lab.csv").write_text(text.format(time="timestamp", more="", written=""))
    with pytest.raises(UserError, match=reason):
        read_measurements(tmp_path / "lab.csv", start)


@pytest.mark.parametrize(
    "header",
    [
        "Cell,Target (µS),Time [s],G (µS)",
        "cell_id,target / µS,t / s,conductance in µS",
        "DUT,G target (uS),Elapsed time (s),G_meas [uS]",
        "device,target_g (µS),age_s,measured conductance (µS)",
    ],
)
def test_columns_by_usual_names(tmp_path, header):
    found = _read(tmp_path, f"{header}\na,10,60,9\n")
    assert (found.target_us[0], found.time_s[0], found.conductance_us[0]) == (10, 60, 9) and not found.notes


def test_the_quantity_s_own_name_wins(tmp_path):
    found = _read(tmp_path, "device,cell,target_us,time_s,t,conductance_us,G (nS)\nx,a,10,60,7,9,8\n")
    assert found.cells == ("a",) and found.time_s[0] == 60 and found.conductance_us[0] == 9
    assert "ignored: device, t, G (nS)" in found.notes[0]


def test_resistance_by_its_letter(tmp_path):
    found = _read(tmp_path, "cell,target_us,t (h),R (kΩ)\na,10,1,125\n")
    assert found.conductance_us[0] == pytest.approx(8) and found.time_s[0] == 3600


def test_an_age_beside_dates_is_the_time(tmp_path):
    found = _read(tmp_path, "cell,target_us,timestamp,age_h,conductance_us\na,10,2025-01-01T00:00:00,2,9\n")
    assert found.time_s[0] == 7200


def test_all_that_is_wrong_with_a_header_at_once(tmp_path):
    with pytest.raises(UserError) as caught:
        _read(tmp_path, "target,time,Conductanze (µS)\n10,0,9\n")
    said = str(caught.value)
    for part in (
        "'target' does not",
        "target_us",
        "'time' does not",
        "time_s",
        "lacks the column cell, conductance_us",
    ):
        assert part in said
    assert "is 'Conductanze (µS)' meant? Call it conductance_us" in said and "\n" not in said


def test_time_stamps_that_are_numbers(tmp_path):
    with pytest.raises(UserError, match="Name a column of ages in seconds time_s"):
        _read(tmp_path, "cell,target_us,timestamp,conductance_us\na,10,60,9\n")
