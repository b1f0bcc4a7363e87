"""Output of an evaluation: the run's folder, the terminal and the tracked run."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import astuple

from torch import nn

from hwaware.evaluation.costs import level_lines
from hwaware.evaluation.figures import plot_device
from hwaware.evaluation.law import network_labels
from hwaware.evaluation.networks import Evaluation
from hwaware.evaluation.resume import PartialRows
from hwaware.evaluation.run import Run
from hwaware.evaluation.settings import EvaluationSettings
from hwaware.evaluation.tracking import track
from hwaware.hardware import Placement
from hwaware.nn import to_digital
from hwaware.report.by_class import apart
from hwaware.report.html import write_report
from hwaware.report.labels import age_label, device_names, device_slug, device_slugs, line_labels, method_label
from hwaware.report.run_folder import print_tables, write_rows_and_plots
from hwaware.results.costs import NAME as COSTS
from hwaware.results.costs import by_repair, write_costs
from hwaware.results.criteria import Criteria
from hwaware.results.hits import NAME as HITS
from hwaware.results.hits import write_hits
from hwaware.results.refused import NAME as REFUSED
from hwaware.results.refused import OF, RefusedLine, write_refused
from hwaware.results.row import Row
from hwaware.results.setting import DeviceLabels, group_by
from hwaware.results.timetable import NAME as TIMETABLE
from hwaware.results.timetable import write_timetable
from hwaware.tasks import HardwareAwareTask


def write_results(
    run: Run,
    task: HardwareAwareTask,
    evaluation: Evaluation,
    settings: EvaluationSettings,
    network: nn.Module,
    criteria: Criteria,
    trained: Mapping[str, Placement] | None = None,
) -> None:
    """Prints the tables and, if the run has a folder, writes rows, costs, plots and report to it.

    Args:
        run: the run; its first process writes.
        task: the task of the evaluated networks.
        evaluation: results of the evaluation.
        settings: settings of the evaluation.
        network: a digital network whose cells are drawn.
        criteria: criteria of a good chip, reported percentile and required yield.
        trained: hardware that networks were finetuned for, by name.
    """
    if not run.is_first:
        return
    rows, costs, folder = evaluation.rows, evaluation.costs, run.folder
    print_tables(rows, criteria, evaluation.hits, task.chance_percent)
    remarks = _elsewhere(task, settings, network, trained or {})
    for sentence in dict.fromkeys(itertools.chain.from_iterable(remarks.values())):
        print(sentence)
    if folder is None:
        return
    found, levels = [], level_lines(evaluation.repairs)
    if costs:
        found.append(str(write_costs(folder / COSTS, costs)))
    if levels:
        found.append(str(write_timetable(folder / TIMETABLE, levels)))
    if evaluation.hits is not None:
        found.append(str(write_hits(folder / HITS, evaluation.hits)))
    if evaluation.refused:
        found += [*_harmful(evaluation.refused, rows), str(write_refused(folder / REFUSED, evaluation.refused))]
    found += _missed(evaluation)
    sections = write_rows_and_plots(rows, folder, by_repair(costs), task.chance_percent, criteria)
    PartialRows.done(folder)
    cells = []
    for placement, name in zip(settings.placements, device_slugs(rows), strict=True):
        converted = copy.deepcopy(network).float()
        task.convert(converted, placement)
        cells += plot_device(converted, settings.ages_of(placement), folder, name)
    of_classes = apart(rows)[1]
    report = write_report(folder, sections, cells, by_repair(costs), criteria, evaluation.hits, of_classes, remarks)
    plots = [figure for section in sections for figure in section.figures] + cells
    for tracker in run.trackers:
        track(tracker, rows, costs, plots, folder)
    found = [f"{len(rows)} rows: {folder / 'rows.csv'}", f"summary: {folder / 'summary.csv'}", *found]
    print(*found, *(f"plot: {plot}" for plot in plots), f"report: {report}", sep="\n", flush=True)


def _elsewhere(
    task: HardwareAwareTask, settings: EvaluationSettings, network: nn.Module, trained: Mapping[str, Placement]
) -> dict[tuple[str, str, str], list[str]]:
    """One sentence for each network that is scored on other hardware than it was finetuned for, by the former."""

    def held(placement: Placement) -> DeviceLabels:
        converted = to_digital(copy.deepcopy(network).to("meta"))
        task.convert(converted, placement)
        return network_labels(converted, settings.draw_constants)

    found: dict[tuple[str, str, str], list[str]] = {}
    for name, placement in trained.items():
        own, scored = astuple(held(placement)), list(map(held, settings.placements))
        names = device_names([held(placement), *scored])
        for other in map(astuple, scored):
            if other != own:
                said = f"{name} was finetuned for other hardware ({names[own]}) than it is scored on ({names[other]})."
                found.setdefault(other, []).append(said)
    return found


def _harmful(refused: Sequence[RefusedLine], rows: Sequence[Row]) -> list[str]:
    """How often a repair was not installed, and where it would have done most harm; one line per repair."""
    names, found = line_labels(rows), []
    repaired = group_by([row for row in rows if row.age_s > 0 and row.metric == rows[0].metric], OF)
    for key, lines in group_by(refused, OF).items():
        same = repaired[key]
        first = same[0]
        name = names[first.recipe, first.network, first.method, first.method_params]
        often = f"all {len(same)}" if len(lines) == len(same) else f"{len(lines)} of {len(same)}"
        worst = max(lines, key=lambda line: line.error_after / (line.error_before or 1e-30))
        found.append(
            f"{name} on {device_slug(same, rows)}: not installed {often} times, since it raises the error of the last "
            f"output on the stored samples (most from {worst.error_before:.3g} to {worst.error_after:.3g} nats, "
            f"chip {worst.chip_seed} at {age_label(worst.age_s)})"
        )
    return found


def _missed(evaluation: Evaluation) -> list[str]:
    """The ages from which scheduled repairs miss their target."""
    found = []
    for row, repair in evaluation.repairs:
        missed = next((level for level in repair.levels if not level.reached), None)
        if missed is not None and repair.schedule is not None:
            method = method_label(row.method, row.method_params)
            what = f"{row.network} + {method}: {repair.n_sets} sets miss {repair.schedule.target_percent:g} %"
            found.append(f"{what} of the drift-free accuracy from {age_label(missed.start_s)} on")
    return found
