"""Answers in the files that the official evaluation of SQuAD v2 reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hwaware.metrics.squad import Answers
from hwaware.results.files import replacing


def write_predictions(
    folder: str | Path, answers: Answers, n_best: Mapping[str, Sequence[Mapping[str, Any]]], threshold: float
) -> None:
    """Writes ``predictions.json``, ``nbest_predictions.json`` and ``null_odds.json``, each by question id.

    Args:
        folder: output folder; it is created if it is missing.
        answers: answers to all questions.
        n_best: see :meth:`hwaware.metrics.answers.SquadAnswers.n_best`.
        threshold: null odds above it mean no answer, which is predicted as an empty text.
    """
    contents = {
        "predictions": answers.predictions(threshold),
        "nbest_predictions": n_best,
        "null_odds": dict(zip(answers.ids, answers.null_odds.tolist(), strict=True)),
    }
    for name, content in contents.items():
        with replacing(Path(folder) / f"{name}.json") as file:
            file.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
