"""The options by which an interrupted command continues."""

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
def resume_hint(trainer: Trainer, evaluation: DriftEvaluation, ckpt_path: str | None = None) -> Iterator[None]:
    """Adds a note on how to continue to whatever interrupts a run, except mistakes of the user.

    Args:
        trainer: trainer of the run.
        evaluation: the evaluation, whose rows may exist in part.
        ckpt_path: the checkpoint that this run itself resumed from.
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
    """The first file that exists."""
    return next((path for path in paths if path and Path(path).is_file()), None)
