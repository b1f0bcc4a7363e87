"""The files hold what the official evaluation reads."""

from __future__ import annotations

import json

import numpy as np

from hwaware.metrics import Answers, write_predictions


def test_files_are_read_back_exactly(tmp_path):
    odds = np.array([np.float32(0.1) - np.float64(3), 0.25, 2.5])
    answers = Answers.of(["a", "b", "c"], ["Zürich", "cat", "dog"], odds, [["Zürich"], [], []])
    n_best = {"a": [{"text": "Zürich", "score": 3.0, "probability": 1.0}], "b": [], "c": []}
    write_predictions(tmp_path / "out", answers, n_best, threshold=0.25)

    def read(name):
        return json.loads((tmp_path / "out" / name).read_text(encoding="utf-8"))

    assert read("predictions.json") == {"a": "Zürich", "b": "cat", "c": ""}
    assert read("nbest_predictions.json") == n_best
    assert read("null_odds.json") == dict(zip("abc", odds.tolist(), strict=True))
    assert len(list((tmp_path / "out").iterdir())) == 3
