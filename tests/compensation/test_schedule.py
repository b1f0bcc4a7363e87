import pytest
import torch

from hwaware.chip import CHIP_SEED_START, VALIDATION_CHIP_SEED_START, drift_free
from hwaware.compensation import ChannelAffine
from hwaware.compensation.schedule import Level, Schedule, Timetable, plan
from hwaware.compensation.seeds import fitting_chip, planning_chip
from hwaware.errors import UserError
from hwaware.hardware import load_hardware
from hwaware.nn import analog_layers, convert, to_digital


@pytest.fixture
def drifting(model):
    """On one-cell weights, whose drift is large and structured."""
    device = load_hardware("reram_cmo", mapping="offset")
    convert(to_digital(model), device)
    return model


@pytest.mark.slow
def test_a_set_is_fitted_only_when_the_target_is_missed(drifting, data):
    method, settings = ChannelAffine(steps=40), {"instances": 3, "per_decade": 1, "oldest_s": 1e8}
    tables = [plan(method, drifting, Schedule(target, **settings), data, seed=0) for target in (1.0, 80.0, 95.0)]
    sets = [table.n_sets for table in tables]
    assert sets[0] == 0 and 0 < sets[1] <= sets[2] <= 9
    with drift_free(drifting):
        assert tables[0].drift_free == data.accuracy(drifting)
    for table in tables[1:]:
        assert table.levels[0] == Level(0.0, None, *(getattr(table.levels[0], f) for f in ("mean", "std", "reached")))
        assert all(level.state is not None for level in table.levels[1:])


def test_a_target_that_is_missed_is_said_and_stores_nothing(drifting, data):
    """Where a new set does not help, the one before stays, age by age."""
    settings = Schedule(95.0, instances=2, per_decade=1, youngest_s=1e6, oldest_s=1e8)
    table = plan(ChannelAffine(steps=1, lr=1e-12), drifting, settings, data, seed=0)
    assert [level.start_s for level in table.levels[1:]] == pytest.approx([1e6, 1e7, 1e8])
    assert not any(level.reached for level in table.levels[1:]) and table.n_sets <= 1


def test_age_alone_chooses_the_set():
    levels = [Level(start, {}, 90.0, 1.0, True) for start in (0.0, 60.0, 3600.0)]
    table = Timetable(tuple(levels))
    assert [table.at(age).start_s for age in (0, 59.9, 60, 3599, 3600, 1e9)] == [0, 0, 60, 60, 3600, 3600]
    with pytest.raises(UserError, match="before the chip was written"):
        table.at(-1)


def test_the_same_seed_gives_the_same_timetable(drifting, data):
    settings = Schedule(90.0, instances=2, per_decade=1, youngest_s=1e6, oldest_s=1e8)
    first, second = (plan(ChannelAffine(steps=5), drifting, settings, data, seed=1) for _ in range(2))
    assert [level.start_s for level in first.levels] == [level.start_s for level in second.levels]
    for one, other in zip(first.levels, second.levels, strict=True):
        assert one.mean == other.mean
        assert (one.state or {}).keys() == (other.state or {}).keys()
        assert all(torch.equal(one.state[key], other.state[key]) for key in one.state or {})


def test_grid():
    grid = Schedule(per_decade=2, youngest_s=1.0, oldest_s=1000.0).grid_s
    assert grid == pytest.approx([1, 10**0.5, 10, 10**1.5, 100, 10**2.5, 1000])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"target_percent": 100.0}, "target_percent=100.0"),
        ({"youngest_s": 0.0}, "youngest_s=0.0"),
        ({"oldest_s": 0.5}, "oldest_s=0.5"),
        ({"instances": 1}, "instances=1"),
        ({"safety": -1.0}, "safety=-1.0"),
    ],
)
def test_bad_settings(settings, reason):
    with pytest.raises(UserError, match=reason):
        Schedule(**settings)


def test_levels_must_be_in_order():
    with pytest.raises(UserError, match="start at age 0"):
        Timetable((Level(60.0, None, 90.0, 1.0, True),))


def test_chips_to_fit_and_to_plan_on_are_never_those_to_judge_by():
    fitted = {fitting_chip(seed, step) for seed in range(200) for step in range(200)}
    planned = {planning_chip(seed, number) for seed in range(200) for number in range(10)}
    assert max(fitted | planned) < VALIDATION_CHIP_SEED_START < CHIP_SEED_START
    assert not fitted & planned and len(fitted) > 35_000


def test_a_set_that_is_no_better_is_not_stored(drifting, data, monkeypatch):
    method = ChannelAffine(steps=1)
    monkeypatch.setattr(ChannelAffine, "fit", lambda self, *_: _useless(drifting))
    table = plan(method, drifting, Schedule(99.9, instances=2, per_decade=1, youngest_s=1e6), data, seed=0)
    assert table.n_sets == 0 and not table.levels[0].reached


def _useless(model):
    return {
        f"{name}/{what}": torch.full((len(layer.weight),), 5.0)
        for name, layer in analog_layers(model).items()
        for what in ("gain", "shift")
    }
