"""Scoring one network's chips, each process its share, and keeping what is measured on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from torch import nn

from hwaware.compensation import Repair
from hwaware.compensation.base import State
from hwaware.errors import UserError
from hwaware.evaluation.evaluate import Score, evaluate, held_by
from hwaware.evaluation.progress import Steps
from hwaware.evaluation.resume import PartialRows
from hwaware.evaluation.run import Run
from hwaware.nn import main_hardware
from hwaware.results.hits import HitLine
from hwaware.results.refused import refused_lines
from hwaware.results.row import Row, RunLabels


@dataclass(frozen=True)
class ChipScorer:
    """What all of an evaluation's networks and repairs have in common.

    Attributes:
        run: whose processes share the chips out.
        score: gives each metric of a network.
        base_digital: the same metrics of the digital network that all are compared with.
        n_samples: that ``score`` uses.
        chip_seeds: of all chips.
        partial: what a killed evaluation had measured, and where to keep what this one has; None: neither.
        steps: of progress, one for each score.
        hits: where this process's hits are added; None: they are not kept.
        drawn: whether each chip draws its devices' constants.
    """

    run: Run
    score: Score
    base_digital: Mapping[str, float]
    n_samples: int
    chip_seeds: Sequence[int]
    partial: PartialRows
    steps: Steps
    hits: list[HitLine] | None = None
    drawn: bool = False

    def rows(
        self,
        model: nn.Module,
        labels: RunLabels,
        ages_s: Sequence[float],
        exact: Mapping[str, float],
        repair: Repair | None,
        before: Sequence[Row],
    ) -> list[Row]:
        """One row per chip, age and metric, in this order, the same on every rank.

        Args:
            model: converted, on the run's device.
            labels: what identifies the run.
            ages_s: ages in s.
            exact: drift-free metrics.
            repair: how chips are repaired; None: not at all.
            before: rows measured before, to be kept with these.
        """
        repaired = "" if labels.method == "none" else f" + {labels.method}"
        self.steps.of(f"{labels.network}{repaired}")
        about = (labels, main_hardware(model), held_by(model, self.drawn), self.base_digital, exact, self.n_samples)
        known = self.partial.chips(*about, ages_s, self.chip_seeds)
        for _ in range(len(ages_s) * len(known) // self.run.world_size):
            self.steps()
        missing = [seed for seed in self.chip_seeds if seed not in known]
        if repair is not None and missing:
            repair.prepare(self._shared, self.steps.within)
        rows = _in_order(known, [])
        how = {"labels": labels, "ages_s": ages_s, "exact": exact, "repaired": repair}
        for found in self._measured(missing, model, **how):
            rows = _in_order(known, found)
            if repair is not None:
                self.partial.note(refused_lines(rows[-1], self.run.gather(repair.refused)))
            if self.run.is_first:
                self.partial.keep([*before, *rows])
        return rows

    def _measured(self, chip_seeds: Sequence[int], *what: Any, **how: Any) -> Iterator[list[Row]]:
        """The rows so far after each chip or, of several processes, those of all at once."""
        how |= {"score": self.score, "base_digital": self.base_digital, "n_samples": self.n_samples}
        how |= {"drawn": self.drawn}
        own: list[Row] = []
        for seed in self.run.share(chip_seeds):
            own += evaluate(*what, chip_seeds=[seed], on_score=self._scored, **how)
            if self.run.world_size == 1:
                yield own
        if self.run.world_size > 1:
            yield self.run.gather(own)

    def _scored(self, rows: Sequence[Row], values: Mapping[str, float]) -> None:
        self.steps()
        if self.hits is not None:
            if (hits := getattr(values, "hits", None)) is None:
                raise UserError("evaluation.keep_hits: the task's score gives none; see hwaware.tasks.scores.Scores.")
            self.hits.append(HitLine.of(rows[0], hits.numpy()))

    def _shared(self, state: State) -> State:
        """What the first process has."""
        there = {name: value.cpu() for name, value in state.items()}
        return {name: value.to(self.run.torch_device) for name, value in self.run.broadcast(there).items()}


def _in_order(known: Mapping[int, Sequence[Row]], found: Iterable[Row]) -> list[Row]:
    """Rows chip by chip; within a chip their order stays."""
    return sorted([*chain.from_iterable(known.values()), *found], key=lambda row: row.chip_seed)
