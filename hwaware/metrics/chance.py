"""Chance levels, the zero of normalised accuracies."""


def chance_of_classes(n_classes: int) -> dict[str, float]:
    """Top-k accuracies (percent) of guessing among balanced classes."""
    return {f"top{k}": 100.0 * min(k, n_classes) / n_classes for k in (1, 5)}


def chance_of_questions(no_answer_percent: float) -> dict[str, float]:
    """Scores (percent) of saying that no question has an answer."""
    return {"f1": no_answer_percent, "em": no_answer_percent, "f1_has_ans": 0.0}
