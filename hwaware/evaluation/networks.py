"""Evaluation of networks on ageing chips, with and without repairs: rows, repairs and their costs."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from lightning.pytorch import LightningDataModule
from torch import nn

from hwaware.compensation import OfflineCompensation, Repair
from hwaware.evaluation.batches import Batches, digest
from hwaware.evaluation.costs import cost_lines
from hwaware.evaluation.evaluate import score_drift_free
from hwaware.evaluation.fitting import fit_data
from hwaware.evaluation.resume import PartialRows
from hwaware.evaluation.run import Run
from hwaware.evaluation.scoring import ChipScorer
from hwaware.evaluation.settings import EvaluationSettings
from hwaware.hardware import Placement
from hwaware.results.costs import CostLine
from hwaware.results.hits import HitLine, Hits
from hwaware.results.refused import RefusedLine
from hwaware.results.row import Row, RunLabels
from hwaware.results.summary import lifetime
from hwaware.tasks import HardwareAwareTask


@dataclass(frozen=True)
class Evaluation:
    """Results of :func:`evaluate_networks`.

    Attributes:
        rows: one per network, placement, method, chip, age and metric, in this order, the same on every process.
        repairs: the repairs, each with one of its rows.
        refused: chips on which repairs were not installed because they would do harm.
        costs: costs of the repairs.
        hits: hits, if they are kept.
    """

    rows: list[Row]
    repairs: list[tuple[Row, Repair]]
    costs: list[CostLine]
    refused: list[RefusedLine] = field(default_factory=list)
    hits: Hits | None = None


def evaluate_networks(
    run: Run,
    task: HardwareAwareTask,
    datamodule: LightningDataModule,
    networks: Mapping[str, nn.Module],
    base: nn.Module,
    settings: EvaluationSettings,
) -> Evaluation:
    """Programs digital networks into simulated chips, and scores them as the chips age.

    All networks, placements and ages use the same chips. Several processes share the chips; the rows are the same as
    those of a single process.

    Args:
        run: where and how networks run.
        task: converts and scores the networks.
        datamodule: the data.
        networks: digital networks by their names in results. ``base_uncorrected`` is not pre-distorted for the I-V
            curve.
        base: the digital network that all are compared with.
        settings: hardware, ages, chips and repairs.

    Raises:
        UserError: a law does not cover an age, a method does not apply, or there is nothing to resume.
    """
    datamodule.setup(settings.stage)
    batches = Batches(datamodule, settings.split, run.torch_device)

    def score(network: nn.Module) -> dict[str, float]:
        with run.precision():  # like Lightning's validation
            return task.score(network, batches)

    def calibrate(network: nn.Module) -> None:
        with run.precision():
            task.calibrate(network, datamodule)

    # In single precision, or autocast from it, whatever the training precision, since chips are programmed in fp32.
    base_digital: dict[str, float] = {}
    for network in {id(network): network for network in (base, *networks.values())}.values():
        calibrate(network.to(run.torch_device, torch.float32).eval())
        if network is base:
            base_digital = score(base)
            with run.precision():
                task.check_inputs(base, batches, getattr(datamodule, "inputs", None))
        network.cpu()
    data = fit_data(run, task, datamodule) if settings.methods else None
    partial = PartialRows(run.folder, settings, task, datamodule, networks)
    rows: list[Row] = []
    repairs: list[tuple[Row, Repair]] = []
    hits: list[HitLine] | None = [] if settings.keep_hits else None
    with run.progress("ageing chips", _n_scores(run, settings, len(networks))) as steps:
        about = (base_digital, batches.n_samples, settings.chip_seeds, partial, steps, hits, settings.draw_constants)
        scorer = ChipScorer(run, score, *about)
        for name, network in networks.items():
            labels = settings.labels(task, datamodule, name)
            for placement in settings.placements:
                converted = copy.deepcopy(network).float()
                task.convert(converted, placement, corrected=name != "base_uncorrected")
                converted = converted.to(run.torch_device).eval()
                calibrate(converted)
                ages_s = settings.ages_of(placement)
                exact = score_drift_free(converted, score)
                course = functools.partial(_course, scorer, settings, placement, converted, ages_s, exact)
                rows += course(labels, None, rows)
                for method in settings.methods:
                    assert data is not None  # for the type checker
                    repair = Repair(method, converted, ages_s, data, settings.seed, settings.schedule)
                    how = replace(labels, method=method.name, method_params=repair.params)
                    rows += course(how, repair, rows)
                    repairs.append((rows[-1], repair))
    kept = None if hits is None else Hits(digest(batches), tuple(run.gather(hits)))
    costs = cost_lines(repairs) if run.is_first else []
    return Evaluation(rows, repairs, costs, partial.refused(rows), kept)


def _course(
    scorer: ChipScorer,
    settings: EvaluationSettings,
    placement: Placement,
    model: nn.Module,
    ages_s: Sequence[float],
    exact: Mapping[str, float],
    labels: RunLabels,
    repair: Repair | None,
    before: Sequence[Row],
) -> list[Row]:
    """The rows of one line over age: at the given ages, and at further ages that narrow its lifetime."""
    rows = scorer.rows(model, labels, ages_s, exact, repair, before)
    while (age_s := _next_age(rows, settings, placement, repair)) is not None:
        rows += scorer.rows(model, labels, (age_s,), exact, repair, [*before, *rows])
    return sorted(rows, key=lambda row: (row.chip_seed, row.age_s))


def _next_age(
    rows: Sequence[Row], settings: EvaluationSettings, placement: Placement, repair: Repair | None
) -> float | None:
    """The age (s) to evaluate next, to narrow the lifetime; None if it is known well enough, or not requested.

    An offline repair has states only for the given ages.
    """
    fitted_offline = repair is not None and isinstance(repair.method, OfflineCompensation)
    if settings.narrowed is None or fitted_offline or not rows:
        return None
    life = lifetime([row for row in rows if row.metric == rows[0].metric], settings.narrowed)
    if life is None or not life.ends or life.at_s is not None or not life.before_s:
        return None
    if life.after_s:
        return math.sqrt(life.after_s * life.before_s)
    youngest = max(1.0, *(hardware.device.youngest_s for hardware in placement.every))
    return youngest if rows[0].age_s == 0 and youngest < life.before_s else None


def _n_scores(run: Run, settings: EvaluationSettings, n_networks: int) -> int:
    """Number of scores of this process."""
    n_ages = sum(len(settings.ages_of(placement)) for placement in settings.placements)
    return n_networks * (1 + len(settings.methods)) * n_ages * len(run.share(settings.chip_seeds))
