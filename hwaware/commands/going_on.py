"""By which options a command that was ended early goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from hwaware.callbacks import DriftEvaluation
from hwaware.errors import UserError
from hwaware.evaluation.resume import NAME


@contextmanager
def says_how_to_go_on(trainer: Trainer, evaluation: DriftEvaluation, ckpt_path: str | None = None) -> Iterator[None]:
    """Adds a line to whatever ends a run early, but a mistake in what was asked for.

    Args:
        trainer: of the run.
        evaluation: whose rows may be there in part.
        ckpt_path: what this run itself went on from.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        written = [one.last_model_path for one in trainer.callbacks if isinstance(one, ModelCheckpoint)]
        folders = [one.log_dir for one in trainer.loggers[:1] if one.log_dir]  # not the Trainer's, which asks all ranks
        rows = [str(Path(folder, NAME)) for folder in folders]
        found = {"ckpt_path": _newest([*written, ckpt_path]), "evaluation.resume": _newest([*rows, evaluation.resume])}
        if options := " ".join(f"--{name} {path}" for name, path in found.items() if path):
            error.add_note(f"The same command goes on with {options}")
        raise


def _newest(paths: list[str | None]) -> str | None:
    """The first file that is there."""
    return next((path for path in paths if path and Path(path).is_file()), None)
