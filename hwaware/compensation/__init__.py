"""Compensation methods: repairs of an aged chip without rewriting its cells."""

from hwaware.compensation.base import Compensation, FitData, InFieldCompensation, OfflineCompensation
from hwaware.compensation.methods.bn_stats import BnAdaBs, BnAdaBsDifference, BnStats
from hwaware.compensation.methods.channel_affine import ChannelAffine
from hwaware.compensation.methods.dora import Dora, DoraLowRank, DoraMagnitude, Lora
from hwaware.compensation.methods.drift_compensation import ColumnDriftCompensation, GlobalDriftCompensation
from hwaware.compensation.methods.norm_affine import BnFinetune, LnAffine
from hwaware.compensation.methods.null_threshold import NullThreshold
from hwaware.compensation.methods.rsa import RandomSparseAdaptation
from hwaware.compensation.methods.rvw import ReadVerifyWrite
from hwaware.compensation.methods.vera import VeraPlus
from hwaware.compensation.repair import Repair
from hwaware.compensation.schedule import Level, Schedule, Timetable, plan

__all__ = [
    "BnAdaBs",
    "BnAdaBsDifference",
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
