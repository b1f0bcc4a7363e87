"""Rows of an evaluation under way, so that one that is killed can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path

import torch
from torch import nn

from hwaware.devices import Device
from hwaware.errors import UserError
from hwaware.evaluation import Row, RunLabels
from hwaware.files import replacing
from hwaware.report.rows import read_rows, write_rows

#: Stands where rows.csv will, until all rows are there; beside it, which weights they are of.
NAME, WEIGHTS = "rows.partial.csv", "rows.partial.json"


class PartialRows:
    """What a killed evaluation had measured, and what this one has so far.

    Args:
        folder: where to keep the latter; None: nowhere.
        resume: the file of a killed evaluation; None: there was none.
        networks: that are evaluated, by name; rows of other weights are refused.

    Raises:
        UserError: that file is not there, or is not one of rows.
    """

    def __init__(
        self, folder: Path | None, resume: str | None, networks: Mapping[str, nn.Module] | None = None
    ) -> None:
        self._path = None if folder is None else folder / NAME
        self._resume = resume
        if resume and not Path(resume).is_file():
            raise UserError(f"evaluation.resume: there is no file '{resume}'.")
        self._known = read_rows(resume) if resume else []
        self._weights = {name: _fingerprint(network) for name, network in (networks or {}).items()}
        if resume:
            self._refuse_other_weights(Path(resume).parent / WEIGHTS)

    def group(
        self,
        labels: RunLabels,
        device: Device,
        held: str,
        base_digital: Mapping[str, float],
        drift_free: Mapping[str, float],
        n_samples: int,
        ages_s: Sequence[float],
        chip_seeds: Sequence[int],
    ) -> list[Row] | None:
        """The rows that :func:`evaluate` would give for these, in its order, where all of them are known.

        Raises:
            UserError: the file's rows belong to another run.
        """
        run = {name: getattr(labels, name) for name in ("recipe", "model", "dataset", "seed")}
        run |= {"n_samples": n_samples, "version": version("hwaware")}
        group = {name: getattr(labels, name) for name in ("network", "method", "method_params")}
        group |= {"device": device.name, "device_params": held}
        group |= {"mapping": device.mapping}
        found = {}
        for row in self._known:
            for name, mine in (*run.items(), ("base_digital", base_digital.get(row.metric))):
                if getattr(row, name) != mine:
                    theirs = getattr(row, name)
                    raise UserError(f"'{self._resume}' has rows of another run: {name} is {theirs} there, {mine} here.")
            if all(getattr(row, name) == value for name, value in group.items()):
                if row.drift_free != drift_free.get(row.metric):
                    raise UserError(
                        f"'{self._resume}' has rows of another network: '{row.network}' has {row.drift_free} % "
                        f"drift-free {row.metric} there, {drift_free.get(row.metric)} % here."
                    )
                found[row.chip_seed, row.age_s, row.metric] = row
        wanted = list(product(chip_seeds, ages_s, base_digital))
        return [found[key] for key in wanted] if all(key in found for key in wanted) else None

    def keep(self, rows: Sequence[Row]) -> None:
        """Writes the rows so far."""
        if self._path is not None:
            with replacing(self._path.parent / WEIGHTS) as file:
                file.write(json.dumps(self._weights).encode())
            write_rows(self._path, rows)

    @staticmethod
    def done(folder: Path) -> None:
        """Removes what was kept: the whole is there."""
        for name in (NAME, WEIGHTS):
            (folder / name).unlink(missing_ok=True)

    def _refuse_other_weights(self, file: Path) -> None:
        try:
            theirs = json.loads(file.read_text())
        except (OSError, ValueError):
            raise UserError(
                f"evaluation.resume: there is no '{file}', which says what weights its rows are of."
            ) from None
        for name, mine in self._weights.items():
            if theirs.get(name, mine) != mine:
                raise UserError(f"'{self._resume}' has rows of another network: '{name}' had other weights there.")


def _fingerprint(network: nn.Module) -> str:
    """A digest of all weights."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
