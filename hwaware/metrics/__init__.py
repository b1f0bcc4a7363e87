"""Metrics: question answering as the official evaluation of SQuAD v2 scores it."""

from hwaware.metrics.answers import SquadAnswers
from hwaware.metrics.prediction_files import write_predictions
from hwaware.metrics.spans import best_spans
from hwaware.metrics.squad import Answers, exact_match, f1

__all__ = ["Answers", "SquadAnswers", "best_spans", "exact_match", "f1", "write_predictions"]
