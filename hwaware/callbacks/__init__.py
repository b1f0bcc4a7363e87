"""Callbacks: per-step seeding, the end of a hopeless run, the run's record, evaluation on ageing chips."""

from hwaware.callbacks.divergence import StopAtDivergence
from hwaware.callbacks.drift import DriftEvaluation
from hwaware.callbacks.record import RunRecord
from hwaware.callbacks.seeding import SeedEachStep

__all__ = ["DriftEvaluation", "RunRecord", "SeedEachStep", "StopAtDivergence"]
