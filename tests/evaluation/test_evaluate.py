import json

import pytest
import torch
from torch import nn

from hwaware.chip import CHIP_SEED_START
from hwaware.errors import UserError
from hwaware.evaluation.evaluate import DEFAULT_AGES_S, ages_to_evaluate, evaluate
from hwaware.hardware import Placement, Rule, load_device, load_hardware
from hwaware.nn import convert
from hwaware.results.provenance import commit
from hwaware.results.row import RunLabels
from tests.placing import on

LABELS = RunLabels(recipe="test", model="linear", network="base", dataset="none", seed=3)


@pytest.fixture
def model():
    model = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.5))
    convert(model, load_hardware("reram_cmo"))
    return model


def _evaluate(model, **options):
    x = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    defaults = {
        "score": lambda network: {"norm": network(x).norm().item(), "mean": network(x).mean().item()},
        "base_digital": {"norm": 1.0, "mean": 2.0},
        "n_samples": 8,
        "labels": LABELS,
    }
    return evaluate(model, **{**defaults, **options})


def test_rows_cover_chip_by_age_by_metric(model):
    counted = []
    chips = [2_000_000, 2_000_001]
    rows = _evaluate(model.train(), chip_seeds=chips, on_score=lambda found, values: counted.append((found, values)))
    assert len(rows) == 2 * len(DEFAULT_AGES_S) * 2 and len(counted) == 2 * len(DEFAULT_AGES_S)
    assert [row for found, _ in counted for row in found] == rows
    assert all({row.metric: row.value for row in found} == values for found, values in counted)
    assert {row.chip_seed for row in rows} == {2_000_000, 2_000_001}
    row = rows[-2]
    assert (row.age_s, row.metric, row.base_digital, row.n_samples, row.seed) == (315360000.0, "norm", 1.0, 8, 3)
    assert (row.device, row.mapping, json.loads(row.device_params)["g_max_us"]) == (
        "reram_cmo",
        "differential",
        88.199997,
    )
    assert len({row.value for row in rows if row.metric == "norm"}) == 2 * len(DEFAULT_AGES_S)
    assert len({row.drift_free for row in rows if row.metric == "norm"}) == 1
    assert model.training  # and dropout was off: the mode is put back


def test_paired_and_split_over_ranks(model):
    together = _evaluate(model, chip_seeds=[5, 6])
    apart = _evaluate(model, chip_seeds=[5]) + _evaluate(model, chip_seeds=[6])
    assert together == apart


def test_drift_free_is_scored_without_any_error(model):
    x = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    rows = _evaluate(model, ages_s=[0.0])
    assert rows[0].drift_free == pytest.approx(model.eval()(x).norm().item(), rel=1e-5)


def test_default_chips_are_ten_and_reserved(model):
    seeds = {row.chip_seed for row in _evaluate(model, ages_s=[3600.0])}
    assert len(seeds) == 10 and min(seeds) == CHIP_SEED_START


def test_a_device_without_a_law_of_time_has_one_age_row(model):
    relative = load_hardware("reram_relative")
    assert ages_to_evaluate([relative.device], DEFAULT_AGES_S) == (0.0, 315360000.0)
    assert {row.age_s for row in _evaluate(on(model, relative), chip_seeds=[5])} == {0.0, 315360000.0}
    assert ages_to_evaluate([relative.device], [5.0, 60.0]) == (60.0,)
    both = [relative.device, load_device("reram_cmo")]
    assert ages_to_evaluate(both, [5.0, 60.0]) == (5.0, 60.0)


def test_rows_say_which_layers_stand_on_other_hardware():
    """The main hardware's parameters are where one hardware's are; what differs of other layers is beside them."""
    main, hot = (load_hardware("reram_cmo", stuck_on=rate) for rate in (0.0, 0.01))
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16))
    other = load_hardware("reram_cmo_acc0.2", mapping="offset", levels=15)
    convert(model, Placement(main, (Rule(("1",), hot), Rule(("2",), other), Rule(("3",), None))))
    (row, *_) = _evaluate(model, chip_seeds=[5], ages_s=[3600.0])
    params = json.loads(row.device_params)
    assert (row.device, row.mapping, params["digital"]) == ("reram_cmo", "differential", ["3"])
    assert params["stuck_on"] == 0.0 and params["layers"]["1"] == {"stuck_on": 0.01}
    differing = params["layers"]["2"]
    assert (differing["device"], differing["mapping"], differing["levels"]) == ("reram_cmo_acc0.2", "offset", 15)
    # Two layers in pairs and one in single cells; the digital one would be a pair, too.
    shares = {"cells_ratio": pytest.approx(5 / 7, abs=1e-4), "digital_percent": 25.0}
    assert {name: params[name] for name in shares} == shares
    assert "kappa" not in differing and params.keys() - {"digital", "layers", *shares} == main.params().keys()


def test_bad_ages(model):
    with pytest.raises(UserError, match="no age"):
        _evaluate(model, ages_s=[])
    with pytest.raises(UserError, match="at least 1 s"):
        _evaluate(model, ages_s=[0.5])
    with pytest.raises(UserError, match=r"ages_s=\[3600, 60\] must ascend: \[60, 3600\]"):
        _evaluate(model, ages_s=[3600, 60])


class _ReadsPastTheLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.skipped = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        return nn.functional.linear(self.used(x), self.skipped.weight)


def test_a_layer_that_no_forward_calls_is_an_error_naming_it():
    model = _ReadsPastTheLayer()
    convert(model, load_hardware("reram_cmo"))
    with pytest.raises(UserError, match=r"layer 'skipped' \(Linear\) was converted, but the network never calls it"):
        _evaluate(model)
    assert model.training and model.skipped._installed is None


def test_commit_names_the_tree():
    assert commit() == "" or len(commit().rstrip("+")) == 12
