"""The parser of a command on recipes: the sections of a recipe, and the command's own options."""

from __future__ import annotations

import ast
import json
import warnings
from argparse import SUPPRESS, ArgumentError
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

import hwaware.data  # noqa: F401 - so that recipes can name its classes without a path
from hwaware.callbacks import DriftEvaluation, StepCheckpoint
from hwaware.cli.normalise import normalise_recipe
from hwaware.cli.recipes import RecipeFile, recipe_name
from hwaware.commands import COMMANDS
from hwaware.commands.packaged import BASED_ON
from hwaware.errors import UserError
from hwaware.system.names import check_name
from hwaware.tasks import HardwareAwareTask

# Lightning's own use of torch, which a user can't change.
warnings.filterwarnings("ignore", message=".*LeafSpec.*")
# The task has this hook only for fsdp2, which refuses averaged weights anyway.
warnings.filterwarnings(
    "ignore", message=".*WeightAveraging callback with a model that overrides the configure_model.*"
)
# Small samples are loaded faster without workers.
warnings.filterwarnings("ignore", message=".*does not have many workers.*")

#: Parameters of a command's ``run`` that are built from the recipe's sections; ``evaluation`` is one of the trainer's
#: callbacks.
BUILT = ("trainer", "task", "datamodule", "evaluation")

#: Resuming needs one checkpoint, which is replaced now and then.
_RESUMABLE = {"save_last": True, "save_top_k": 0, "every_n_train_steps": 100}

#: Titles of the help's sections, instead of the classes' first lines.
_TITLES = {
    "model": "The network and its training; --model.help ImageClassification (or QuestionAnswering) lists its keys",
    "data": "The data; --data.help ImageData (or SquadData) lists its keys",
    "evaluation": "The chips that the network is scored on",
    "checkpoint": "Checkpoints (Lightning's ModelCheckpoint)",
    "trainer": "Lightning's Trainer",
}

_CSV_LOGGER = "lightning.pytorch.loggers.CSVLogger"


class StrictParser(LightningArgumentParser):
    """Accepts no prefixes of keys; nor do the parsers of class arguments that it makes with default options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def parse_args(self, args: Any = None, *more: Any, **kwargs: Any) -> Any:
        return super().parse_args(args if args is None else list(map(_as_yaml, args)), *more, **kwargs)

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Namespace:
        return super().parse_string(normalise_recipe(content), *args, **kwargs)


def _as_yaml(word: str) -> str:
    """A table or list in Python syntax as YAML: jsonargparse passes nested keys on as Python prints them."""
    option, equals, value = word.partition("=")
    if not option.startswith("--") or not equals:
        return word
    try:
        return f"{option}={json.dumps(ast.literal_eval(value))}" if value[:1] in ("[", "{") else word
    except (ValueError, SyntaxError, TypeError):  # YAML already
        return word


def make_parser(name: str, run: Callable[..., Any]) -> StrictParser:
    """The parser of a command. It reads every section of a recipe, including those that the command does not use.

    Args:
        name: name of the command.
        run: its function, whose parameters determine which sections are built, and the other options.
    """
    wanted = signature(run).parameters
    usage = f"hwaware {name} --config RECIPE [--KEY VALUE ...]"
    about = f"{COMMANDS[name].help}."
    parser = StrictParser(prog=f"hwaware {name}", usage=usage, description=about, exit_on_error=False)
    parser.add_argument("-c", "--config", action=RecipeFile, help="recipe; if there are several, the last one wins")
    parser.add_argument("--seed_everything", type=int, default=0, help="seed of all random numbers")
    parser.add_argument(
        f"--{BASED_ON}", type=str | None, default=None, help="in a recipe: the recipe that it builds on"
    )
    parser.add_argument("--recipe", type=str | None, default=None, help="the run's name (default: the recipe's)")
    # In the order of the help: the command's own options first, Lightning's many keys last.
    parser.add_function_arguments(run, skip={one for one in BUILT if one in wanted})
    parser.add_lightning_class_args(HardwareAwareTask, "model", subclass_mode=True)
    if "datamodule" in wanted:
        parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    if "trainer" in wanted:
        parser.add_lightning_class_args(DriftEvaluation, "evaluation")
        parser.add_lightning_class_args(StepCheckpoint, "checkpoint")
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.set_defaults({"trainer.enable_model_summary": False})
        parser.set_defaults({f"checkpoint.{key}": value for key, value in _RESUMABLE.items()})
        parser.link_arguments("recipe", "evaluation.recipe", compute_fn=lambda name: name or "run")
        parser.link_arguments("seed_everything", "evaluation.seed", compute_fn=int)
        # Linked keys can't be set, so the help leaves them out.
        parser._action_groups.remove(parser._links_group)  # type: ignore[attr-defined]
    for section, title in _TITLES.items():
        if section in (groups := parser.groups or {}):
            groups[section].title = title
    for section in unused_sections(run):
        parser.add_argument(f"--{section}", type=dict | None, default=None, help=SUPPRESS)
    return parser


def unused_sections(run: Callable[..., Any]) -> list[str]:
    """Sections of a recipe that a command accepts, but does not use."""
    needed = {"trainer": "trainer", "evaluation": "trainer", "checkpoint": "trainer", "data": "datamodule"}
    return [section for section, parameter in needed.items() if parameter not in signature(run).parameters]


def parse(name: str, run: Callable[..., Any], arguments: Sequence[str]) -> tuple[StrictParser, Namespace]:
    """The parser of a command, and the configuration of a command line.

    Raises:
        UserError: the parser refuses something in it.
    """
    parser = make_parser(name, run)
    try:
        config = parser.parse_args(arguments)
    except ArgumentError as error:
        from hwaware.cli.explain import explain

        raise UserError(explain(parser, arguments, error)) from None
    config.recipe = check_name(config.recipe or recipe_name(config.config or []), "recipe")
    if "trainer" not in unused_sections(run):
        config.evaluation.recipe = config.recipe
        _choose_loggers(config, COMMANDS[name].keeps_run)
    if config.get("ckpt_path") == "last":
        from hwaware.cli.latest import latest_checkpoint

        config.ckpt_path = str(latest_checkpoint(parser, config, resumes=name == "fit"))
    return parser, config


def _choose_loggers(config: Namespace, keeps_run: bool) -> None:
    """Makes a CSVLogger in the run's folder the first logger; no logger if nothing is written."""
    chosen = config.trainer.logger
    if chosen is False or (chosen in (None, True) and not keeps_run):
        config.trainer.logger = False
        return
    loggers = chosen if isinstance(chosen, list) else [chosen] if isinstance(chosen, Namespace) else []
    first = [logger for logger in loggers if logger.class_path.endswith("CSVLogger")]
    if not first:
        options = {"save_dir": _folder(config), "name": config.recipe, "version": None, "prefix": ""}
        options["flush_logs_every_n_steps"] = 100
        first = [Namespace(class_path=_CSV_LOGGER, init_args=Namespace(**options))]
    config.trainer.logger = first + [logger for logger in loggers if logger not in first]


def runs_folder(config: Namespace) -> Path:
    """Folder of the recipe's runs."""
    trainer = config.trainer or Namespace()
    if isinstance(trainer.get("logger"), list):
        options = trainer.logger[0].init_args
        return Path(options.save_dir, options.name)
    return Path(_folder(config), config.recipe)  # a command without a run of its own reads those of fit


def _folder(config: Namespace) -> str:
    return str((config.trainer or {}).get("default_root_dir") or "runs")
