"""Scores the chips of one network, shared over processes, and saves rows on the way."""

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
    """Scorer for all networks and repairs of an evaluation.

    Attributes:
        run: the run, whose processes share the chips.
        score: function from a network to each metric (percent).
        base_digital: the same metrics of the digital network that all are compared with.
        n_samples: number of samples that ``score`` uses.
        chip_seeds: seeds of all chips.
        partial: rows of an interrupted evaluation, and storage for those of this one; None: neither.
        steps: progress, one step per score.
        hits: list for this process's hits; None: hits are not kept.
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
            model: the converted network, on the run's torch device.
            labels: labels that identify the run.
            ages_s: ages (s).
            exact: drift-free metrics.
            repair: repair of the chips; None: none.
            before: earlier rows, to be saved with these.
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
        """The rows so far, after each chip; with several processes, all rows at once."""
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
                raise UserError("evaluation.keep_hits: the task's score has no hits; see hwaware.tasks.scores.Scores.")
            self.hits.append(HitLine.of(rows[0], hits.numpy()))

    def _shared(self, state: State) -> State:
        """The state of the first process, on every process."""
        there = {name: value.cpu() for name, value in state.items()}
        return {name: value.to(self.run.torch_device) for name, value in self.run.broadcast(there).items()}


def _in_order(known: Mapping[int, Sequence[Row]], found: Iterable[Row]) -> list[Row]:
    """Rows chip by chip, in unchanged order within a chip."""
    return sorted([*chain.from_iterable(known.values()), *found], key=lambda row: row.chip_seed)
