"""Lightning callbacks: checkpoints, seeding, biased training, divergence, the better network, run files, drift."""

from hwaware.callbacks.bias import BiasColumns
from hwaware.callbacks.checkpoints import StepCheckpoint, WholeCheckpoints
from hwaware.callbacks.divergence import StopAtDivergence
from hwaware.callbacks.drift import DriftEvaluation
from hwaware.callbacks.keep import KeepBetter
from hwaware.callbacks.progress import EpochsOrSteps
from hwaware.callbacks.record import RunRecord
from hwaware.callbacks.resuming import ResumeExactly
from hwaware.callbacks.seeding import SeedEachStep

__all__ = [
    "BiasColumns",
    "DriftEvaluation",
    "EpochsOrSteps",
    "KeepBetter",
    "ResumeExactly",
    "RunRecord",
    "SeedEachStep",
    "StepCheckpoint",
    "StopAtDivergence",
    "WholeCheckpoints",
]
