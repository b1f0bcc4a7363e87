"""Which way a metric is better, by its name; rows have nothing else of it."""

from __future__ import annotations

import re

#: Words in the name of a metric of which less is better.
_ERRORS = frozenset({"error", "errors", "loss", "rmse", "mse", "mae", "mape", "nll", "perplexity", "wer", "cer"})


def less_is_better(metric: str) -> bool:
    """Whether a metric is an error: its name has a word that says so.

    >>> [less_is_better(metric) for metric in ("rmse", "val_rmse", "MeanSquaredError", "top1", "f1", "terror")]
    [True, True, True, False, False, False]
    """
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", metric)
    return any(word.lower() in _ERRORS for word in words)


def points_lost(metric: str, base: float, value: float) -> float:
    """By how many points a value is worse than another.

    >>> points_lost("top1", 92.0, 90.0), points_lost("rmse", 10.0, 12.0)
    (2.0, 2.0)
    """
    return value - base if less_is_better(metric) else base - value


def margin(metric: str, base: float, value: float, points: float) -> float:
    """How far a value is better than one that is so many points worse than another; below 0: it is worse."""
    return (base + points) - value if less_is_better(metric) else value - (base - points)
