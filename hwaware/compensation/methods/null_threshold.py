"""A reader's threshold of "no answer" for each drift level: a number in digital memory, no operation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import torch
from torch import nn

from hwaware.compensation.base import FitData, OfflineCompensation, State, check_settings
from hwaware.compensation.costs import HALF_BYTES, Cost, NetworkSize
from hwaware.compensation.training import fresh_chips
from hwaware.errors import UserError


@dataclass(frozen=True)
class NullThreshold(OfflineCompensation):
    """``network.config.null_threshold``, above which "no answer" is said, in half precision.

    The one with the best F1 of what fresh chips of a drift level answer together: drift moves a chip's scores towards
    "no answer", while the network's own threshold is that of the exact weights. It may be infinite: where every
    question is best answered, or (minus) none is. A schedule judges its levels by the same validation questions.

    Attributes:
        chips: that answer, each at an age of its own.
        questions: validation questions that each chip answers, the same ones, at most: whole ones of so many windows.
    """

    name: ClassVar[str] = "threshold"

    chips: int = 8
    questions: int = 1000

    def __post_init__(self) -> None:
        check_settings(self, chips=1, questions=1)

    def check(self, model: nn.Module) -> None:
        if not hasattr(getattr(model, "config", None), "null_threshold"):
            raise UserError(
                f'threshold: {type(model).__name__} has no threshold of "no answer" (config.null_threshold), which '
                "networks that answer questions have; take channel_affine."
            )

    @torch.no_grad()
    def fit(self, model: nn.Module, ages_s: tuple[float, float], data: FitData, seed: int, start: State) -> State:
        from hwaware.metrics import Answers  # which imports torchmetrics

        if data.answered is None:
            raise UserError("threshold: there are no validation questions to fit on (FitData.answered).")
        found = []
        for chip, age_s in islice(fresh_chips(model, ages_s, seed), self.chips):
            with chip.at(age_s, purpose="fitting"):
                found.append(data.answered(model, self.questions))
        threshold = torch.tensor(Answers.pooled(found).kept_threshold())
        return {"null_threshold": threshold.half().float()}  # as it is stored

    @contextmanager
    def installed(self, model: nn.Module, state: State) -> Iterator[None]:
        config: Any = model.config  # of transformers, with a field of ours
        own, config.null_threshold = config.null_threshold, state["null_threshold"].item()
        try:
            yield
        finally:
            config.null_threshold = own

    def cost(self, size: NetworkSize, levels: int) -> Cost:
        return Cost(bytes_stored=levels * HALF_BYTES, extra_macs_percent=0.0, trainable_percent=100 / size.parameters)
