"""What differs between two sets of a case's lines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

#: What ends a key whose value is a percentage.
_PERCENT = ("value", "drift_free", "base_digital", "mean", "std", "loss_points", "loss_std", "kept_accuracy")
_PERCENT += ("exact_accuracy", "all_accuracy", "top1", "top5")

#: Allowed on another kind of processor: points of a percentage, share of any other number.
POINTS, RELATIVE = 2.0, 0.01


def differences(wanted: Mapping[str, str], found: Mapping[str, str], exact: bool) -> tuple[list[str], list[str]]:
    """What differs between the lines of a case, and what is only to be told."""
    wrong = [f"{key}: {value} is missing" for key, value in wanted.items() if key not in found]
    wrong += [f"{key}: {value} is new" for key, value in found.items() if key not in wanted]
    told = []
    for key in wanted.keys() & found.keys():
        old, new = wanted[key], found[key]
        if key.endswith("device_params") and old != new:
            before, after = json.loads(old), json.loads(new)
            was = {name: before[name] for name in sorted(before) if after.get(name, "missing") != before[name]}
            if was:
                now = {name: after.get(name, "missing") for name in was}
                wrong.append(f"{key}: {was} is now {now}")
            if more := sorted(after.keys() - before.keys()):
                told.append(f"{key} also has {', '.join(more)}")
        elif old != new and (exact or not _near(key, old, new)):
            wrong.append(f"{key}: {old} is now {new}")
    return sorted(wrong), told


def _near(key: str, old: str, new: str) -> bool:
    """Whether two values agree but for rounding on another processor."""
    if key.endswith("sha256"):
        return True
    try:
        old_number, new_number = float(old), float(new)
    except ValueError:
        return False
    if key.rpartition("|")[2].rpartition("/")[2] in _PERCENT:
        return abs(old_number - new_number) <= POINTS
    return math.isclose(old_number, new_number, rel_tol=RELATIVE, abs_tol=RELATIVE)
