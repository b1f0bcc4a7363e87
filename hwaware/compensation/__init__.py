"""Ways of repairing a drifted chip without rewriting its cells."""

from hwaware.compensation.base import Compensation, FitData, InFieldCompensation, OfflineCompensation
from hwaware.compensation.bn_stats import BnAdaBs, BnStats
from hwaware.compensation.channel_affine import ChannelAffine
from hwaware.compensation.dora import Dora, DoraLowRank, DoraMagnitude, Lora
from hwaware.compensation.drift_compensation import ColumnDriftCompensation, GlobalDriftCompensation
from hwaware.compensation.norm_affine import BnFinetune, LnAffine
from hwaware.compensation.null_threshold import NullThreshold
from hwaware.compensation.repair import Repair
from hwaware.compensation.rsa import RandomSparseAdaptation
from hwaware.compensation.rvw import ReadVerifyWrite
from hwaware.compensation.schedule import Level, Schedule, Timetable, plan
from hwaware.compensation.vera import VeraPlus

__all__ = [
    "BnAdaBs",
    "BnFinetune",
    "BnStats",
    "ChannelAffine",
    "ColumnDriftCompensation",
    "Compensation",
    "Dora",
    "DoraLowRank",
    "DoraMagnitude",
    "FitData",
    "GlobalDriftCompensation",
    "InFieldCompensation",
    "Level",
    "LnAffine",
    "Lora",
    "NullThreshold",
    "OfflineCompensation",
    "RandomSparseAdaptation",
    "ReadVerifyWrite",
    "Repair",
    "Schedule",
    "Timetable",
    "VeraPlus",
    "plan",
]
