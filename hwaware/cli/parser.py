"""The commands: Lightning's, on recipes, with run folders, resuming and short errors."""

from __future__ import annotations

import logging
import sys
import warnings
from argparse import ArgumentError
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.optim.lr_scheduler import LRScheduler

import hwaware.data  # noqa: F401 - so that recipes can name its classes without a path
from hwaware.callbacks import BeginNextEpoch, BiasColumns, DriftEvaluation, RunRecord, SeedEachStep, StopAtDivergence
from hwaware.cli.explain import explain, subclasses
from hwaware.cli.recipes import BASED_ON, RecipeFile, recipe_name
from hwaware.commands.trainer import HardwareTrainer
from hwaware.compensation import Compensation
from hwaware.errors import UserError
from hwaware.export.weights import read_checkpoint
from hwaware.results.provenance import commit
from hwaware.tasks import HardwareAwareTask

# Lightning's own use of torch, which nobody here can change.
warnings.filterwarnings("ignore", message=".*LeafSpec.*")
# Small samples are loaded faster without workers.
warnings.filterwarnings("ignore", message=".*does not have many workers.*")

#: Commands that only write a network's files.
_RUN_NOTHING = ("push", "onnx")

_CSV_LOGGER = "lightning.pytorch.loggers.CSVLogger"


class StrictParser(LightningArgumentParser):
    """Takes no prefixes for keys; nor do the parsers that it makes for what is inside a class, with defaults only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})


class HardwareCLI(LightningCLI):
    """Parses a recipe and command line, and runs the command.

    Args:
        args: the command and its arguments.

    Raises:
        UserError: for anything in them that is wrong, before anything is written.
    """

    def __init__(self, args: list[str]) -> None:
        strict = {"exit_on_error": False}  # errors as exceptions, in the main parser and in each command's
        self.failure: Exception | None = None
        commit()  # of the code that runs, whatever becomes of the tree in the meantime
        super().__init__(
            HardwareAwareTask,
            LightningDataModule,
            save_config_callback=None,  # RunRecord does it
            trainer_class=HardwareTrainer,
            trainer_defaults={"enable_model_summary": False},
            seed_everything_default=0,
            parser_kwargs={**strict, **{command: dict(strict) for command in self.subcommands()}},
            parser_class=StrictParser,
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=args,
            auto_configure_optimizers=False,  # the task has its own
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {
            "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"},
            "validate": {"model", "dataloaders", "datamodule", "weights_only"},
            "test": {"model", "dataloaders", "datamodule", "weights_only"},
            "drift": {"model", "datamodule"},
            "compare": {"model", "datamodule"},
            "sensitivity": {"model", "datamodule"},
            "export": {"model", "datamodule"},
            "push": {"model", "datamodule"},
            "onnx": {"model", "datamodule"},
        }

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        parser = self.parser_class(**kwargs)
        parser.add_argument("-c", "--config", action=RecipeFile, help="recipe; the last of several wins")
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(f"--{BASED_ON}", type=str | None, default=None, help="in a recipe: the one it builds on")
        parser.add_argument("--recipe", type=str | None, default=None, help="the run's name (default: the recipe's)")
        parser.add_lightning_class_args(DriftEvaluation, "evaluation")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        # One file, replaced every so often, is what resuming needs.
        resumable = {"save_last": True, "save_top_k": 0, "every_n_train_steps": 100}
        parser.set_defaults({f"checkpoint.{key}": value for key, value in resumable.items()})
        parser.link_arguments("recipe", "evaluation.recipe", compute_fn=lambda name: name or "run")
        parser.link_arguments("seed_everything", "evaluation.seed", compute_fn=int)

    # Parsing.

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        sys_argv, sys.argv = sys.argv, sys.argv[:1]  # LightningCLI warns when both are there
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            raise UserError(explain(str(error), self._subcommand_parsers.get(args[0]), _class_names())) from None
        finally:
            sys.argv = sys_argv
        config = self.config[self.config.subcommand]
        config.recipe = config.recipe or recipe_name(config.config or [])
        config.evaluation.recipe = config.recipe
        if self.config.subcommand in _RUN_NOTHING:  # wherever, and however, the recipe's run is to run
            config.trainer.update(Namespace(accelerator="cpu", devices=1, num_nodes=1, strategy="auto", logger=False))
        self._choose_loggers(config)
        if config.get("ckpt_path") == "last":
            config.ckpt_path = str(_latest_checkpoint(config))

    def _choose_loggers(self, config: Namespace) -> None:
        """Makes a CSVLogger the first logger, whose folder is the run's; none where nothing is to be written."""
        chosen = config.trainer.logger
        if chosen is False or (chosen in (None, True) and self.config.subcommand in ("validate", "test", "export")):
            config.trainer.logger = False
            return
        loggers = chosen if isinstance(chosen, list) else [chosen] if isinstance(chosen, Namespace) else []
        first = [logger for logger in loggers if logger.class_path.endswith("CSVLogger")]
        if not first:
            folder = config.trainer.default_root_dir or "runs"
            options = {"save_dir": str(folder), "name": config.recipe, "version": None, "prefix": ""}
            options["flush_logs_every_n_steps"] = 100
            first = [Namespace(class_path=_CSV_LOGGER, init_args=Namespace(**options))]
        config.trainer.logger = first + [logger for logger in loggers if logger not in first]

    def _set_seed(self) -> None:
        # Here, since Lightning would raise for a seed that it does not take.
        SeedEachStep(self.config[self.config.subcommand].seed_everything)
        seed_everything(self.config[self.config.subcommand].seed_everything, workers=True, verbose=False)

    def _parse_ckpt_path(self) -> None:
        """Nothing: a checkpoint's stored settings must not override the command line's."""

    # Building.

    def instantiate_classes(self) -> None:
        # jsonargparse wraps what a constructor raises in its own words; the first instantiator sees it as it is.
        self.parser.add_instantiator(self._remember_failure, object, subclasses=True)
        try:
            super().instantiate_classes()
        except Exception as error:
            failure = self.failure or error
            if isinstance(failure, MisconfigurationException):  # Lightning's word for a wrong setting
                raise UserError(" ".join(str(failure).split())) from None
            raise failure from None
        settings = self.config[self.subcommand]
        if getattr(self.datamodule, "seed", 0) is None:
            self.datamodule.seed = settings.seed_everything

    def _remember_failure(self, class_type: type, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("applied_instantiation_links", None)
        try:
            return class_type(*args, **kwargs)
        except Exception as error:
            self.failure = error
            raise

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        settings = self.config[self.subcommand]
        if config.get("enable_checkpointing") is False or config.get("fast_dev_run"):
            callbacks = [callback for callback in callbacks if not isinstance(callback, ModelCheckpoint)]
        record = RunRecord(self._parser(self.subcommand), settings)
        bias = [] if self.model.bias is None else [BiasColumns(self.model.bias)]  # before what writes the weights
        own = [*bias, record, SeedEachStep(settings.seed_everything), BeginNextEpoch(), StopAtDivergence()]
        log = logging.getLogger("lightning.pytorch")
        level = log.level
        log.setLevel(logging.WARNING)  # its advertisements would stand before what went wrong
        try:
            return super()._instantiate_trainer(config, [*own, *callbacks])
        except (MisconfigurationException, ValueError) as error:  # Lightning's words for a wrong setting
            raise UserError(" ".join(str(error).split())) from None
        finally:
            log.setLevel(level)

    # Running. What can be wrong is looked at before the Trainer creates its run folder.

    def before_fit(self) -> None:
        self._try_optimizer()
        evaluation = next(callback for callback in self.trainer.callbacks if isinstance(callback, DriftEvaluation))
        judged = evaluation.is_due(self.model) and not self.trainer.fast_dev_run
        if judged:
            evaluation.check(self.model)
        self._before("fit")
        self.datamodule.train_dataloader()
        if not judged:
            return
        if not self.model.is_pretrained:
            raise UserError(
                "there is no pretrained network to finetune for the device: give model.weights FILE (or, "
                "for timm's, model.pretrained true); to pretrain one, set model.hardware null."
            )
        self.datamodule.setup(evaluation.stage)
        evaluation.check_data(self.model, self.datamodule)

    def _try_optimizer(self) -> None:
        """Raises UserError for settings that the optimiser or the schedule would refuse at the first step."""
        settings = self.config[self.subcommand].trainer
        if self.trainer.max_steps == -1 and self.trainer.max_epochs == -1 and settings.max_time is None:
            raise UserError("training would never end: give trainer.max_steps or trainer.max_epochs.")
        try:
            self.model.make_optimizer()
        except (ValueError, TypeError) as error:
            raise UserError(f"model.optimizer: {error}") from None

    def before_validate(self) -> None:
        self._before("validate")

    def before_test(self) -> None:
        self._before("test")

    def _before(self, stage: str) -> None:
        self.trainer.strategy.connect(self.model)
        self.datamodule.trainer = self.trainer
        self.datamodule.prepare_data()
        self.datamodule.setup(stage)
        path = self.config[self.subcommand].get("ckpt_path")
        if path:
            self.model.on_load_checkpoint(read_checkpoint(path))


def _class_names() -> list[str]:
    """Classes that recipes most often name."""
    bases = (HardwareAwareTask, LightningDataModule, Compensation, torch.optim.Optimizer, LRScheduler)
    names = {cls.__name__ for base in bases for cls in subclasses(base)}
    return sorted(name for name in names if not name.startswith("_"))


def _latest_checkpoint(config: Namespace) -> Path:
    if config.trainer.logger:
        options = config.trainer.logger[0].init_args
        folder = Path(options.save_dir, options.name)
    else:  # validate and test write nothing, but read what fit wrote
        folder = Path(config.trainer.default_root_dir or "runs", config.recipe)
    found = sorted(folder.glob("version_*/checkpoints/last*.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(f"there is nothing to resume: no checkpoint in '{folder}/version_*/checkpoints'.")
    return found[-1]
