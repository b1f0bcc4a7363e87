"""The threshold of "no answer" per drift level: on scores that drift by known amounts, and of a taught reader."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from hwaware.chip import VALIDATION_CHIP_SEED_START, Chip
from hwaware.compensation import FitData, Level, NullThreshold, Repair, Schedule, Timetable, plan
from hwaware.compensation.costs import Cost, network_size
from hwaware.data import SquadData
from hwaware.errors import UserError
from hwaware.evaluation.fitting import fit_data
from hwaware.evaluation.run import Run
from hwaware.export.bundle import PlannedRepair, read_bundle, write_bundle
from hwaware.hardware import EncodingOptions, HardwareOptions, load_hardware
from hwaware.metrics import Answers
from hwaware.nn import convert
from hwaware.tasks import ImageClassification, QuestionAnswering
from hwaware.tasks.question_answering import METRICS

LEVEL_S = (1e6, 1e8)
OFFSET = load_hardware("reram_cmo", mapping="offset")  # whose drift moves all weights alike


class Scorer(nn.Module):
    """Gives the null odds of all questions one shift: 0 in the exact network, whatever drift makes of it on a chip."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 1)
        self.config = SimpleNamespace(null_threshold=0.0)
        nn.init.constant_(self.layer.weight, 0.5)
        nn.init.constant_(self.layer.bias, -32.0)

    def forward(self, x):
        return self.layer(x)

    @property
    def shift(self) -> float:
        return self(torch.ones(1, 64)).item()


@pytest.fixture
def scorer():
    model = Scorer().eval()
    convert(model, OFFSET)
    return model


@pytest.fixture
def asked():
    """Of each call: the chip's shift, and the number of questions."""
    return []


@pytest.fixture
def data(asked):
    """Answers to one question that has an answer and to one that has none, whose odds lie 2 apart."""

    def answered(network, n):
        asked.append((network.shift, n))
        odds = torch.tensor([-1.0, 1.0]) + network.shift
        return Answers.of(["known", "unknown"], ["cat", "dog"], odds.numpy(), [["cat"], []])

    def accuracy(network):
        return answered(network, 2).scores(network.config.null_threshold)["f1"]

    return FitData(None, None, None, None, accuracy, None, answered=answered)


def test_the_threshold_follows_the_scores(scorer, data, asked):
    """Halfway between the highest odds to accept and the lowest to refuse, of all chips together."""
    state = NullThreshold(chips=3, questions=7).fit(scorer, LEVEL_S, data, 0, {})
    shifts, questions = zip(*asked, strict=True)
    assert questions == (7, 7, 7) and len(set(shifts)) == 3
    assert min(map(abs, shifts)) > 1 > max(shifts) - min(shifts)  # the network's own, 0, is wrong for each of them
    assert state.keys() == {"null_threshold"}
    assert state["null_threshold"].item() == pytest.approx((max(shifts) + min(shifts)) / 2, rel=2**-11)
    assert state["null_threshold"].half().float() == state["null_threshold"]  # what is stored is what is judged


def test_chips_have_ages_of_their_own_in_the_level_and_seeds_to_fit_on(scorer, data, monkeypatch):
    ages, at = [], Chip.at

    def record(chip, age_s, purpose="evaluation"):
        ages.append((age_s, purpose))
        assert chip.seed < VALIDATION_CHIP_SEED_START
        return at(chip, age_s, purpose=purpose)

    monkeypatch.setattr(Chip, "at", record)
    first, again = (NullThreshold(chips=6).fit(scorer, LEVEL_S, data, 5, {}) for _ in range(2))
    assert torch.equal(first["null_threshold"], again["null_threshold"]) and ages[:6] == ages[6:]
    assert {purpose for _, purpose in ages} == {"fitting"} and len(set(ages)) == 6
    assert all(LEVEL_S[0] <= age_s <= LEVEL_S[1] for age_s, _ in ages)


def test_it_is_put_in_place_and_taken_away(scorer):
    state = {"null_threshold": torch.tensor(2.5)}
    for own in (1.25, None):
        scorer.config.null_threshold = own
        with NullThreshold().installed(scorer, state):
            assert scorer.config.null_threshold == 2.5
        assert scorer.config.null_threshold == own
        with pytest.raises(RuntimeError), NullThreshold().installed(scorer, state):
            raise RuntimeError
        assert scorer.config.null_threshold == own


def test_a_schedule_plans_it(scorer, data):
    """Each level's threshold makes up for a shift that the one before cannot."""
    settings = Schedule(99.0, instances=2, per_decade=1, youngest_s=1e6, oldest_s=1e8)
    table = plan(NullThreshold(chips=4), scorer, settings, data, seed=0)
    assert (table.drift_free, table.levels[0].reached) == (100.0, True)
    assert table.n_sets >= 1 and all(level.reached and level.mean == 100.0 for level in table.levels)
    assert scorer.config.null_threshold == 0.0


def test_each_level_costs_two_bytes_and_no_operation(scorer):
    size = network_size(scorer, lambda network, batch: network(batch[0]), (torch.ones(1, 64),))
    assert NullThreshold().cost(size, levels=3) == Cost(6, 0.0, trainable_percent=100 / 65)


@pytest.mark.parametrize("threshold", [2.5, math.inf, -math.inf])
def test_a_bundle_keeps_it(scorer, tmp_path, threshold):
    method = NullThreshold(chips=3, questions=50)
    levels = Level(0.0, None, 91.0, 0.1, True), Level(60.0, {"null_threshold": torch.tensor(threshold)}, 90, 0.2, False)
    planned = PlannedRepair(method, Timetable(levels, 91.5), Cost(2.0, 0.0), Schedule(98.0))
    (found,) = read_bundle(write_bundle(tmp_path / "bundle", scorer, "scorer", [planned])).repairs
    assert found.method == method
    chip = Chip.program(scorer, 2_000_000)
    for age_s, expected in ((59.0, 0.0), (61.0, threshold)):
        with found(chip, age_s):
            assert scorer.config.null_threshold == expected
    assert scorer.config.null_threshold == 0.0


def test_networks_and_data_without_questions_are_refused(scorer, data):
    plain = nn.Sequential(nn.Linear(4, 4))
    convert(plain, OFFSET)
    reason = 'threshold: Sequential has no "no answer" threshold (config.null_threshold), which question'
    with pytest.raises(UserError) as refused:
        Repair(NullThreshold(), plain, [1e8], data, seed=0)
    assert str(refused.value).startswith(reason)
    with pytest.raises(UserError, match="no validation questions to fit on"):
        NullThreshold().fit(scorer, LEVEL_S, FitData(None, None, None, None, None, None), 0, {})
    for field in ("chips", "questions"):
        with pytest.raises(UserError, match=f"threshold: {field}=0 must be at least 1"):
            NullThreshold(**{field: 0})


@pytest.mark.slow
def test_a_reader_is_judged_by_it(tiny_reader, taught_reader):
    """From the data module's validation questions to the score of a chip that no fit has seen."""
    offset = HardwareOptions({"name": "reram_cmo"}, EncodingOptions(mapping="offset"))
    task = QuestionAnswering(str(taught_reader), hardware=offset)
    questions = SquadData(str(tiny_reader / "data"), max_length=64, stride=24, eval_batch_size=40, seed=0)
    questions.inputs = task.inputs
    data, network = fit_data(Run(), task, questions), task.network.eval()
    questions.setup("test")
    validation = {one.id for one in questions.windows[1].questions}
    few, all_ = (set(data.answered(network, n).ids) for n in (40, 10_000))
    assert few < all_ == validation and len(few) > 10
    network.config.null_threshold = -1000.0  # refuses every question: as the threshold of a far drifted chip does
    method, chip = NullThreshold(chips=2), Chip.program(network, seed=2_000_000)
    state = method.fit(network, LEVEL_S, data, 0, {})
    batches = list(questions.test_dataloader())
    with chip.at(1e8):
        answers = task.answered(network, batches)
        assert task.score(network, batches)["f1_has_ans"] == 0
        with method.installed(network, state):
            repaired = task.score(network, batches)
    expected = answers.scores(state["null_threshold"].item())
    assert repaired == {name: pytest.approx(expected[name], abs=1e-4) for name in METRICS}
    assert repaired["f1"] > 70 and network.config.null_threshold == -1000.0


def test_tasks_that_ask_nothing_say_so():
    class Images(SquadData):
        def setup(self, stage):
            pass

    task = ImageClassification("resnet20_cifar", num_classes=10)
    assert fit_data(Run(), task, Images("nowhere")).answered is None
