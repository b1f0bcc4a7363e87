"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

from hwaware.cli.local_modules import local_modules
from hwaware.cli.normalise import normalise_options
from hwaware.commands import COMMANDS, listing, load
from hwaware.errors import UserError, nearest
from hwaware.results.provenance import begin_command, commit
from hwaware.system.signals import Stopped, stopping

#: Longest part of another package's error message.
_LONG = 300

HELP = """\
usage: hwaware COMMAND --config RECIPE [--KEY VALUE ...]

From a pretrained network to its accuracy over ten years on a ReRAM chip.

commands:
{commands}

  --config RECIPE      a YAML file, or recipes/NAME.yaml for a recipe that comes with hwaware (hwaware recipes lists
                       them); may be given several times, the last one wins
  --KEY VALUE          any key of the recipe, e.g. --model.hardware.encoding.mapping offset --trainer.max_steps 100
  --print_config       print the whole configuration, without running it
  --debug              show the traceback of an error
  --ckpt_path PATH     fit: resume an interrupted run, bit for bit; 'last' finds the recipe's latest
  --weights FILE       drift, compare, sensitivity, plan, arrays, export, push, onnx: a run's model.safetensors, or any
                       plain file (timm, transformers); also a folder that has one, or hf-hub:USER/NAME
  --out PATH           export, push, onnx: output path
  --repo USER/NAME     push: repository on the Hugging Face hub
  --cells X            plan: budget, such as 1.25 times the cells; or --points P: target, a loss of at most P points
  --digital_percent D  plan: percentage of weights that may stay digital
  --constants FILE     arrays: constants of energy and time, a YAML file or isaac

hwaware COMMAND --help lists a command's keys, hwaware fit --model.help ImageClassification those of a class.
"""


def main(args: list[str] | None = None) -> int:
    """Runs a command; returns the exit status.

    0: success; 2: a mistake of the user; 1: another error, such as a full disk; 130: interrupted; 143: ended by
    SIGTERM, as in shells. An error is one line; ``--debug`` shows its traceback.

    Args:
        args: command-line arguments; None: those of the process.
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
            # Of several ranks that a signal stopped, the first reports it.
            if not isinstance(error, Stopped) or os.environ.get("LOCAL_RANK", "0") == "0":
                print("hwaware:", reason, *getattr(error, "__notes__", ()), file=sys.stderr)
            return status
    return 0


def _run(name: str, *words: str) -> None:
    if name not in COMMANDS:
        raise UserError(f"there is no command '{name}'. {nearest(name, COMMANDS)}")
    arguments = normalise_options(words)
    if "torch" not in sys.modules and os.environ.get("LOCAL_RANK", "0") == "0":  # to import it takes seconds
        from hwaware.cli.precheck import precheck

        precheck(name, arguments)
        if not COMMANDS[name].at_once:
            print(f"hwaware {name}: loading …", file=sys.stderr, flush=True)
    if not COMMANDS[name].on_recipe:
        with local_modules(arguments):
            load(name)(arguments)
        return
    commit()  # of the code that runs: the working tree may change during the run
    from hwaware.cli.build import build
    from hwaware.cli.parser import parse
    from hwaware.cli.settings import read_settings

    with local_modules(read_settings(arguments)):
        run = load(name)
        run(**build(run, *parse(name, run, arguments)))


def _in_words(error: BaseException) -> tuple[int, str]:
    """The exit status for an error of a command, and one or two lines about it."""
    if isinstance(error, UserError):
        return 2, str(error)
    if isinstance(error, Stopped):
        return _status(error.code), str(error)
    if isinstance(error, KeyboardInterrupt):  # where the command is not a process of its own
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
