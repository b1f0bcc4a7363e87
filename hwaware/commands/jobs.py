"""Studies: the jobs of an experiment, by name, listed in ``study.yaml`` in the folder of its results.

::

    about: the question, and how long it takes          # one line
    inputs:                                             # files or folders that the user gives
      cifar10: folder with train.parquet and test.parquet
    environment: {OMP_NUM_THREADS: 1}                   # of every process
    settings: {data.path: "${inputs.cifar10}"}          # of every job
    shared: …                                           # for YAML's anchors (&NAME); nothing reads it
    jobs:
      finetune:
        command: fit --config recipes/cifar10_resnet20.yaml
        settings: {evaluation.networks: []}             # --evaluation.networks=[]
      aged:
        command: drift --config recipes/cifar10_resnet20.yaml
        settings: {weights: "${jobs.finetune}/model.safetensors"}
        seeds: [1, 2]                                   # jobs aged_1 and aged_2, with --seed_everything
    chance: {classes: 10}                               # for A* of the merged rows; or {no_answer: PERCENT}
    plots: [python scripts/plot_sweep.py …]             # commands that draw, once all rows are merged
    files: {aged.png: "${study}/plots/….png"}           # files that are copied to the study's folder at the end

A command is a ``hwaware`` command as typed, or ``python SCRIPT …``. In commands, settings and files,

* ``${inputs.NAME}`` is the given path; if that is the folder of another study's runs, ``${inputs.NAME.JOB}`` is the run
  folder of a job there,
* ``${jobs.NAME}`` is the run folder of another job, which therefore runs first,
* ``${study}`` is the folder of the study file,
* ``${out}`` is the job's own folder; a command that does not use it gets ``--trainer.default_root_dir``.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from hwaware.commands import COMMANDS
from hwaware.commands.packaged import found_recipe, nearest_recipe
from hwaware.commands.processes import run_logged
from hwaware.errors import UserError, nearest
from hwaware.results.files import replacing
from hwaware.system.reading import read_json, read_yaml

NAME = "study.yaml"

_KEYS = ("about", "inputs", "environment", "settings", "shared", "jobs", "chance", "plots", "files")
_JOB_KEYS = ("command", "settings", "seeds")
_CHANCE = ("classes", "no_answer")
_REFERENCE = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True)
class Job:
    """One process of a study, with its own folder under the study's runs.

    Attributes:
        name: name of its folder.
        words: words of its command and settings, with references to inputs, jobs and folders.
    """

    name: str
    words: tuple[str, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the jobs that must run first."""
        found = (reference.partition(".") for reference in _references(self.words))
        return tuple(dict.fromkeys(name for kind, _, name in found if kind == "jobs"))

    def log(self, out: Path) -> Path:
        """Path of its log."""
        return out / self.name / "log.txt"

    def finished(self, out: Path) -> bool:
        """Whether it has finished successfully."""
        return bool(self._record(out).get("finished"))

    def folder(self, out: Path) -> Path | None:
        """Folder of its results: its own folder if the command uses it, otherwise the newest run in it, if any."""
        own = out / self.name
        return (own if own.is_dir() else None) if "out" in _references(self.words) else newest_run(own)

    def check(self, out: Path, recorded: Sequence[str]) -> None:
        """Raises UserError if its folder has results of another command, or an unfinished run of one."""
        known = self._record(out).get("command", list(recorded))
        if known != list(recorded) and (self.finished(out) or self.resume_options(out)):
            raise UserError(f"'{out / self.name}' belongs to another command: give another --out, or remove it.")

    def resume_options(self, out: Path) -> tuple[str, ...]:
        """Arguments by which an interrupted command continues: from a checkpoint, or from partial rows."""
        if self.words[0] not in ("fit", "drift", "compare") or self.finished(out):
            return ()
        arguments: tuple[str, ...] = ()
        checkpoint = _newest((out / self.name).glob("*/version_*/checkpoints/last*.ckpt"))
        if self.words[0] == "fit" and checkpoint:
            arguments += (f"--ckpt_path={checkpoint}",)
        rows = _newest((out / self.name).glob("*/version_*/rows.partial.csv"))
        return arguments if rows is None else (*arguments, f"--evaluation.resume={rows}")

    def process(self, out: Path, resolve: Callable[[str], str]) -> list[str]:
        """The command of its process.

        Args:
            out: folder of the study's runs.
            resolve: replaces all references in a text.
        """
        words = [*map(resolve, self.words), *self.resume_options(out)]
        if words[0] == "python":
            return [sys.executable, *words[1:]]
        if "out" not in _references(self.words):
            words.append(f"--trainer.default_root_dir={out / self.name}")
        return [sys.executable, "-m", "hwaware", *words]

    def run(
        self, out: Path, resolve: Callable[[str], str], recorded: Sequence[str], environment: Mapping[str, str]
    ) -> bool:
        """Runs it; returns whether it was successful. ``recorded`` is the command that is recorded in its folder."""
        command = self.process(out, resolve)
        (out / self.name).mkdir(parents=True, exist_ok=True)
        self._write_record(out, command=list(recorded), finished=False)
        successful = run_logged(command, self.log(out), environment) == 0
        self._write_record(out, command=list(recorded), finished=successful)
        return successful

    def _record(self, out: Path) -> dict[str, Any]:
        path = out / self.name / "job.json"
        return _table(read_json(path, "record"), f"record '{path}'") if path.is_file() else {}

    def _write_record(self, out: Path, **record: Any) -> None:
        with replacing(out / self.name / "job.json") as file:
            file.write(json.dumps(record).encode())


@dataclass(frozen=True)
class Study:
    """The contents of a study file; see the module.

    Attributes:
        folder: folder of the file and of the results.
        about: description.
        inputs: description of each input, by name.
        environment: environment variables of every process.
        jobs: jobs, in the order of the file.
        chance: chance level for the summary of the merged rows: ``classes`` or ``no_answer``.
        plots: commands that draw plots, as words.
        files: sources of the files that are copied to the folder, by name.
    """

    folder: Path
    about: str
    inputs: dict[str, str]
    environment: dict[str, str]
    jobs: tuple[Job, ...]
    chance: dict[str, float]
    plots: tuple[tuple[str, ...], ...]
    files: dict[str, str]

    def resolve(self, text: str, out: Path, given: Mapping[str, Path], job: str = "") -> str:
        """Replaces the references in a text.

        Args:
            text: text of a command, setting or file.
            out: folder of the study's runs.
            given: inputs by name; references to others, or to missing results, stay unchanged.
            job: the job that the text belongs to.

        """

        def value(match: re.Match[str]) -> str:
            kind, _, name = match[1].partition(".")
            if kind == "jobs":
                path = next(one for one in self.jobs if one.name == name).folder(out)
            elif kind == "inputs":
                name, _, other = name.partition(".")
                path = given.get(name)
                path = newest_run(path / other) if path and other else path
            else:
                path = self.folder if kind == "study" else out / job
            return match[0] if path is None else str(path)

        return _REFERENCE.sub(value, text)

    def check_inputs(self, given: Mapping[str, Path]) -> None:
        """Raises UserError if an input (the runs of another study) lacks a run of a job that is needed."""
        for reference in _references([*chain.from_iterable(job.words for job in self.jobs), *self.files.values()]):
            kind, _, name = reference.partition(".")
            name, _, other = name.partition(".")
            if kind == "inputs" and other and newest_run(given[name] / other) is None:
                raise UserError(f"--inputs.{name}: '{given[name]}' has no run of a job '{other}'.")

    def recorded(self, job: Job, given: Mapping[str, Path]) -> list[str]:
        """A job's command as recorded in its folder: with inputs replaced, but other jobs by name."""
        return [re.sub(r"\$\{inputs\.([\w-]+)", lambda m: f"${{{given[m[1]]}", word) for word in job.words]


def read_study(path: str | Path) -> Study:
    """Reads the study in a folder; only its recipes and scripts need to exist.

    Raises:
        UserError: there is no study, or it does not have the form above.
    """
    path = Path(path)
    file = path if path.name == NAME else path / NAME
    if not file.is_file():
        others = [str(other.parent) for other in path.parent.glob(f"*/{NAME}")]
        raise UserError(f"there is no study '{file}'. {nearest(str(path), others)}".rstrip())
    where = f"study '{file}'"
    content = _table(read_yaml(file, "study"), where, _KEYS)
    if not content.get("jobs"):
        raise UserError(f"{where} has no table 'jobs'.")
    common = _table(content.get("settings"), f"{where}, settings")
    jobs = tuple(
        chain.from_iterable(
            _read_jobs(name, given, common, f"{where}, job '{name}'")
            for name, given in _table(content["jobs"], f"{where}, jobs").items()
        )
    )
    study = Study(
        folder=file.parent,
        about=str(content.get("about", "")),
        inputs={name: str(text) for name, text in _table(content.get("inputs"), f"{where}, inputs").items()},
        environment={
            name: str(value) for name, value in _table(content.get("environment"), f"{where}, environment").items()
        },
        jobs=jobs,
        chance=_chance(content.get("chance"), f"{where}, chance"),
        plots=tuple(_words(command, f"{where}, plots") for command in content.get("plots") or ()),
        files={name: str(source) for name, source in _table(content.get("files"), f"{where}, files").items()},
    )
    _check_names(study, where)
    _check_references(study, where)
    return study


def newest_run(folder: Path) -> Path | None:
    """The newest ``*/version_N`` in a job's folder; None where there is none."""
    return _newest(folder.glob("*/version_*"))


def _read_jobs(name: str, given: Any, common: Mapping[str, Any], where: str) -> list[Job]:
    given = _table(given, where, _JOB_KEYS)
    if not isinstance(given.get("command"), str):
        raise UserError(f"{where} needs a 'command', as it is typed.")
    settings = {**common, **_table(given.get("settings"), f"{where}, settings")}
    words = (*_words(given["command"], where), *(f"--{key}={as_word(value)}" for key, value in settings.items()))
    if "seeds" not in given:
        return [Job(name, words)]
    seeds = given["seeds"]
    if not isinstance(seeds, list) or not seeds or not all(isinstance(seed, int) for seed in seeds):
        raise UserError(f"{where}: seeds {seeds!r} is not a list of whole numbers.")
    return [Job(f"{name}_{seed}", (*words, f"--seed_everything={seed}")) for seed in seeds]


def _chance(given: Any, where: str) -> dict[str, float]:
    chance = _table(given, where, _CHANCE)
    if len(chance) > 1 or not all(isinstance(value, int | float) and value > 0 for value in chance.values()):
        raise UserError(f"{where}: {given} is neither {{classes: NUMBER}} nor {{no_answer: PERCENT}}.")
    return chance


def _words(command: Any, where: str) -> tuple[str, ...]:
    """The words of a command; UserError if it is invalid, or names a missing recipe or script."""
    try:
        words = shlex.split(command)
    except (ValueError, AttributeError):
        words = []
    if not words:
        raise UserError(f"{where}: {command!r} is not a command.")
    if words[0] == "python":
        if len(words) < 2 or not Path(words[1]).is_file():
            raise UserError(f"{where}: there is no script '{' '.join(words[1:2])}' here, in '{Path.cwd()}'.")
        return tuple(words)
    if words[0] not in COMMANDS:
        raise UserError(f"{where}: there is no command '{words[0]}'. {nearest(words[0], [*COMMANDS, 'python'])}")
    for flag, recipe in pairwise(words):
        if flag == "--config" and not found_recipe(recipe).is_file():
            hint = nearest_recipe(Path(recipe))
            raise UserError(f"{where}: there is no recipe '{recipe}' here, in '{Path.cwd()}'. {hint}".rstrip())
    return tuple(words)


def _check_names(study: Study, where: str) -> None:
    names = [job.name for job in study.jobs]
    for name in (*names, *study.inputs):
        if not re.fullmatch(r"[\w-]+", name):
            raise UserError(
                f"{where}: '{name}' is not a valid name of a job or input: use letters, digits, '_' and '-'."
            )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{where}: two jobs are called '{twice[0]}'.")


def _check_references(study: Study, where: str) -> None:
    names = {job.name for job in study.jobs}
    texts = [(f"{where}, job '{job.name}'", word) for job in study.jobs for word in job.words]
    texts += [(f"{where}, plots", word) for words in study.plots for word in words]
    texts += [(f"{where}, files", source) for source in study.files.values()]
    for at, text in texts:
        for reference in _references([text]):
            kind, _, name = reference.partition(".")
            if reference in ("out", "study") or (kind == "inputs" and name.partition(".")[0] in study.inputs):
                continue
            if kind == "inputs" and name:
                hint = nearest(name, study.inputs) or "The study has no inputs."
                raise UserError(f"{at} needs an input '{name}' that is not among the study's. {hint}")
            if kind != "jobs":
                forms = "${out}, ${study}, ${inputs.NAME}, ${jobs.NAME}"
                raise UserError(f"{at}: '${{{reference}}}' is unknown. Use {forms}.")
            if name not in names:
                raise UserError(f"{at} needs a job '{name}' that is not among the study's. {nearest(name, names)}")
    needs = {job.name: set(job.needs) for job in study.jobs}
    while free := [name for name, needed in needs.items() if not needed & needs.keys()]:
        for name in free:
            del needs[name]
    if needs:
        raise UserError(f"{where}: jobs depend on each other in a cycle: {', '.join(needs)}.")


def _references(words: Sequence[str]) -> list[str]:
    return [match[1] for word in words for match in _REFERENCE.finditer(word)]


def _table(given: Any, where: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """A table of the file; UserError if it is not a table or has unknown keys."""
    if not isinstance(given, dict | None):
        raise UserError(f"{where} is not a table of keys and values.")
    for key in given or {}:
        if keys and key not in keys:
            raise UserError(f"{where}: '{key}' means nothing here. {nearest(key, keys)}")
    return {str(key): value for key, value in (given or {}).items()}


def as_word(value: Any) -> str:
    """A value of a YAML file as a word on the command line, which reads it as YAML again."""
    return value if isinstance(value, str) else json.dumps(value)


def _newest(paths: Any) -> Path | None:
    return max(paths, key=lambda path: path.stat().st_mtime, default=None)
