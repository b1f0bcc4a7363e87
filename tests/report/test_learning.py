"""The learning curve of a run."""

from __future__ import annotations

from PIL import Image

from hwaware.report.html import Section, write_report
from hwaware.report.learning import plot_learning
from hwaware.results import provenance

METRICS = """\
epoch,step,train/loss,train/task_loss,val/loss,val/top1
0,9,2.5,2.0,,
0,9,,,1.5,61.25
1,19,1.5,nan,,
1,19,,,1.0,90.5
"""


def test_losses_and_accuracies(tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS)
    path = plot_learning(tmp_path / "metrics.csv", tmp_path / "learning.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
    text = path.with_suffix(".svg").read_text()
    assert all(
        f"<!-- {label} -->" in text for label in ("training loss", "validation top-1 accuracy", "validation (%)")
    )


def test_a_run_that_has_not_trained_has_none(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step,drift/x\n0,1,2\n")
    assert plot_learning(tmp_path / "metrics.csv", tmp_path / "learning.png") is None
    assert not (tmp_path / "learning.png").exists()


def test_the_report_has_it_and_command_duration_and_sampling_error(tmp_path, rows, monkeypatch):
    (tmp_path / "metrics.csv").write_text(METRICS)
    monkeypatch.setattr(provenance, "_COMMANDS", [])
    provenance.begin_command(["fit", "--config", "my recipe.yaml"])
    text = write_report(tmp_path, [Section(rows, [])]).read_text()
    assert "The training" in text and 'alt="learning"' in text
    assert "<dt>command</dt><dd>hwaware fit --config &#39;my recipe.yaml&#39;</dd>" in text
    assert " s, from the start of the command to this page</dd>" in text
    assert "91.73 % of 10,000 samples has a sampling error of ± 0.54 points (95 %)" in text
