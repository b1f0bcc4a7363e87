"""The "no answer" threshold of a question-answering network, one value per drift level; no extra operations."""

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
    """``network.config.null_threshold``, the score above which the network answers "no answer"; in half precision.

    The threshold maximises F1 over the answers of several fresh chips of a drift level. Drift moves a chip's scores
    towards "no answer", while the network's own threshold was chosen for exact weights. The threshold may be infinite,
    if it is best to answer every question or (minus infinity) none. A schedule judges its levels by the same validation
    questions.

    Attributes:
        chips: number of chips, each at its own age.
        questions: largest number of validation questions that each chip answers; all chips answer the same ones.
    """

    name: ClassVar[str] = "threshold"

    chips: int = 8
    questions: int = 1000

    def __post_init__(self) -> None:
        check_settings(self, chips=1, questions=1)

    def check(self, model: nn.Module) -> None:
        if not hasattr(getattr(model, "config", None), "null_threshold"):
            raise UserError(
                f'threshold: {type(model).__name__} has no "no answer" threshold (config.null_threshold), which '
                "question-answering networks have; use channel_affine."
            )

    @torch.no_grad()
    def fit(self, model: nn.Module, ages_s: tuple[float, float], data: FitData, seed: int, start: State) -> State:
        from hwaware.metrics import Answers  # imports torchmetrics

        if data.answered is None:
            raise UserError("threshold: there are no validation questions to fit on (FitData.answered).")
        found = []
        for chip, age_s in islice(fresh_chips(model, ages_s, seed), self.chips):
            with chip.at(age_s, purpose="fitting"):
                found.append(data.answered(model, self.questions))
        threshold = torch.tensor(Answers.pooled(found).kept_threshold())
        return {"null_threshold": threshold.half().float()}  # rounded as it is stored

    @contextmanager
    def installed(self, model: nn.Module, state: State) -> Iterator[None]:
        config: Any = model.config  # the config of transformers, with a field that we add
        own, config.null_threshold = config.null_threshold, state["null_threshold"].item()
        try:
            yield
        finally:
            config.null_threshold = own

    def cost(self, size: NetworkSize, levels: int) -> Cost:
        return Cost(bytes_stored=levels * HALF_BYTES, extra_macs_percent=0.0, trainable_percent=100 / size.parameters)
