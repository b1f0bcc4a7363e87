"""Search for constants: Fisher scoring for laws, and a general optimiser for read noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.optimize import lsq_linear, minimize

from hwaware.hardware.devices.device import Device
from hwaware.hardware.devices.fit.forms import Constant
from hwaware.hardware.devices.fit.likelihood import Sample

#: The search ends when a step gains less total log-likelihood than this.
_MOST_STEPS, _MOST_DAMPING, _LEAST_GAIN = 60, 1e12, 1e-3


def inner(one: Constant, value: float) -> float:
    """The search variable of a constant's value."""
    return math.log(value) if one.log else value


def outer(one: Constant, value: float) -> float:
    """The reverse."""
    return math.exp(value) if one.log else value


def search(
    constants: Sequence[Constant], total: Callable[[dict[str, float]], float], start: Mapping[str, float]
) -> dict[str, float]:
    """Maximises a total over a few constants."""
    sizes = np.array([one.size for one in constants])
    bounds = [tuple(end / one.size if math.isfinite(end) else None for end in (one.low, one.high)) for one in constants]

    def values(z: np.ndarray) -> dict[str, float]:
        return {one.name: float(value) for one, value in zip(constants, z * sizes, strict=True)}

    begin = np.array([start[one.name] for one in constants]) / sizes
    scale = max(abs(total(values(begin))), 1.0)
    found = minimize(lambda z: -total(values(z)) / scale, begin, jac="3-point", bounds=bounds, method="L-BFGS-B")
    return values(found.x)


def scoring(
    constants: Sequence[Constant],
    device: Callable[[dict[str, float]], Device],
    sample: Sample,
    start: Mapping[str, float],
) -> dict[str, float]:
    """Fisher scoring with Levenberg's damping, each step a bounded least-squares problem.

    The constants determine one mean and one spread per state, so only these are differentiated by each constant.
    """
    sizes = np.array([one.size for one in constants])
    low = np.array([inner(one, one.low) for one in constants]) / sizes
    high = np.array([inner(one, one.high) for one in constants]) / sizes
    z = np.clip(np.array([inner(one, start[one.name]) for one in constants]) / sizes, low, high)

    def at(point: np.ndarray) -> Device:
        return device(values_of(constants, point * sizes))

    value, damping = sample.log_likelihood(at(z)).sum(), 1e-3
    for _ in range(_MOST_STEPS):
        gradient, information = gradient_and_information(sample, at, z, high)
        diagonal = np.diag(information) + 1e-6 * max(np.diag(information).max(), 1e-12)
        while damping < _MOST_DAMPING:
            root = np.linalg.cholesky(information + damping * np.diag(diagonal))
            step = _bounded_step(root, gradient, low - z, high - z)
            point = np.clip(z + step, low, high)
            new = sample.log_likelihood(at(point)).sum()
            if new >= value:
                break
            damping *= 8
        else:
            break
        gain, z, value, damping = new - value, point, new, max(damping / 5, 1e-9)
        if gain < _LEAST_GAIN:
            break
    return values_of(constants, z * sizes)


def gradient_and_information(
    sample: Sample, at: Callable[[np.ndarray], Device], z: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The gradient of the log-likelihood, and the expected information of the readings inside the limits."""
    here = at(z)
    kinds = sample.kinds(here)
    gradient, information = np.zeros(len(z)), np.zeros((len(z), len(z)))
    for (by_mean, by_std, inside), (_, std, _), (mean_slope, std_slope) in zip(
        sample.score(here), kinds, _slopes(sample, at, z, high, kinds), strict=True
    ):
        gradient += mean_slope @ by_mean + std_slope @ by_std
        weight = inside / std**2
        information += (mean_slope * weight) @ mean_slope.T + 2 * (std_slope * weight) @ std_slope.T
    return gradient, information


def _slopes(
    sample: Sample,
    at: Callable[[np.ndarray], Device],
    z: np.ndarray,
    high: np.ndarray,
    kinds: Sequence[tuple[np.ndarray, np.ndarray, bool]],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Derivatives of each kind's means and spreads by each constant, ``[constants, states]``."""
    found: list[tuple[list[np.ndarray], list[np.ndarray]]] = [([], []) for _ in kinds]
    for place in range(len(z)):
        step = 1e-5 * max(abs(z[place]), 1e-2)
        step = step if z[place] + step <= high[place] else -step
        point = z.copy()
        point[place] += step
        for slopes, (mean, std, _), (new_mean, new_std, _) in zip(found, kinds, sample.kinds(at(point)), strict=True):
            slopes[0].append((new_mean - mean) / step)
            slopes[1].append((new_std - std) / step)
    return [(np.array(means), np.array(stds)) for means, stds in found]


def _bounded_step(root: np.ndarray, gradient: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The best step within bounds for the quadratic model with information ``root @ root.T``."""
    aim = np.linalg.solve(root, gradient)
    step = np.linalg.solve(root.T, aim)
    if ((step >= low) & (step <= high)).all():
        return step
    # lsq_linear needs lower bounds below upper bounds.
    step = lsq_linear(root.T, aim, bounds=(np.minimum(low, -1e-15), np.maximum(high, 1e-15))).x
    return np.clip(step, low, high)


def values_of(constants: Sequence[Constant], searched: np.ndarray) -> dict[str, float]:
    """Constants by name."""
    return {one.name: float(outer(one, value)) for one, value in zip(constants, searched, strict=True)}
