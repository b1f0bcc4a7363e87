"""Builds the objects of a command from a configuration: trainer, task and data."""

from __future__ import annotations

import logging
from collections.abc import Callable
from inspect import signature
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from hwaware.callbacks import (
    BiasColumns,
    EpochsOrSteps,
    ResumeExactly,
    RunRecord,
    SeedEachStep,
    StopAtDivergence,
    WholeCheckpoints,
)
from hwaware.cli.classes import check_classes
from hwaware.cli.parser import StrictParser, unused_sections
from hwaware.errors import UserError
from hwaware.tasks.fully_sharded import refuse_other_sharding

#: Most devices of one machine: more than any machine has, and few enough that it survives as many processes.
MAX_DEVICES = 1000


def build(run: Callable[..., Any], parser: StrictParser, config: Namespace) -> dict[str, Any]:
    """The arguments of a command's function.

    Raises:
        UserError: a class is not of its key's type, or a constructor refuses a setting.
    """
    seeding = SeedEachStep(config.seed_everything)  # first, since Lightning would raise for a seed that it refuses
    seed_everything(config.seed_everything, workers=True, verbose=False)
    left = Namespace({key: config[key] for key in vars(config) if key not in unused_sections(run)})
    check_classes(parser, left)
    built = _instantiate(parser, left)
    built["task"], built["datamodule"] = built.pop("model"), built.pop("data", None)
    if getattr(built["datamodule"], "seed", 0) is None:
        built["datamodule"].seed = config.seed_everything
    if "trainer" in built:
        bias = [] if built["task"].bias is None else [BiasColumns(built["task"].bias)]  # before what writes the weights
        own = [*bias, RunRecord(parser, config), seeding, StopAtDivergence()]
        built["trainer"] = _trainer(built["trainer"], [*own, built["evaluation"], built["checkpoint"]])
    return {name: built[name] for name in signature(run).parameters}


def _instantiate(parser: StrictParser, config: Namespace) -> dict[str, Any]:
    """The configuration with objects instead of class names; the trainer's settings remain settings."""
    failures: list[Exception] = []

    def remembering(class_type: type, *args: Any, **kwargs: Any) -> Any:
        # jsonargparse replaces a constructor's error by its own; the first instantiator sees the original.
        kwargs.pop("applied_instantiation_links", None)
        try:
            return class_type(*args, **kwargs)
        except Exception as error:
            failures.append(error)
            raise

    parser.add_instantiator(remembering, object, subclasses=True)
    try:
        return vars(parser.instantiate_classes(config))
    except Exception as error:
        failure = failures[-1] if failures else _innermost(error)
        if not failures or isinstance(failure, MisconfigurationException):  # the parser's and Lightning's words
            raise UserError(" ".join(str(failure).split())) from None
        if isinstance(failure, TypeError) and "unexpected keyword argument" in str(failure):  # of dict_kwargs
            raise UserError(f"{failure}.") from None
        raise failure from None


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _trainer(settings: Namespace, own: list[Any]) -> Trainer:
    """A Trainer with the recipe's callbacks, and then this package's."""
    given = settings.callbacks or []
    if settings.enable_checkpointing is False or settings.fast_dev_run:
        own = [callback for callback in own if not isinstance(callback, ModelCheckpoint)]
    callbacks = [ResumeExactly(), *(given if isinstance(given, list) else [given]), *own]
    bars = [callback for callback in callbacks if isinstance(callback, ProgressBar)]
    if not bars and settings.enable_progress_bar is not False and not settings.barebones:
        callbacks.append(EpochsOrSteps())
    plugins = settings.plugins or []
    plugins = [*plugins] if isinstance(plugins, list) else [plugins]
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(WholeCheckpoints())
    _check_devices(settings.devices)
    refuse_other_sharding(settings.strategy)  # before Lightning, which would require GPUs
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)  # its advertisements would precede the error
    try:
        trainer = Trainer(**{**vars(settings), "callbacks": callbacks, "plugins": plugins})
    except (MisconfigurationException, ValueError, TypeError) as error:  # Lightning's words for a wrong setting
        raise UserError(" ".join(str(error).split())) from None
    finally:
        log.setLevel(level)
    trainer._signal_connector = OwnSigterm(trainer)
    return trainer


def _check_devices(devices: Any) -> None:
    """Raises UserError for more processes than a machine survives; Lightning would start them."""
    try:
        count = int(devices)
    except (ValueError, TypeError):  # which ones, or "auto"
        return
    if count > MAX_DEVICES:
        raise UserError(f"trainer.devices={count} must be at most {MAX_DEVICES:,}: each is a process of this machine.")


class OwnSigterm(_SignalConnector):
    """Lightning's signal handling without SIGTERM, which :mod:`hwaware.system.signals` handles.

    Lightning's handler ends a run with status 0. It also waits for all processes: forever, if they are in another
    collective operation.
    """

    def _sigterm_notifier_fn(self, signum: Any, frame: Any) -> None:
        pass
