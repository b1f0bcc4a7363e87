"""The checkpoint of ``--ckpt_path last``: the latest one; for resuming, the latest of a run with the same settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from hwaware.cli.parser import StrictParser, runs_folder
from hwaware.errors import UserError
from hwaware.system.reading import parse_yaml, read_yaml

#: Settings that determine a run's steps, except for their number. With others, a checkpoint means something else.
_DECIDING = (
    "seed_everything",
    "model",
    "data",
    *(
        f"trainer.{name}"
        for name in ("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "precision")
    ),
)
#: Settings that do not change the steps.
_INDIFFERENT = ("num_workers",)
_FEW = 3


def latest_checkpoint(parser: StrictParser, config: Namespace, resumes: bool) -> Path:
    """The latest checkpoint of the recipe's runs.

    Args:
        parser: parser of the command.
        config: the configuration that it parsed.
        resumes: whether the command resumes the run; otherwise it only takes the network.

    Raises:
        UserError: there is none; or, for resuming, none with the same settings and seed.
    """
    folder = runs_folder(config)
    found = sorted(folder.glob("version_*/checkpoints/last*.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(f"there is nothing to resume: no checkpoint in '{folder}/version_*/checkpoints'.")
    if not resumes:
        return found[-1]
    mine = parse_yaml(parser.dump(config, skip_none=False, skip_validation=True), "the configuration")
    for path in reversed(found):
        if not _differences(path, mine):
            return path
    told = _differences(found[-1], mine)
    more = f"; and {len(told) - _FEW} more" if len(told) > _FEW else ""
    raise UserError(
        f"there is nothing to resume: '{found[-1]}' belongs to a run with other settings.\n"
        f"{'; '.join(told[:_FEW])}{more}. Give it as --ckpt_path to resume from it anyway."
    )


def _differences(checkpoint: Path, mine: Any) -> list[str]:
    """The settings in which a checkpoint's run differs, in words; none if its folder does not record them."""
    file = checkpoint.parent.parent / "config.yaml"
    if not file.is_file():
        return []
    theirs = read_yaml(file, "configuration")
    return [line for key in _DECIDING for line in _compared(key, _value(theirs, key), _value(mine, key))]


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def _compared(key: str, theirs: Any, mine: Any) -> Iterator[str]:
    if isinstance(theirs, dict) and isinstance(mine, dict):
        for part in [one for one in {**theirs, **mine} if one not in _INDIFFERENT]:
            yield from _compared(f"{key}.{part}", theirs.get(part), mine.get(part))
    elif isinstance(theirs, list) and isinstance(mine, list) and len(theirs) == len(mine):
        for number, pair in enumerate(zip(theirs, mine, strict=True)):
            yield from _compared(f"{key}.{number}", *pair)
    elif theirs != mine and not _same_file(theirs, mine):
        yield f"{key.replace('.init_args', '')}: {theirs} in that run, {mine} now"


def _same_file(theirs: Any, mine: Any) -> bool:
    """Whether two files have the same content: a run keeps copies of device and plan files."""
    if not isinstance(theirs, str) or not isinstance(mine, str):
        return False
    files = Path(theirs), Path(mine)
    return all(file.is_file() for file in files) and files[0].read_bytes() == files[1].read_bytes()
