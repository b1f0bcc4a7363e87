"""Evaluations without a Trainer give what the commands give."""

import pytest
import torch

import tests.tiny  # noqa: F401 - registers the tiny network
from hwaware.compensation import ChannelAffine, GlobalDriftCompensation
from hwaware.data import ImageData
from hwaware.errors import UserError
from hwaware.evaluation.batches import digest
from hwaware.evaluation.networks import evaluate_networks
from hwaware.evaluation.run import Run
from hwaware.evaluation.settings import EvaluationSettings
from hwaware.hardware import EncodingOptions, HardwareOptions, LayerOptions
from hwaware.results.criteria import Criteria
from hwaware.results.hits import read_hits, write_hits
from hwaware.results.summary import lifetime
from hwaware.tasks import ImageClassification
from tests.command_line import FINETUNE, measured, pretrained_weights, run

TEN_YEARS_S = 315_360_000.0


def _task_and_data():
    hardware = HardwareOptions({"name": "reram_cmo"})
    task = ImageClassification("tiny_test_net", weights=str(pretrained_weights()), num_classes=10, hardware=hardware)
    data = ImageData(source="digits", seed=0)
    data.inputs = task.inputs
    return task, data


@pytest.mark.slow
def test_rows_are_those_of_the_command(tmp_path):
    arguments = ("--config", FINETUNE, "--model.weights", pretrained_weights())
    methods = ("--evaluation.methods", "[{class_path: GlobalDriftCompensation}]", "--evaluation.networks", "[base]")
    run("compare", *arguments, *methods, "--evaluation.keep_hits", "true", "--trainer.default_root_dir", tmp_path)
    folder = tmp_path / "finetune" / "version_0"
    expected = measured(folder / "rows.csv")
    first = [row for row in expected if row.metric == "top1"]
    assert read_hits(folder / "hits.npz", expected).has(first)
    assert "over base at 10 years, chips and samples" in (folder / "report.html").read_text(encoding="utf-8")
    task, data = _task_and_data()
    settings = EvaluationSettings(
        placements=(task.placement,),
        ages_s=(0.0, TEN_YEARS_S),
        n_chips=2,
        methods=(GlobalDriftCompensation(),),
        recipe="finetune",
    )
    base = task.build_network()
    found = evaluate_networks(Run(), task, data, {"base": base}, base, settings)
    assert [(row.method, row.age_s, row.chip_seed, row.metric, row.value) for row in found.rows] == [
        (row.method, row.age_s, row.chip_seed, row.metric, row.value) for row in expected
    ]
    assert [line.method for line in found.costs] == ["gdc"] and len(found.repairs) == 1


def test_a_run_by_hand():
    alone = Run()
    assert alone.torch_device == torch.device("cpu") and alone.is_first and alone.folder is None
    assert alone.gather([1, 2]) == [1, 2] and alone.broadcast("x") == "x"
    assert list(Run(rank=1, world_size=3).share(range(8))) == [1, 4, 7]


def test_the_same_hardware_twice_is_refused_before_anything_runs():
    placement = HardwareOptions({"name": "reram_cmo"}).placement
    with pytest.raises(UserError, match="has the same hardware twice"):
        EvaluationSettings(placements=(placement, placement))


def test_hardware_that_rows_could_not_tell_apart_is_refused_before_anything_is_scored():
    task, _ = _task_and_data()
    placements = tuple(
        HardwareOptions({"name": "reram_cmo"}, layers=[LayerOptions(match=name, encoding=EncodingOptions(kappa=2.0))])
        for name in ("conv1", "linear")
    )
    settings = EvaluationSettings(placements=tuple(one.placement for one in placements))
    with pytest.raises(UserError, match=r"evaluation.hardware has reram_cmo \(differential\) twice"):
        settings.check_network(task)  # as every command does before it trains or scores


@pytest.mark.slow
def test_further_ages_narrow_a_lifetime():
    task, data = _task_and_data()
    placement = HardwareOptions({"name": "reram_cmo", "drift_std_slope_us": 3.0}).placement
    methods = (GlobalDriftCompensation(), ChannelAffine(steps=2))
    settings = EvaluationSettings(
        placements=(placement,), ages_s=(0.0, 3600.0, TEN_YEARS_S), n_chips=2, methods=methods, narrowed=Criteria(0.5)
    )
    base = task.build_network()
    rows = evaluate_networks(Run(), task, data, {"base": base}, base, settings).rows
    lines = {
        method: [row for row in rows if (row.method, row.metric) == (method, "top1")]
        for method in ("none", "gdc", "channel_affine")
    }
    life = lifetime(lines["none"], Criteria(0.5))
    assert life.before_s < TEN_YEARS_S and life.before_s <= 2 * max(life.after_s, 0.5)
    ages_s = [row.age_s for row in lines["none"]]
    assert ages_s == sorted(ages_s[: len(ages_s) // 2]) * 2 and len(set(ages_s)) > 3  # chip by chip
    assert {row.age_s for row in lines["channel_affine"]} == {0.0, 3600.0, TEN_YEARS_S}  # has no other states


def _kept(n_chips=2, **options):
    task, data = _task_and_data()
    settings = EvaluationSettings(
        placements=(task.placement,), ages_s=(0.0, TEN_YEARS_S), n_chips=n_chips, keep_hits=True, **options
    )
    base = task.build_network()
    return evaluate_networks(Run(), task, data, {"base": base}, base, settings), data


@pytest.mark.slow
def test_hits_are_those_of_the_rows(tmp_path):
    found, data = _kept(methods=(GlobalDriftCompensation(),))
    first = [row for row in found.rows if row.metric == "top1"]
    assert len(found.hits.lines) == len(first) == 2 * 2 * 2 and found.hits.has(first)
    read = read_hits(write_hits(tmp_path / "hits.npz", found.hits), found.rows)
    assert read.samples == found.hits.samples
    for row in first:
        hits = read.of([row])[row.chip_seed]
        assert hits.shape == (data.n_scored("test"),) and 100 * hits.mean() == pytest.approx(row.value, abs=1e-3)


def test_a_digest_of_samples_does_not_ask_how_many_are_in_a_batch():
    images, labels = torch.rand(6, 3, 2, 2), torch.arange(6)
    whole, halves = [(images, labels)], [(images[:3], labels[:3]), (images[3:], labels[3:])]
    assert digest(whole) == digest(halves)
    assert digest(whole) != digest([(images.flip(0), labels)]) != digest([(images, labels.flip(0))])


def test_hits_that_nobody_would_have_are_refused():
    with pytest.raises(UserError, match="keep_hits: the resumed rows have no hits"):
        _kept(resume="rows.partial.csv")
    task, _ = _task_and_data()
    settings = EvaluationSettings(placements=(task.placement,), keep_hits=True)
    settings.check_network(task)
    task.hits = None
    with pytest.raises(UserError, match="keep_hits: ImageClassification has no hits for single samples"):
        settings.check_network(task)
