"""Callbacks: seeding, biased columns, the end of a hopeless run, the better network, the run's record, ageing chips."""

from hwaware.callbacks.bias import BiasColumns
from hwaware.callbacks.divergence import StopAtDivergence
from hwaware.callbacks.drift import DriftEvaluation
from hwaware.callbacks.keep import KeepBetter
from hwaware.callbacks.record import RunRecord
from hwaware.callbacks.resuming import BeginNextEpoch
from hwaware.callbacks.seeding import SeedEachStep

__all__ = [
    "BeginNextEpoch",
    "BiasColumns",
    "DriftEvaluation",
    "KeepBetter",
    "RunRecord",
    "SeedEachStep",
    "StopAtDivergence",
]
