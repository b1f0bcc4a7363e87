"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Any

from hwaware.errors import UserError, nearest

COMMANDS = {
    "fit": "pretrain a network, or finetune it for a memory technology, then age it on chips",
    "validate": "metrics on the validation samples, exact weights",
    "test": "metrics on the test samples, exact weights",
    "drift": "the same on simulated chips, from the first second to ten years",
    "compare": "the same for every way of repairing the chips, with what each costs",
    "sensitivity": "which layers lose most, and what keeping them digital gives back",
    "device": "memory technologies: device list, show NAME, plot NAME; own ones: fit CSV --out YAML, simulate NAME",
    "export": "conductance targets, scales and planned repairs, for whoever writes the chips",
    "push": "a finetuned network as a repository of the Hugging Face hub, or as such a folder",
    "onnx": "a network as an ONNX file, effective weights",
    "sweep": "a grid of settings, one run each, as one table: sweep FILE [--jobs N] [-- --KEY VALUE ...]",
    "study": "what is missing of an experiment (results/*/study.yaml): study FOLDER [--inputs.NAME PATH] [--dry]",
}

HELP = """\
usage: hwaware COMMAND --config RECIPE [--KEY VALUE ...]

From a pretrained network to its accuracy over ten years on a ReRAM chip.

commands:
{commands}

  --config RECIPE      a YAML file (recipes/*.yaml); may be given several times, the last one wins
  --KEY VALUE          any key of the recipe, e.g. --model.device.mapping offset --trainer.max_steps 100
  --print_config       the whole configuration, without running it
  --ckpt_path PATH     fit: resume a killed run, bit for bit; 'last' finds the recipe's latest
  --weights FILE       drift, compare, sensitivity, export, onnx: a run's model.safetensors, or any plain file (timm,
                       transformers); also a folder that has one, or hf-hub:USER/NAME
  --out PATH           export, push, onnx: where to write
  --repo USER/NAME     push: on the Hugging Face hub
  --chips N, --age_s S sensitivity: how many chips (3), of which age (ten years)

hwaware COMMAND --help lists a command's keys, hwaware fit --model.help ImageClassification those of a class.
"""


def main(args: list[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, or 2 for a mistake in what was asked for.

    Args:
        args: command line arguments; None takes the process's own.
    """
    arguments = sys.argv[1:] if args is None else list(args)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # so that --data and --model.device.name may name a class in a file that lies here
    if arguments == ["--version"]:
        print(version("hwaware"))
        return 0
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print(HELP.format(commands="\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())))
        return 0 if arguments else 2
    try:
        if arguments[0] not in COMMANDS:
            raise UserError(f"there is no command '{arguments[0]}'. {nearest(arguments[0], COMMANDS)}")
        if arguments[0] == "device":
            from hwaware.commands.device import run

            run(arguments[1:])
        elif arguments[0] == "sweep":
            from hwaware.commands.sweep import run

            run(arguments[1:])
        elif arguments[0] == "study":
            from hwaware.commands.study import run

            run(arguments[1:])
        else:
            _run(arguments)
    except UserError as error:
        print(f"hwaware: {error}", file=sys.stderr)
        return 2
    except SystemExit as stop:  # --help and --print_config of a command
        return _status(stop.code)
    return 0


def _run(arguments: list[str]) -> None:
    from hwaware.cli.parser import HardwareCLI

    HardwareCLI(arguments)


def _status(code: Any) -> int:
    return code if isinstance(code, int) else 0 if code is None else 1
