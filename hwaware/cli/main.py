"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

from hwaware.cli.here import modules_here
from hwaware.cli.spelled import spelled_options
from hwaware.commands import COMMANDS, listing, load
from hwaware.errors import UserError, nearest
from hwaware.results.provenance import begin_command, commit
from hwaware.system.signals import Stopped, stopping

#: Of an error in other packages' words.
_LONG = 300

HELP = """\
usage: hwaware COMMAND --config RECIPE [--KEY VALUE ...]

From a pretrained network to its accuracy over ten years on a ReRAM chip.

commands:
{commands}

  --config RECIPE      a YAML file; recipes/NAME.yaml, where that is not there, is the one that comes with hwaware
                       (hwaware recipes lists them); may be given several times, the last one wins
  --KEY VALUE          any key of the recipe, e.g. --model.hardware.encoding.mapping offset --trainer.max_steps 100
  --print_config       the whole configuration, without running it
  --debug              the traceback, where something goes wrong
  --ckpt_path PATH     fit: resume a killed run, bit for bit; 'last' finds the recipe's latest
  --weights FILE       drift, compare, sensitivity, plan, arrays, export, push, onnx: a run's model.safetensors, or any
                       plain file (timm, transformers); also a folder that has one, or hf-hub:USER/NAME
  --out PATH           export, push, onnx: where to write
  --repo USER/NAME     push: on the Hugging Face hub
  --cells X            plan: budget, such as 1.25 times the cells; or --points P: a target, at most P points lost
  --digital_percent D  plan: weights that may stay digital
  --constants FILE     arrays: of energy and time, a YAML file, or isaac

hwaware COMMAND --help lists a command's keys, hwaware fit --model.help ImageClassification those of a class.
"""


def main(args: list[str] | None = None) -> int:
    """Runs a command; returns the exit status.

    0; 2 for a mistake in what was asked for; 1 for what went wrong otherwise, such as a full disk; 130 if
    interrupted and 143 if ended by SIGTERM, as shells say of these signals.
    Each is told in a line; ``--debug`` shows where it happened.

    Args:
        args: command line arguments; None takes the process's own.
    """
    arguments = sys.argv[1:] if args is None else list(args)
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(version("hwaware"))
        return 0
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP.format(commands=listing()))
        return 0 if arguments else 2
    debug = "--debug" in arguments
    begin_command(arguments)
    with stopping(own_process=args is None):
        try:
            _run(*(one for one in arguments if one != "--debug"))
        except BaseException as error:
            if isinstance(error, SystemExit) and not isinstance(error, Stopped):  # --help and --print_config
                return _status(error.code)
            status, reason = _in_words(error)
            if debug:
                traceback.print_exception(error)
            if not isinstance(error, Stopped) or os.environ.get("LOCAL_RANK", "0") == "0":  # of several, one says it
                print("hwaware:", reason, *getattr(error, "__notes__", ()), file=sys.stderr)
            return status
    return 0


def _run(name: str, *words: str) -> None:
    if name not in COMMANDS:
        raise UserError(f"there is no command '{name}'. {nearest(name, COMMANDS)}")
    arguments = spelled_options(words)
    if "torch" not in sys.modules and os.environ.get("LOCAL_RANK", "0") == "0":  # what follows takes seconds
        from hwaware.cli.early import check_early

        check_early(name, arguments)
        if not COMMANDS[name].at_once:
            print(f"hwaware {name}: loading …", file=sys.stderr, flush=True)
    if not COMMANDS[name].on_recipe:
        with modules_here(arguments):
            load(name)(arguments)
        return
    commit()  # of the code that runs, whatever becomes of the tree in the meantime
    from hwaware.cli.build import build
    from hwaware.cli.given import read_given
    from hwaware.cli.parser import parse

    with modules_here(read_given(arguments)):
        run = load(name)
        run(**build(run, *parse(name, run, arguments)))


def _in_words(error: BaseException) -> tuple[int, str]:
    """The exit status for what a command raised, and one or two lines about it."""
    if isinstance(error, UserError):
        return 2, str(error)
    if isinstance(error, Stopped):
        return _status(error.code), str(error)
    if isinstance(error, KeyboardInterrupt):  # where it is no process of its own
        return 130, "interrupted."
    if isinstance(error, OSError) and error.strerror:
        where = f": '{str(error.filename)[:_LONG]}'" if error.filename else ""
        return 1, f"{error.strerror}{where}."
    if isinstance(error, MemoryError):
        return 1, f"out of memory. {error}".rstrip()
    said = " ".join(str(error).split())
    return 1, f"{said[:_LONG] or 'no reason given'} ({type(error).__name__}; --debug shows where)."


def _status(code: Any) -> int:
    return code if isinstance(code, int) else 0 if code is None else 1
