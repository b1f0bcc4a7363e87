"""``hwaware quickstart``: a small network learns scikit-learn's digits, is finetuned for ReRAM, and ages ten years."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hwaware.commands.packaged import written
from hwaware.commands.processes import run_here
from hwaware.commands.words import WordParser

#: The digital network, and its finetune.
PRETRAIN, FINETUNE = written("quickstart_pretrain"), written("quickstart")

_HELP = f"""{__doc__} Under five minutes on two cores; table, plots, report and weights are in runs/quickstart.
An existing digital network in runs/quickstart_pretrain is used. Options are those of hwaware fit, for the finetune."""


def run(arguments: Sequence[str]) -> None:
    """Pretrains, unless already done, then finetunes and evaluates; ``arguments`` go to the finetune.

    Raises:
        SystemExit: one of them failed, after printing its error.
    """
    parser = WordParser(
        prog="hwaware quickstart", usage="%(prog)s [--KEY VALUE ...]", description=_HELP, allow_abbrev=False
    )
    parser.parse_known_args(list(arguments))
    weights = _pretrained()
    if weights is None:
        _fit("--config", PRETRAIN)
        weights = _pretrained()
    _fit("--config", FINETUNE, "--model.weights", str(weights), *arguments)


def _pretrained() -> Path | None:
    """The newest weights of the digital network; None if there are none."""
    found = Path("runs", "quickstart_pretrain").glob("version_*/model.safetensors")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _fit(*arguments: str) -> None:
    status = run_here([sys.executable, "-m", "hwaware", "fit", *arguments])
    if status:
        raise SystemExit(status if status > 0 else 128 - status)  # below 0: a signal ended it
