"""Ways of repairing a drifted chip without rewriting its cells."""

from hwaware.compensation.base import Compensation, FitData, InFieldCompensation, OfflineCompensation
from hwaware.compensation.bn_stats import BnStats
from hwaware.compensation.channel_affine import ChannelAffine
from hwaware.compensation.dora import Dora, DoraLowRank, DoraMagnitude, Lora
from hwaware.compensation.repair import Repair
from hwaware.compensation.schedule import Level, Schedule, Timetable, plan
from hwaware.compensation.vera import VeraPlus

__all__ = [
    "BnStats",
    "ChannelAffine",
    "Compensation",
    "Dora",
    "DoraLowRank",
    "DoraMagnitude",
    "FitData",
    "InFieldCompensation",
    "Level",
    "Lora",
    "OfflineCompensation",
    "Repair",
    "Schedule",
    "Timetable",
    "VeraPlus",
    "plan",
]
