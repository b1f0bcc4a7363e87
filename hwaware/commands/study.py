"""``hwaware study``: runs the missing jobs of a study, one process each, and merges their rows in one folder."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from hwaware.commands.grid import said
from hwaware.commands.jobs import Job, Study, read_study
from hwaware.commands.processes import run_all, run_logged
from hwaware.commands.words import WordParser
from hwaware.errors import UserError, nearest, nearest_path

_HELP = f"{__doc__} Finished jobs are kept; --inputs.NAME PATH gives a file or folder that the study needs."


def run(arguments: Sequence[str]) -> None:
    """``FOLDER [--inputs.NAME PATH ...] [--out FOLDER] [--jobs N] [--dry]``.

    Raises:
        UserError: the file or an argument is wrong, and nothing has run; or jobs failed.
    """
    parser = WordParser(prog="hwaware study", description=_HELP, allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="folder with study.yaml (results/*); results are written there, too")
    parser.add_argument("--out", type=Path, help="folder of the runs, new or to continue (default: runs/studies/NAME)")
    parser.add_argument("--jobs", type=int, default=1, help="jobs to run at the same time (1)")
    parser.add_argument("--dry", action="store_true", help="only print what is done, missing and not given")
    own, values = _split(arguments)
    options = parser.parse_args(own)
    if options.jobs < 1:
        raise UserError(f"study: --jobs {options.jobs} must be at least 1.")
    study = read_study(options.folder)
    given = _inputs(study, values)
    out = options.out or Path("runs", "studies", study.folder.resolve().name)
    if options.dry:
        print("\n".join(_plan(study, out, given)))
        return
    absent = [f"--inputs.{name}: {text}" for name, text in study.inputs.items() if name not in given]
    if absent:
        raise UserError(f"study '{study.folder}' needs {'; '.join(absent)}.")
    study.check_inputs(given)
    for job in study.jobs:
        job.check(out, study.recorded(job, given))
    failed, unstarted = _run_jobs(study, out, given, options.jobs)
    _collect(study, out)
    if failed:
        log = next(job.log(out) for job in study.jobs if job.name == failed[0])
        reason = said(log.read_text(errors="replace"))
        where = f"{len(failed)} of {len(study.jobs)} jobs failed; the first one, in {log}"
        also = f" Not started, since they depend on it: {', '.join(unstarted)}." if unstarted else ""
        raise UserError(f"{where}: {reason}{also}" if reason else f"{where}.{also}")
    _finish(study, out, given)


def _split(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command's own arguments, and the inputs by name."""
    own, values, rest = [], {}, iter(arguments)
    for argument in rest:
        if not argument.startswith("--inputs."):
            own.append(argument)
            continue
        name, given, value = argument.partition("=")
        value = value if given else next(rest, "")
        if not value or value.startswith("--"):
            raise UserError(f"study: {name} needs a path.")
        values[name.removeprefix("--inputs.")] = value
    return own, values


def _inputs(study: Study, values: Mapping[str, str]) -> dict[str, Path]:
    """The given inputs; UserError if the study has no such input, or the path does not exist."""
    for name, value in values.items():
        if name not in study.inputs:
            hint = nearest(name, study.inputs) or "It has no inputs."
            raise UserError(f"study '{study.folder}' takes no --inputs.{name}. {hint}")
        path = Path(value)
        if not path.exists():
            raise UserError(f"--inputs.{name}: there is no '{path}'. {nearest_path(path)}".rstrip())
    return {name: Path(value).resolve() for name, value in values.items()}


def _plan(study: Study, out: Path, given: Mapping[str, Path]) -> list[str]:
    """The plan of a dry run, as lines of text."""
    lines = [f"{study.folder}: {study.about}".rstrip(": "), f"runs: {out}"]
    for name, text in study.inputs.items():
        lines.append(f"input {name}: {given.get(name) or f'not given (--inputs.{name}: {text})'}")
    states = {job.name: _state(job, out) for job in study.jobs}
    counts = [f"{list(states.values()).count(state)} {state}" for state in dict.fromkeys(states.values())]
    lines.append(f"{len(study.jobs)} jobs: {', '.join(counts)}")
    for job in study.jobs:
        after = f", after {', '.join(job.needs)}" if job.needs else ""
        lines.append(f"{states[job.name]} {job.name}{after}")
        if states[job.name] != "done":
            command = job.process(out, partial(study.resolve, out=out, given=given, job=job.name))
            lines.append(f"    {_typed(command)}")
    lines.append(f"then: rows of the jobs into {study.folder / 'rows.csv'}")
    lines += [f"then: {shlex.join(words)}" for words in study.plots]
    return lines + [f"then: {source} as {study.folder / name}" for name, source in study.files.items()]


def _typed(command: Sequence[str]) -> str:
    words = ["hwaware", *command[3:]] if list(command[1:3]) == ["-m", "hwaware"] else ["python", *command[1:]]
    return shlex.join(words)


def _state(job: Job, out: Path) -> str:
    return "done" if job.finished(out) else "begun" if job.resume_options(out) else "missing"


def _run_jobs(study: Study, out: Path, given: Mapping[str, Path], at_once: int) -> tuple[list[str], list[str]]:
    missing = [job for job in study.jobs if not job.finished(out)]
    print(f"{len(study.jobs)} jobs, {len(study.jobs) - len(missing)} of them finished already", flush=True)
    tasks = {
        job.name: partial(
            job.run,
            out,
            partial(study.resolve, out=out, given=given, job=job.name),
            study.recorded(job, given),
            study.environment,
        )
        for job in missing
    }
    return run_all(tasks, at_once, len(study.jobs), {job.name: job.needs for job in missing})


def _collect(study: Study, out: Path) -> None:
    """Merges the measurements of finished jobs into the study's folder, replacing its files."""
    # Slow imports, which a dry run does not need.
    from hwaware.metrics.chance import chance_of_classes, chance_of_questions
    from hwaware.report.html import write_report
    from hwaware.report.run_folder import write_rows_and_plots
    from hwaware.results.costs import KEY, costs_in, merge_lines
    from hwaware.results.costs import NAME as COSTS
    from hwaware.results.csv import merge_rows, read_rows
    from hwaware.results.refused import NAME as REFUSED
    from hwaware.results.refused import merge_refused, refused_in, write_refused
    from hwaware.results.timetable import NAME as TIMETABLE

    folders = [job.folder(out) for job in study.jobs if job.finished(out)]
    sources = [folder for folder in folders if folder and (folder / "rows.csv").is_file()]
    if not sources:
        return
    target = study.folder / "rows.csv"
    rows = read_rows(target) if target.exists() else []
    refused = refused_in(study.folder)
    for source in sources:
        found = read_rows(source / "rows.csv")
        rows, refused = merge_rows(rows, found), merge_refused(refused, found, refused_in(source))
    if refused:
        write_refused(study.folder / REFUSED, refused)
    else:
        (study.folder / REFUSED).unlink(missing_ok=True)
    for name in (COSTS, TIMETABLE):
        merge_lines(study.folder / name, [source / name for source in sources], KEY)
    chance = {}
    if "classes" in study.chance:
        chance = chance_of_classes(int(study.chance["classes"]))
    elif "no_answer" in study.chance:
        chance = chance_of_questions(study.chance["no_answer"])
    costs = costs_in(study.folder)
    report = write_report(study.folder, write_rows_and_plots(rows, study.folder, costs, chance), costs=costs)
    print(f"{len(rows)} rows: {target}", f"report: {report}", sep="\n")


def _finish(study: Study, out: Path, given: Mapping[str, Path]) -> None:
    """Draws the plots and copies the files, once all jobs are done."""
    for words in study.plots:
        command = [study.resolve(word, out, given) for word in words]
        log = out / "plots.txt"
        start = [sys.executable] if command[0] == "python" else [sys.executable, "-m", "hwaware", command[0]]
        if run_logged([*start, *command[1:]], log, study.environment):
            raise UserError(f"'{shlex.join(command)}' failed; see {log}.")
    for name, source in study.files.items():
        path = Path(study.resolve(source, out, given))
        if not path.is_file():
            raise UserError(f"study '{study.folder}', files: there is no '{path}' to copy as '{name}'.")
        shutil.copyfile(path, study.folder / name)
        print(study.folder / name)
