"""The samples that a network classifies correctly on each chip at each age: ``hits.npz`` beside ``rows.csv``.

With hits, the interval of a gain covers samples as well as chips, so that it also holds for other images.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path

import numpy as np

from hwaware.errors import UserError
from hwaware.results.csv import IDENTITY
from hwaware.results.dies import die_of_row
from hwaware.results.files import replacing
from hwaware.results.row import Row
from hwaware.results.summary import Gain, crossed_margin

NAME = "hits.npz"

#: Tolerance (percent) between the mean of hits and a row's value, which is computed in single precision.
_ROUNDED = 1e-3

_identity = attrgetter(*IDENTITY)


@dataclass(frozen=True)
class HitLine:
    """The hits behind one row.

    Attributes:
        identity: the row's fields that :data:`~hwaware.results.csv.IDENTITY` names.
        bits: one bit per sample, in the order of samples, packed into bytes ``[⌈n_samples/8⌉]``.
    """

    identity: tuple[str | float | int, ...]
    bits: np.ndarray

    @classmethod
    def of(cls, row: Row, hits: Sequence[bool] | np.ndarray) -> HitLine:
        """Builds the line of a row.

        Args:
            row: the measurement.
            hits: which samples are hits, bool ``[n_samples]``.

        Raises:
            UserError: the hits do not give the row's value.
        """
        line = cls(_identity(row), np.packbits(np.asarray(hits, dtype=bool)))
        if len(hits) != row.n_samples or line.differs_from(row):
            raise UserError(
                f"hits give {100 * np.mean(hits):.4f} % of {len(hits)} samples, but '{row.metric}' is {row.value} % "
                f"of {row.n_samples}: they must be those of the first metric."
            )
        return line

    def differs_from(self, row: Row) -> bool:
        """Whether these hits contradict a row's value."""
        return abs(100 * int(np.unpackbits(self.bits).sum()) / row.n_samples - row.value) > _ROUNDED


@dataclass(frozen=True)
class Hits:
    """The hits of an evaluation.

    Attributes:
        samples: a digest of the samples and their order.
        lines: one line for each row of the metric that counts hits.
    """

    samples: str
    lines: tuple[HitLine, ...]

    @cached_property
    def _bits(self) -> dict[tuple[str | float | int, ...], np.ndarray]:
        return {line.identity: line.bits for line in self.lines}

    def has(self, rows: Iterable[Row]) -> bool:
        """Whether the hits of all these rows are known."""
        return all(_identity(row) in self._bits for row in rows)

    def of(self, rows: Iterable[Row]) -> dict[int, np.ndarray]:
        """Hits, bool ``[n_samples]``, by chip, for rows that differ only in their chips."""
        bits = {row.chip_seed: np.unpackbits(self._bits[_identity(row)], count=row.n_samples) for row in rows}
        return {chip: found.astype(bool) for chip, found in bits.items()}


def write_hits(path: str | Path, hits: Hits) -> Path:
    """Writes hits: ``samples`` (text), ``lines`` (a JSON list of identities, in whose order the bits are), ``bits``."""
    path = Path(path)
    lines = json.dumps([line.identity for line in hits.lines])
    width = max((len(line.bits) for line in hits.lines), default=0)
    bits = [np.pad(line.bits, (0, width - len(line.bits))) for line in hits.lines]
    with replacing(path) as file:
        np.savez_compressed(file, samples=hits.samples, lines=lines, bits=np.array(bits, dtype=np.uint8))
    return path


def read_hits(path: str | Path, rows: Iterable[Row]) -> Hits:
    """Reads a file of :func:`write_hits`.

    Args:
        path: path of the file.
        rows: the rows of the same evaluation.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file does not contain hits, or they do not belong to these rows.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no hits at '{path}': an evaluation writes them if evaluation.keep_hits is true.")
    try:
        with np.load(path, allow_pickle=False) as file:
            samples, identities, bits = str(file["samples"]), json.loads(str(file["lines"])), file["bits"]
        lines = [HitLine(tuple(one), own) for one, own in zip(identities, bits, strict=True)]
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"'{path}' is not a file of hits ({error}).") from error
    by_identity: Mapping[tuple[str | float | int, ...], Row] = {_identity(row): row for row in rows}
    for line in lines:
        row = by_identity.get(line.identity)
        if row is None:
            about = dict(zip(IDENTITY, line.identity, strict=False))
            raise UserError(
                f"'{path}' has hits of another run: {about.get('network')} with {about.get('method')} on chip "
                f"{about.get('chip_seed')} at {about.get('age_s')} s is in none of the rows."
            )
        if line.differs_from(row):
            raise UserError(
                f"'{path}' has hits of another run: {row.network} with {row.method} on chip {row.chip_seed} at "
                f"{row.age_s:g} s has other than the rows' {row.value} %."
            )
    return Hits(samples, tuple(lines))


def gain_over_samples(
    rows: Sequence[Row], reference: Sequence[Row], hits: Hits, of_reference: Hits | None = None
) -> Gain | None:
    """:func:`~hwaware.results.summary.paired_gain` with an interval over chips and samples, by crossed effects.

    Args:
        rows, reference: rows of one network each, with one method, age, metric and training seed.
        hits: the hits of ``rows``.
        of_reference: the hits of ``reference`` if another evaluation measured it; None: those in ``hits``.

    Returns:
        The gain; None if some hits are unknown, or there is no common chip.

    Raises:
        UserError: the hits belong to different samples, or the rows to several training seeds.
    """
    theirs = hits if of_reference is None else of_reference
    if hits.samples != theirs.samples:
        raise UserError("the two files of hits belong to different samples, which can't be paired.")
    if len(seeds := {row.seed for row in (*rows, *reference)}) > 1:
        raise UserError(f"hits are paired within one training seed, not {', '.join(map(str, sorted(seeds)))}.")
    if not (hits.has(rows) and theirs.has(reference)):
        return None
    ours, others = hits.of(rows), theirs.of(reference)
    chips = sorted(set(ours) & set(others))
    if not chips:
        return None
    die_of = {row.chip_seed: die_of_row(row) for row in rows}
    of_dies: dict[int, list[np.ndarray]] = {}
    for chip in chips:
        of_dies.setdefault(die_of[chip], []).append(ours[chip].astype(float) - others[chip])
    table = 100.0 * np.array([np.mean(of_die, axis=0) for of_die in of_dies.values()])
    mean, several = float(table.mean()), len(table) > 1
    return Gain(len(table), mean, crossed_margin(table) if several else math.nan, (mean,))
