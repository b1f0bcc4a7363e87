import csv
import json
import shutil
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from hwaware.cli.main import main
from hwaware.compensation import DoraMagnitude
from hwaware.evaluation.resume import PartialRows
from hwaware.results.csv import read_rows, write_rows
from hwaware.results.refused import read_refused, write_refused
from tests.command_line import FINETUNE, measured, pretrained_weights, run

pytestmark = pytest.mark.slow

METHODS = "[{class_path: BnStats, init_args: {batches: 2}}, {class_path: Dora, init_args: {images: 3, steps: 2}}]"


@dataclass(frozen=True)
class Harmful(DoraMagnitude):
    """Scales outputs by what does harm on some chips, or on all."""

    name: ClassVar[str] = "harmful"
    all_chips: bool = True

    def fit(self, chip, age_s, data):
        factor = 30.0 if self.all_chips or chip.seed % 2 else 1.0
        return {key: value * factor for key, value in super().fit(chip, age_s, data).items()}


HARMFUL = "[{class_path: tests.callbacks.test_compare.Harmful, init_args: {images: 40}}]"
HALF_HARMFUL = HARMFUL.replace("40", "40, all_chips: false")


@pytest.fixture
def killed(monkeypatch):
    """Runs end as if they had been killed just before they tidy up."""
    monkeypatch.setattr(PartialRows, "done", staticmethod(lambda folder: None))


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What a comparison by METHODS leaves that is killed so."""
    folder = tmp_path_factory.mktemp("left")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PartialRows, "done", staticmethod(lambda folder: None))
        run(*_arguments(folder), "--evaluation.methods", METHODS)
    return folder


@pytest.fixture
def compared(left, tmp_path):
    """A copy of its run's folder below ``tmp_path``."""
    shutil.copytree(left, tmp_path, dirs_exist_ok=True)
    return tmp_path / "finetune" / "version_0"


def _arguments(folder):
    return [
        *("compare", "--config", FINETUNE, "--model.weights", str(pretrained_weights())),
        *("--trainer.default_root_dir", str(folder), "--evaluation.networks", "[base]"),
    ]


@pytest.mark.rendered
def test_every_method_meets_the_same_chips(tmp_path, capsys):
    run(*_arguments(tmp_path), "--evaluation.methods", METHODS)
    rows = measured(tmp_path / "finetune" / "version_0" / "rows.csv")
    keys = {(row.chip_seed, row.age_s, row.metric) for row in rows}
    assert len(rows) == 3 * len(keys) == 3 * 2 * 2 * 2
    by_method = {name: [row for row in rows if row.method == name] for name in ("none", "bn_stats", "dora")}
    assert all({(row.chip_seed, row.age_s, row.metric) for row in own} == keys for own in by_method.values())
    assert json.loads(by_method["dora"][0].method_params)["images"] == 3
    fresh = {name: [row.value for row in own if row.age_s == 0] for name, own in by_method.items()}
    assert fresh["none"] == fresh["bn_stats"] == fresh["dora"]  # a chip just written is not repaired
    with (tmp_path / "finetune" / "version_0" / "costs.csv").open() as file:
        costs = {line["method"]: line for line in csv.DictReader(file)}
    assert costs.keys() == {"bn_stats", "dora"} and costs["dora"]["images_kept"] == "3"
    assert float(costs["bn_stats"]["bytes_stored"]) > 0 == float(costs["bn_stats"]["extra_macs_percent"])
    printed = capsys.readouterr().out
    assert "base + dora" in printed and f"report: {tmp_path / 'finetune' / 'version_0' / 'report.html'}" in printed
    page = (tmp_path / "finetune" / "version_0" / "report.html").read_text()
    for shown in ("base + bn_stats", "conv1", "hwaware.tasks", "stored"):
        assert shown in page
    assert not list((tmp_path / "finetune" / "version_0").glob("*partial*"))


def test_rows_say_what_a_repair_learnt_from(tmp_path):
    """By the teacher's answers or by labels: the same settings otherwise, and another repair."""
    methods = (
        "[{class_path: ChannelAffine, init_args: {steps: 2}}, {class_path: Dora, init_args: {images: 3, steps: 2}}]"
    )
    arguments = (*_arguments(tmp_path), "--evaluation.methods", methods, "--evaluation.n_chips", 1)
    run(*arguments, "--model.distillation.temperature", 2, "--model.distillation.weight", 0.7)
    rows = read_rows(tmp_path / "finetune" / "version_0" / "rows.csv")
    settings = {row.method: json.loads(row.method_params) for row in rows}
    assert settings["channel_affine"]["distillation"] == 0.7
    assert settings["channel_affine"]["distillation_temperature"] == 2
    assert "distillation" not in settings["dora"]  # layer by layer, without the loss


def test_a_killed_comparison_goes_on_at_the_first_missing_rows(tmp_path, compared):
    """Its rows are those of an uninterrupted one, and what was measured is not measured again."""
    whole = read_rows(compared / "rows.csv")
    left = compared / "rows.partial.csv"  # as a kill in the midst of the third method leaves it
    taken = [replace(row, value=row.value + 1) if row.method == "bn_stats" else row for row in whole]
    last = max(row.chip_seed for row in whole)  # whose rows were not all there yet
    taken = [replace(row, value=row.value + 1) if row.chip_seed < last else row for row in taken]
    write_rows(left, [row for row in taken if row.method != "dora" or row.chip_seed < last or row.age_s == 0])
    run(*_arguments(tmp_path), "--evaluation.methods", METHODS, "--evaluation.resume", left)
    again = measured(tmp_path / "finetune" / "version_1" / "rows.csv")
    assert again == [replace(row, commit="") for row in taken]


@pytest.mark.parametrize(("methods", "often"), [(HARMFUL, "all 4"), (HALF_HARMFUL, "2 of 4")])
def test_harm_is_not_installed_and_that_is_said_once(tmp_path, capsys, methods, often):
    ages = ("--evaluation.ages_s", "[0, 3600, 315360000]")
    run(*_arguments(tmp_path), "--evaluation.methods", methods, *ages)
    folder = tmp_path / "finetune" / "version_0"
    rows = measured(folder / "rows.csv")
    alone = {(row.chip_seed, row.age_s, row.metric): row.value for row in rows if row.method == "none"}
    refused = {(line.chip_seed, line.age_s) for line in read_refused(folder / "refused.csv")}
    assert refused == {(seed, age_s) for seed, age_s, _ in alone if age_s and (often == "all 4" or seed % 2)}
    for row in rows:
        if (row.chip_seed, row.age_s) in refused:
            assert row.value == alone[row.chip_seed, row.age_s, row.metric]
    (said,) = (line for line in capsys.readouterr().out.splitlines() if "not installed" in line)
    assert said.startswith(f"base + harmful on reram_cmo_differential: not installed {often} times, since it raises")
    worst = max(read_refused(folder / "refused.csv"), key=lambda line: line.error_after / line.error_before)
    assert f"(most from {worst.error_before:.3g} to {worst.error_after:.3g} nats, chip {worst.chip_seed} at" in said


def test_what_does_no_harm_leaves_no_file_of_harm(tmp_path, capsys):
    run(*_arguments(tmp_path), "--evaluation.methods", "[{class_path: GlobalDriftCompensation}]")
    assert not (tmp_path / "finetune" / "version_0" / "refused.csv").exists()
    assert "not installed" not in capsys.readouterr().out


def test_what_a_killed_comparison_did_not_install_is_known_when_it_goes_on(tmp_path, killed):
    run(*_arguments(tmp_path), "--evaluation.methods", HALF_HARMFUL)
    folder = tmp_path / "finetune" / "version_0"
    whole, refused = read_rows(folder / "rows.csv"), read_refused(folder / "refused.csv")
    left = folder / "rows.partial.csv"
    kept = min(row.chip_seed for row in whole if row.chip_seed % 2)
    write_rows(left, [row for row in whole if row.method == "none" or row.chip_seed == kept])
    # Half a chip that is not known in full is measured again, and another run's chip is none of this one's.
    known = [replace(line, error_after=1e9) for line in refused if line.chip_seed == kept]
    write_refused(folder / "refused.partial.csv", [*known, replace(refused[0], chip_seed=7)])
    run(*_arguments(tmp_path), "--evaluation.methods", HALF_HARMFUL, "--evaluation.resume", left)
    again = read_refused(tmp_path / "finetune" / "version_1" / "refused.csv")
    expected = [replace(line, error_after=1e9) if line.chip_seed == kept else line for line in refused]
    assert again == expected and known


def test_rows_of_another_run_are_refused(tmp_path, capsys, compared):
    rows = str(compared / "rows.partial.csv")
    other = ["--evaluation.methods", METHODS, "--evaluation.resume", rows, "--seed_everything", "1"]
    assert main([*_arguments(tmp_path), *other]) == 2
    assert "rows of another run: seed is 0 in that run, 1 now" in capsys.readouterr().err
    other[-2:] = ["--model.hardware.encoding.mapping", "offset"]
    assert main([*_arguments(tmp_path), *other]) == 2
    assert "another device: reram_cmo differential in that run, reram_cmo offset now" in capsys.readouterr().err
    assert not (tmp_path / "finetune" / "version_1").exists()  # nothing left of what was refused


def test_rows_of_other_weights_are_refused(tmp_path, capsys, compared):
    rows = compared / "rows.partial.csv"
    again = [*_arguments(tmp_path), "--evaluation.methods", METHODS, "--evaluation.resume", str(rows)]
    weights = rows.with_suffix(".json").read_text()
    write_rows(rows, [replace(row, drift_free=row.drift_free - 1) for row in read_rows(rows)])
    assert main(again) == 2
    assert "has rows of another network: 'base' has" in capsys.readouterr().err
    rows.with_suffix(".json").write_text(weights.replace(weights[12], "x"))
    assert main(again) == 2
    assert "has rows of another network: 'base' had other weights there" in capsys.readouterr().err
    rows.with_suffix(".json").unlink()
    assert main(again) == 2
    assert "which identifies the weights of its rows" in capsys.readouterr().err


def test_a_network_with_digital_layers_is_another_one(tmp_path, capsys, killed):
    """Rows of the whole network in cells are not taken for those of one with a layer left out, nor labelled alike."""
    arguments = [*_arguments(tmp_path), "--evaluation.methods", "[{class_path: GlobalDriftCompensation}]"]
    run(*arguments, "--evaluation.n_chips", 1)
    partial = tmp_path / "finetune" / "version_0" / "rows.partial.csv"
    hybrid = [*arguments, "--evaluation.n_chips", 1, "--model.hardware.layers", "[{match: conv1, digital: true}]"]
    run(*hybrid)
    run(*hybrid, "--evaluation.resume", partial)
    whole, alone, resumed = (read_rows(tmp_path / "finetune" / f"version_{i}" / "rows.csv") for i in (0, 1, 2))
    assert [row.value for row in resumed] == [row.value for row in alone]
    assert json.loads(alone[0].device_params)["digital"] == ["conv1"] and "digital" not in whole[0].device_params
    assert "1 layer digital" in capsys.readouterr().out


def test_nothing_to_go_on_from(tmp_path, capsys):
    assert main([*_arguments(tmp_path), "--evaluation.methods", METHODS, "--evaluation.resume", "nowhere.csv"]) == 2
    assert "evaluation.resume: there is no file 'nowhere.csv'" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_schedule_gives_a_timetable(tmp_path):
    methods = "[{class_path: ChannelAffine, init_args: {steps: 30}}]"
    run(
        *(*_arguments(tmp_path), "--evaluation.methods", methods, "--evaluation.schedule.target_percent", 99.9),
        *("--evaluation.schedule.per_decade", 1, "--evaluation.schedule.youngest_s", 1e7),
        *("--evaluation.schedule.instances", 2),
    )
    folder = tmp_path / "finetune" / "version_0"
    with (folder / "timetable.csv").open() as file:
        levels = list(csv.DictReader(file))
    assert float(levels[0]["start_s"]) == 0
    exact, target = float(levels[0]["drift_free"]), 0.999
    assert all(
        (level["reached"] == "True") == (float(level["mean"]) - float(level["std"]) >= target * exact)
        for level in levels
    )
    with (folder / "costs.csv").open() as file:
        (cost,) = csv.DictReader(file)
    assert int(cost["sets"]) == len(levels) - 1


@pytest.mark.parametrize(
    ("methods", "reason"),
    [
        ("[]", "nothing to compare"),
        ("[{class_path: Dora, init_args: {images: 100000}}]", "dora: images=100000, but there are only"),
        (
            "[{class_path: RandomSparseAdaptation, init_args: {mask: error, images: 100000}}]",
            "rsa: images=100000, but there are only",
        ),
        ("[{class_path: LnAffine}]", "no layer norm"),
        ("[{class_path: NullThreshold}]", 'threshold: TinyNet has no "no answer" threshold'),
        ("[{class_path: Dorra}]", "Did you mean 'Dora'?"),
        ("[{class_path: Dora, init_args: {rnk: 2}}]", "Did you mean 'rank'?"),
    ],
)
def test_bad_input(tmp_path, capsys, methods, reason):
    assert main([*_arguments(tmp_path), "--evaluation.methods", methods]) == 2
    assert reason in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_chip_just_written_is_not_repaired(tmp_path, capsys):
    assert main([*_arguments(tmp_path), "--evaluation.methods", METHODS, "--evaluation.ages_s", "[0]"]) == 2
    assert "a chip just written is not repaired" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (["--evaluation.methods", METHODS], "dora is fitted on validation samples"),
        (["--evaluation.methods", "[{class_path: BnFinetune}]"], "bn_finetune is fitted on validation samples"),
        (["--evaluation.methods", "[{class_path: NullThreshold}]"], "threshold is fitted on validation samples"),
        (
            ["--evaluation.methods", "[{class_path: ChannelAffine}]", "--evaluation.schedule.target_percent", "99"],
            "a schedule is fitted on validation samples",
        ),
    ],
)
def test_what_learns_from_validation_images_is_not_scored_on_them(tmp_path, capsys, extra, reason):
    assert main([*_arguments(tmp_path), "--evaluation.split", "val", *extra]) == 2
    assert reason in capsys.readouterr().err


def test_what_learns_nothing_is_scored_on_validation_images(tmp_path):
    untrained = "{class_path: RandomSparseAdaptation, init_args: {mask: error, epochs: 0}}"
    methods = f"[{{class_path: BnStats, init_args: {{batches: 1}}}}, {untrained}, {{class_path: ReadVerifyWrite}}]"
    run(*_arguments(tmp_path), "--evaluation.split", "val", "--evaluation.methods", methods)


def test_fitting_needs_a_whole_batch(tmp_path, capsys):
    methods = "[{class_path: ChannelAffine, init_args: {steps: 1}}]"
    assert main([*_arguments(tmp_path), "--evaluation.methods", methods, "--data.batch_size", "4000"]) == 2
    assert "batch_size=4000 is above the 320 training images" in capsys.readouterr().err
