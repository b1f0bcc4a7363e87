"""Partial rows of a running evaluation, so that it can continue after an interruption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import nn

from hwaware.errors import UserError, nearest_path
from hwaware.evaluation.settings import EvaluationSettings
from hwaware.hardware import Hardware
from hwaware.results.csv import read_rows, write_rows
from hwaware.results.files import replacing
from hwaware.results.refused import RefusedLine, case_of, read_refused, write_refused
from hwaware.results.row import Row, RunLabels
from hwaware.system.reading import read_json
from hwaware.tasks import HardwareAwareTask

#: Files that exist until rows.csv is complete: rows so far, digests of the weights, refused repairs.
NAME, WEIGHTS, REFUSED = "rows.partial.csv", "rows.partial.json", "refused.partial.csv"


class PartialRows:
    """The rows of an interrupted evaluation, and those of this one so far.

    Args:
        folder: folder for the rows of this evaluation; None: none.
        settings: settings of the evaluation; they name the file of the interrupted one.
        task, datamodule: task and data of this evaluation.
        networks: the evaluated networks, by name; rows of other weights are refused.

    Raises:
        UserError: the file does not exist, does not contain rows, or has those of another run.
    """

    def __init__(
        self,
        folder: Path | None,
        settings: EvaluationSettings,
        task: HardwareAwareTask,
        datamodule: LightningDataModule,
        networks: Mapping[str, nn.Module] | None = None,
    ) -> None:
        self._path = None if folder is None else folder / NAME
        self._resume = resume = settings.resume
        if resume and not Path(resume).is_file():
            raise UserError(f"evaluation.resume: there is no file '{resume}'. {nearest_path(resume)}".rstrip())
        self._known = read_rows(resume) if resume else []
        labels = settings.labels(task, datamodule, network="")
        run = {name: getattr(labels, name) for name in ("recipe", "model", "dataset", "seed")}
        self._refuse_other_rows({**run, "version": version("hwaware")})
        hardware = [one for placement in settings.placements for one in placement.every]
        ours, theirs = (
            {(one.device.name, one.encoding.mapping) for one in hardware},
            {(row.device, row.mapping) for row in self._known},
        )
        if theirs and not ours & theirs:
            there, here = (", ".join(sorted(f"{name} {mapping}" for name, mapping in some)) for some in (theirs, ours))
            raise UserError(f"'{resume}' has rows of another device: {there} in that run, {here} now.")
        self._refused: dict[tuple[Any, ...], RefusedLine] = {}
        self._weights = {name: _fingerprint(network) for name, network in (networks or {}).items()}
        if resume:
            self._refuse_other_weights(Path(resume).parent / WEIGHTS)
            refused = Path(resume).parent / REFUSED
            self.note(read_refused(refused) if refused.is_file() else [])  # exists only if a repair was refused

    def chips(
        self,
        labels: RunLabels,
        main: Hardware,
        held: str,
        base_digital: Mapping[str, float],
        drift_free: Mapping[str, float],
        n_samples: int,
        ages_s: Sequence[float],
        chip_seeds: Sequence[int],
    ) -> dict[int, list[Row]]:
        """The rows by chip, for chips whose rows are complete.

        They are the same as those of :func:`hwaware.evaluation.evaluate.evaluate`, in its order.

        Raises:
            UserError: the file's rows belong to another run.
        """
        self._refuse_other_rows({"n_samples": n_samples})
        group = {name: getattr(labels, name) for name in ("network", "method", "method_params")}
        group |= {"device": main.device.name, "device_params": held, "mapping": main.encoding.mapping}
        found = {}
        for row in self._known:
            if row.base_digital != (mine := base_digital.get(row.metric)):
                raise self._other_run("base_digital", row.base_digital, mine)
            if all(getattr(row, name) == value for name, value in group.items()):
                if row.drift_free != drift_free.get(row.metric):
                    raise UserError(
                        f"'{self._resume}' has rows of another network: '{row.network}' has {row.drift_free} % "
                        f"drift-free {row.metric} in that run, {drift_free.get(row.metric)} % now."
                    )
                found[row.chip_seed, row.age_s, row.metric] = row
        wanted = {seed: [(seed, *what) for what in product(ages_s, base_digital)] for seed in chip_seeds}
        return {
            seed: [found[key] for key in keys] for seed, keys in wanted.items() if all(key in found for key in keys)
        }

    def note(self, lines: Iterable[RefusedLine]) -> None:
        """Adds refused repairs; later ones replace earlier ones."""
        self._refused |= {case_of(line): line for line in lines}

    def refused(self, rows: Iterable[Row]) -> list[RefusedLine]:
        """The refused repairs of the measurements, in the order of rows."""
        cases = dict.fromkeys(map(case_of, rows))
        return [self._refused[case] for case in cases if case in self._refused]

    def keep(self, rows: Sequence[Row]) -> None:
        """Writes the rows so far, and their refused repairs."""
        if self._path is not None:
            if refused := self.refused(rows):  # written before the rows, which mark what is done
                write_refused(self._path.parent / REFUSED, refused)
            with replacing(self._path.parent / WEIGHTS) as file:
                file.write(json.dumps(self._weights).encode())
            write_rows(self._path, rows)

    @staticmethod
    def done(folder: Path) -> None:
        """Removes the partial files, since the results are complete."""
        for name in (NAME, WEIGHTS, REFUSED):
            (folder / name).unlink(missing_ok=True)

    def _refuse_other_rows(self, run: Mapping[str, Any]) -> None:
        for row in self._known:
            for name, mine in run.items():
                if getattr(row, name) != mine:
                    raise self._other_run(name, getattr(row, name), mine)

    def _other_run(self, name: str, theirs: Any, mine: Any) -> UserError:
        return UserError(f"'{self._resume}' has rows of another run: {name} is {theirs} in that run, {mine} now.")

    def _refuse_other_weights(self, file: Path) -> None:
        try:
            theirs = dict(read_json(file, "evaluation.resume"))
        except (UserError, TypeError, ValueError):
            raise UserError(
                f"evaluation.resume: there is no '{file}', which identifies the weights of its rows."
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
