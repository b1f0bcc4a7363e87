"""What may share a table: a setting, whose parameters are read once."""

import json

import pytest

from hwaware.results.setting import SETTING, DeviceLabels, Setting, by_setting, params_of
from hwaware.results.summary import summarise


def test_rows_of_one_setting_go_together(make_row):
    rows = [make_row(), make_row(metric="top5"), make_row(network="finetuned", age_s=60.0), make_row({"kappa": 1.0})]
    found = by_setting(rows)
    assert list(map(len, found.values())) == [2, 1, 1]
    assert found[Setting.of(rows[2])] == [rows[0], rows[2]]
    assert [Setting.of(one) for one in summarise(rows[:1])] == [Setting.of(rows[0])]
    assert all(getattr(Setting.of(rows[1]), name) == getattr(rows[1], name) for name in SETTING)


def test_parameters_are_parsed_once(make_row, monkeypatch):
    calls, loads = [], json.loads
    monkeypatch.setattr(json, "loads", lambda text: calls.append(text) or loads(text))
    rows = [make_row({"once": 1}, age_s=float(age)) for age in range(50)]
    assert all(Setting.of(row).params["once"] == 1 for row in rows)
    assert calls == [rows[0].device_params]


def test_parameters_that_all_share_are_not_to_be_changed(make_row):
    with pytest.raises(TypeError):
        Setting.of(make_row()).params["kappa"] = 3.0


@pytest.mark.parametrize("text", ["{oops", "[1]", ""])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(ValueError):
        params_of(text)


def test_ages_beyond_what_was_measured():
    def beyond(age_s, **params):
        return DeviceLabels("a", json.dumps(params), "offset").extrapolates(age_s)

    week = {"measured_s": [1.0, 604_800.0]}
    assert [beyond(age_s, **week) for age_s in (0.0, 0.5, 1.0, 604_800.0, 604_801.0)] == [
        False,
        True,
        False,
        False,
        True,
    ]
    assert not beyond(1e12)  # not stated what was measured
    assert beyond(86_400.0, **week, temperature_c=85.0, activation_energy_ev=1.1)  # worth years at 25 °C
