"""Maximum-likelihood fits, confidence intervals, and choice of a form by the likelihood of held-out cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from hwaware.errors import UserError
from hwaware.hardware.devices.bootstrap import Bootstrap
from hwaware.hardware.devices.device import Device
from hwaware.hardware.devices.die_spread import MOST_SHARE, DieSpread
from hwaware.hardware.devices.fit.cleaning import RARE, Cleaned, clean
from hwaware.hardware.devices.fit.dies import FEWEST_CELLS as FEWEST_CELLS_OF_DIE
from hwaware.hardware.devices.fit.dies import FEWEST_DIES, Between, as_on_one_die, between_dies
from hwaware.hardware.devices.fit.forms import Constant, Form, forms, unit_of
from hwaware.hardware.devices.fit.lab_csv import named
from hwaware.hardware.devices.fit.likelihood import Repeats, Sample
from hwaware.hardware.devices.fit.readings import Readings
from hwaware.hardware.devices.fit.search import gradient_and_information, inner, outer, scoring, search, values_of
from hwaware.hardware.devices.registry import LAWS

#: Number of folds of cells; each is held out once.
FOLDS = 5

#: Seed for assigning cells to folds: the same file gives the same fit.
FOLD_SEED = 30_001

#: Number of bootstrap fits, whose spread gives the intervals, and the seed of their draws.
BOOTSTRAP_DRAWS, BOOTSTRAP_SEED = 80, 30_002

#: A form with fewer constants is preferred if it is behind the best one by at most this many standard errors.
TOLERATED_ERRORS = 2.0

#: Bound (nats) on one cell's part in that standard error, so that a few badly fitted cells do not excuse a form.
_MOST_IN_ERROR = 3.0

#: Fewest cells (at age 0, and later) for a fit.
FEWEST_CELLS = 20

_Z_95 = 1.959964

#: Normalised information below which a direction in the space of constants is not identifiable.
_UNDETERMINED = 1e-10


@dataclass(frozen=True)
class Estimate:
    """One constant with its 95 % interval; NaN ends if it is not identifiable."""

    name: str
    value: float
    low: float
    high: float
    unit: str = ""


@dataclass(frozen=True)
class Tried:
    """A form that was considered.

    Attributes:
        name: name of the form.
        n_constants: number of its constants, without read noise.
        held_out: log-likelihood per held-out cell; NaN if it was not fitted.
        behind, behind_error: difference to the best form, and its standard error over cells, with each cell's part
            bounded.
        reason: why it was not fitted.
    """

    name: str
    n_constants: int
    held_out: float = math.nan
    behind: float = math.nan
    behind_error: float = math.nan
    reason: str = ""


@dataclass(frozen=True)
class Fit:
    """The result of a fit.

    Attributes:
        device: the chosen form with its constants.
        cleaned: the readings that it was fitted to, and those that were excluded.
        estimates: the fitted constants; read noise, stuck rates and spreads between dies come last.
        derived: further numbers of the law, which follow from the estimates.
        tried: all forms, best first.
        chosen: name of the chosen form.
        notes: what the readings do not determine.
        formula: formula of the chosen form.
    """

    device: Device
    cleaned: Cleaned
    estimates: tuple[Estimate, ...]
    derived: dict[str, float]
    tried: tuple[Tried, ...]
    chosen: str
    notes: tuple[str, ...]
    formula: str = ""


def fit_device(readings: Readings, name: str, source: str = "") -> Fit:
    """Fits all forms of laws to readings of cells, and chooses one.

    Each form is fitted by maximum likelihood of the single readings, censored at their limits; the readings of one
    visit share its weight. The path of a cell between ages is not modelled. Read noise is fitted first, to the
    differences of repeated readings. Among the forms whose held-out likelihood is within two standard errors of the
    best, the one with the fewest constants is chosen. Intervals are 1.96 standard deviations of fits to cells drawn
    with replacement (a bootstrap over cells, since a cell's readings are correlated). If readings name dies, the
    spreads between dies that differ significantly from 0 are added
    (:func:`~hwaware.hardware.devices.fit.dies.between_dies`).

    Args:
        readings: readings from :func:`~hwaware.hardware.devices.fit.read_measurements`.
        name: name of the device.
        source: source of its constants, in words.

    Returns:
        The chosen device, with estimates, intervals and notes.

    Raises:
        UserError: there are too few cells, ages or targets; the message names what is not identifiable.
    """
    _check_enough(readings)
    cleaned = clean(readings)
    _check_enough(cleaned.readings)
    common = {
        "name": name,
        "source": source,
        "g_min_us": readings.window_us[0],
        "g_max_us": readings.window_us[1],
        "clamp": cleaned.clamp,
        # A table of cells just after writing contains no later age.
        "measured_s": tuple(float(readings.ages_s[end]) if len(readings.ages_s) else 0.0 for end in (0, -1)),
        "measured_us": readings.window_us,
    }
    problem = _Problem(cleaned, common)
    tried, fitted = [], {}
    for form in forms(cleaned):
        if reason := _unfit(form, cleaned.readings):
            tried.append(Tried(form.name, len(form.constants), reason=reason))
            continue
        read = problem.fit_read(form)
        found = problem.fit(form, read)
        fitted[form.name] = (form, read, found, problem.held_out(form, read, found))
    chosen, compared = _compare(fitted)
    form, read, found, _ = fitted[chosen]
    between = between_dies(cleaned, problem.device(form, {**found, **read}))
    drift_mean = next((one for one in between if one.constant == "drift_mean" and one.low > 0), None)
    if drift_mean is not None:
        cleaned = as_on_one_die(cleaned, problem.device(form, {**found, **read}), drift_mean)
        problem = _Problem(cleaned, common)
        found = problem.fit(form, read, starts=[found])
    drawn = problem.drawn(form, {**found, **read})
    estimates = problem.intervals(form, {**found, **read}, drawn)
    # Properties that a table of states does not contain are assumed.
    notes = [] if readings.n_states else _lacking_repeats(form, problem.repeats is not None, cleaned)
    notes += _departures(cleaned)
    stuck = {
        "stuck_on": _rate("stuck_on", *cleaned.stuck_on),
        "stuck_off": _rate("stuck_off", *cleaned.stuck_off),
    }
    estimates += () if readings.n_states else tuple(stuck.values())
    unknown = [one.name for one in estimates if math.isnan(one.low)]
    if unknown:
        notes.append(f"not identifiable from these readings: {', '.join(unknown)} (other values fit as well).")
    rounded = {name: float(f"{value:.7g}") for name, value in {**found, **read}.items()}
    rates = {name: float(f"{one.value:.4g}") for name, one in stuck.items()}
    device = problem.device(form, rounded, **rates, assumed=_assumed(form, problem.repeats is not None, readings))
    each = [problem.device(form, one, **rates) for one in drawn]
    device = replace(device, bootstrap=Bootstrap.of(each))
    if readings.dies:
        spread, more = _die_spread(between, len(readings.dies))
        device = replace(device, die_spread=spread)
        known = (one for one in between if not math.isnan(one.share))
        estimates += tuple(Estimate(f"die_spread.{one.constant}", one.share, one.low, one.high, "1") for one in known)
        notes += more
    derived = _derived(form, {**found, **read})
    return Fit(device, cleaned, estimates, derived, (*compared, *tried), chosen, tuple(notes), form.formula)


class _Problem:
    """The readings of one fit as likelihoods: all readings, and all but each fold."""

    def __init__(self, cleaned: Cleaned, common: Mapping[str, Any]) -> None:
        self.common, self.readings = common, cleaned.readings
        self.repeats = Repeats.of(cleaned)
        self.sample = Sample.of(cleaned)
        self.n = len(cleaned.readings.cells)
        cells = np.unique(cleaned.readings.cell)
        fold = np.full(self.n, -1)
        fold[np.random.default_rng(FOLD_SEED).permutation(cells)] = np.arange(len(cells)) % FOLDS
        self.folds = []
        for one in range(FOLDS):
            held = fold[cleaned.readings.cell] == one
            self.folds.append((Sample.of(cleaned, ~held), Sample.of(cleaned, held)))

    def device(self, form: Form, values: Mapping[str, float], **more: Any) -> Device:
        return LAWS[form.law](**{**self.common, **form.fields(dict(values)), **more})

    def fit_read(
        self, form: Form, times: np.ndarray | None = None, start: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """Constants of read noise, with a weight for each cell; 0 if no cell was read twice."""
        if not form.read or self.repeats is None:
            return {one.name: max(0.0, one.low) for one in form.read}
        repeats = self.repeats if times is None else self.repeats.reweighted(times)
        start = start or {one.name: one.start for one in (*form.constants, *form.read)}

        def total(values: dict[str, float]) -> float:
            return repeats.log_likelihood(self.device(form, {**start, **values})).sum()

        return search(form.read, total, start)

    def fit(
        self,
        form: Form,
        read: Mapping[str, float],
        sample: Sample | None = None,
        starts: Sequence[Mapping[str, float]] = (),
    ) -> dict[str, float]:
        """Constants of programming and drift: the best of the searches from all starts."""
        sample = self.sample if sample is None else sample
        usual = {one.name: one.start for one in form.constants}
        starts = starts or [{**usual, **other} for other in form.starts]

        def device(values: dict[str, float]) -> Device:
            return self.device(form, {**values, **read})

        found = [scoring(form.constants, device, sample, one) for one in starts]
        return max(found, key=lambda values: sample.log_likelihood(device(values)).sum())

    def held_out(self, form: Form, read: Mapping[str, float], start: Mapping[str, float]) -> np.ndarray:
        """Log-likelihood of each cell under constants of programming and drift that were fitted without it.

        Read noise, cleaning and limits are those of all cells.
        """
        total = np.zeros(self.n)
        for train, held in self.folds:
            values = self.fit(form, read, train, [start])
            each = held.log_likelihood(self.device(form, {**values, **read}))
            total += np.bincount(held.cell, each, minlength=self.n)
        return total[np.unique(self.readings.cell)]

    def drawn(self, form: Form, values: Mapping[str, float]) -> list[dict[str, float]]:
        """The constants of fits to cells drawn with replacement."""
        every = []
        rng, cells = np.random.default_rng(BOOTSTRAP_SEED), np.unique(self.readings.cell)
        for draw in range(BOOTSTRAP_DRAWS):
            times = np.bincount(rng.choice(cells, len(cells)), minlength=self.n).astype(float)
            read = self.fit_read(form, times, values)
            # A search only from the fit could not cross the kinks that some laws have.
            other = {**values, **form.starts[draw % len(form.starts)]}
            starts = [values, other] if len(form.starts) > 1 else [values]
            every.append({**self.fit(form, read, self.sample.reweighted(times), starts), **read})
        return every

    def intervals(
        self, form: Form, values: Mapping[str, float], drawn: Sequence[Mapping[str, float]]
    ) -> tuple[Estimate, ...]:
        """95 % intervals from the spread of bootstrap fits; NaN for constants that are not identifiable."""
        unknown = self.undetermined(form, values)
        estimates = []
        for one in self.constants(form):
            spread = float(np.std([inner(one, found[one.name]) for found in drawn], ddof=1))
            at, error = inner(one, values[one.name]), _Z_95 * spread
            ends = [min(max(outer(one, at + side * error), one.low), one.high) for side in (-1, 1)]
            low, high = (math.nan, math.nan) if one.name in unknown else ends
            estimates.append(Estimate(one.name, values[one.name], low, high, unit_of(one.name)))
        return tuple(estimates)

    def constants(self, form: Form) -> tuple[Constant, ...]:
        """The constants that the readings can determine; without repeats, not those of read noise."""
        return form.constants + (form.read if self.repeats is not None else ())

    def undetermined(self, form: Form, values: Mapping[str, float]) -> set[str]:
        """Constants of programming and drift that can change together without changing any mean or spread."""
        sizes = np.array([one.size for one in form.constants])
        z = np.array([inner(one, values[one.name]) for one in form.constants]) / sizes

        def at(point: np.ndarray) -> Device:
            return self.device(form, {**values, **values_of(form.constants, point * sizes)})

        high = np.array([inner(one, one.high) for one in form.constants]) / sizes
        _, information = gradient_and_information(self.sample, at, z, high)
        diagonal = np.diag(information)
        scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        eigenvalues, vectors = np.linalg.eigh(information / np.outer(scale, scale))
        part = (vectors[:, eigenvalues < _UNDETERMINED] ** 2).sum(axis=1)
        return {one.name for one, share in zip(form.constants, part, strict=True) if share > 0.05}


def _compare(fitted: Mapping[str, tuple]) -> tuple[str, list[Tried]]:
    """The form with the fewest constants among those as good as the best, and all forms, best first."""
    totals = {name: held.mean() for name, (_, _, _, held) in fitted.items()}
    order = sorted(totals, key=lambda name: totals[name], reverse=True)
    best = fitted[order[0]][3]
    compared = []
    for name in order:
        less = best - fitted[name][3]
        error = np.clip(less, -_MOST_IN_ERROR, _MOST_IN_ERROR).std(ddof=1) / math.sqrt(len(less))
        compared.append(Tried(name, len(fitted[name][0].constants), totals[name], less.mean(), error))
    as_good = [one for one in compared if one.behind <= TOLERATED_ERRORS * one.behind_error]
    return min(as_good, key=lambda one: one.n_constants).name, compared


def _lacking_repeats(form: Form, repeats: bool, cleaned: Cleaned) -> list[str]:
    """Notes on read noise that can't be separated from other spread, or that the law lacks."""
    notes = []
    if form.read and not repeats:
        notes.append(
            "read noise can't be separated from drift: no cell was read twice at one age above 0. The spread has both."
        )
    elif not form.read and repeats:
        notes.append(f"the law {form.law} has no read noise: the fitted spread includes it.")
    if cleaned.noise_us is None:
        notes.append(
            "no cell was read twice at time_s=0: those readings count as the programmed conductances, so they must be "
            "verify values or averages; the noise of a single read would count as programming error."
        )
    return notes


def _assumed(form: Form, repeats: bool, readings: Readings) -> tuple[str, ...]:
    """Constants that readings of conductances, or these readings, do not determine."""
    read = () if repeats else tuple(one.name.partition("[")[0] for one in form.read) or ("read_noise",)
    time = ("read_time_s",) if "read_time_s" in (field.name for field in fields(LAWS[form.law])) else ()
    of_law = (*dict.fromkeys((*read, *time)), *form.assumed)
    return ("kappa", "g_min_us", "g_max_us", *of_law, *readings.assumed, "temperature_c")


def _departures(cleaned: Cleaned) -> list[str]:
    """Notes on ages at which outliers are not rare."""
    found = []
    for part, what in (
        (cleaned.aside, "were set aside: the law says nothing of them"),
        (cleaned.departed, "lie far from their state's others and the cells stay there, or were read no more; they "
         "count, as if the spread of all cells were that much wider. If the instrument erred, drop these rows"),
    ):  # fmt: skip
        age_s, share, cells = cleaned.most_at_an_age(part)
        if share > RARE:
            found.append(f"at {age_s:g} s {100 * share:.2g} % of the readings ({named('cell', cells)}) {what}.")
    return found


def _die_spread(between: Sequence[Between], n_dies: int) -> tuple[DieSpread | None, list[str]]:
    """The spread between dies for the device file, and notes on it."""
    if not between:
        needed = f"it takes {FEWEST_DIES} dies with {FEWEST_CELLS_OF_DIE} cells just written and later"
        return None, [f"the spread between dies is not estimated: {needed} ({n_dies} are named)."]
    told: dict[str, Any] = {one.constant: float(f"{min(one.share, MOST_SHARE):.3g}") for one in between if one.low > 0}
    notes = [
        "a die's window and temperature are not estimated: set die_spread.window and die_spread.temperature_k by hand.",
    ]
    if "drift_mean" in told:
        notes.append(
            "the constants are those of an average die: the deviation of each die's mean drift is subtracted from its "
            "readings, also in the tables and figures."
        )
    for one in between:
        if math.isnan(one.share):
            notes.append(
                f"die_spread.{one.constant} is unknown: too few readings per die, or the law does not have it."
            )
        elif not one.low > 0:
            notes.append(
                f"die_spread.{one.constant} is left out: variation between cells explains it (at most {one.high:.2g})."
            )
        elif one.share > MOST_SHARE:
            notes.append(f"die_spread.{one.constant} is {one.share:.2g}; the file has the largest allowed value.")
    return (DieSpread(**told) if told else None), notes


def _derived(form: Form, values: Mapping[str, float]) -> dict[str, float]:
    """Numbers of the law that follow from the fitted constants or the measurement."""
    numbers: dict[str, float] = {}
    for field, value in form.fields(dict(values)).items():
        if isinstance(value, tuple) and all(isinstance(one, float) for one in value):
            numbers |= {f"{field}[{place}]": one for place, one in enumerate(value)}
        elif isinstance(value, float):
            numbers[field] = value
    return {name: value for name, value in numbers.items() if name not in values}


def _rate(name: str, stuck: int, of: int) -> Estimate:
    """A rate with Wilson's interval."""
    if not of:
        return Estimate(name, 0.0, 0.0, 1.0, "1")
    share, z2 = stuck / of, _Z_95**2
    middle, half = share + z2 / (2 * of), _Z_95 * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return Estimate(name, share, max((middle - half) / (1 + z2 / of), 0.0), (middle + half) / (1 + z2 / of), "1")


def _unfit(form: Form, readings: Readings) -> str:
    """Why a form can't be fitted to readings; empty if it can."""
    targets, ages = len(np.unique(readings.target_us)), readings.ages_s
    if len(ages) and ages[0] < form.youngest_s:
        return f"it does not cover {ages[0]:g} s"
    if targets < form.needs_targets:
        return f"it needs {form.needs_targets} targets; there are {targets}"
    if len(ages) < form.needs_ages:
        return f"it needs {form.needs_ages} ages; there are {len(ages)}"
    return ""


def _check_enough(readings: Readings) -> None:
    new = len(np.unique(readings.cell[readings.time_s == 0]))
    if new < FEWEST_CELLS:
        raise UserError(
            f"the programming error is not identifiable: {new} cells were read at time_s=0 (just written); at least "
            f"{FEWEST_CELLS} are needed."
        )
    ages = readings.ages_s
    if len(ages) < 2 and not readings.n_states:
        given = f"only at {ages[0]:g} s" if len(ages) else "none"
        raise UserError(
            f"drift over time is not identifiable: readings after time 0: {given}. The slopes of its mean "
            "and spread over ln t need at least 2 ages above 0."
        )
    old = len(np.unique(readings.cell[readings.time_s > 0]))
    if old < FEWEST_CELLS and len(ages):
        raise UserError(
            f"the spread of drift is not identifiable: {old} cells were read after time 0; at least "
            f"{FEWEST_CELLS} are needed."
        )
    targets = np.unique(readings.target_us)
    if len(targets) < 2:
        raise UserError(
            f"how errors depend on the state (programming_std_slope) is not identifiable: all cells have the target "
            f"{targets[0]:g} µS; at least 2 are needed."
        )
