"""The files of a run besides checkpoints: configuration, conversion report, finished weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from hwaware.data import ImageData
from hwaware.data.contract import Samples
from hwaware.evaluation.adapter_costs import adapter_cost
from hwaware.evaluation.run import Run
from hwaware.evaluation.tracking import log_files
from hwaware.export.weights import save_weights
from hwaware.nn.install import eval_mode
from hwaware.results.csv import write_csv
from hwaware.system.reading import as_read
from hwaware.tasks import HardwareAwareTask
from hwaware.tasks.of_module import task_of


class RunRecord(SaveConfigCallback):
    """Writes ``config.yaml`` and ``conversion.csv`` when training starts, and ``model.safetensors`` when it is done.

    With adapters it also writes ``adapters.safetensors``, and ``adapters.csv`` with their storage and operations.
    Of images also ``classes.json``: the classes' names in the order of the network's outputs.

    Files of devices and plans are kept in the run's folder as they were read, whatever they have become since, and
    ``config.yaml`` names these copies.

    Nothing is written before data, network and checkpoint have been read, so that a mistake in them leaves no trace.
    The whole configuration, trainer and optimiser included, also goes to Weights & Biases, and so do the weights.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        pass  # the base class writes here

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.write(trainer, task_of(pl_module))
        run = Run.of(trainer)
        if isinstance(trainer.datamodule, ImageData) and run.folder is not None and run.is_first:
            names = json.dumps(trainer.datamodule.class_names, indent=0, ensure_ascii=False)
            (run.folder / "classes.json").write_text(f"{names}\n", encoding="utf-8")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not in on_train_end, which a run that resumes after its last step never reaches.
        run = Run.of(trainer)
        if run.folder is None:
            return
        task = task_of(pl_module)
        task.settle()
        with run.precision():  # on every rank
            task.calibrate(task.network, trainer.datamodule)
        if not run.is_first:
            return
        weights = save_weights(task, run.folder / "model.safetensors")
        task.save_beside(run.folder)
        print(f"finished weights: {weights}", flush=True)
        if task.adapters is not None and task.placement is not None and isinstance(trainer.datamodule, Samples):
            sample = [part.to(run.torch_device) for part in trainer.datamodule.calibration_batch(1)]
            with run.precision(), eval_mode(task.network):
                cost = asdict(adapter_cost(task.network, task.predict, sample))
            write_csv(run.folder / "adapters.csv", cost, [cost.values()])
        for tracker in run.trackers:
            log_files(tracker, "model", [weights])

    def write(self, trainer: Trainer, task: HardwareAwareTask) -> None:
        """Writes configuration and conversion report; prints the report."""
        run = Run.of(trainer)
        folder = run.folder
        if task.conversion is not None:
            rank_zero_info(f"{task.conversion}")
        where = f"{run.world_size} x {run.torch_device.type}"
        rank_zero_info(f"running on {where}" + (f", writing to {folder}" if folder else ""))
        if folder is None or not run.is_first:
            return
        folder.mkdir(parents=True, exist_ok=True)
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        _keep_files(config, folder / "devices")
        (folder / self.config_filename).write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        if task.conversion is not None:
            rows = [asdict(layer) for layer in task.conversion.layers]
            write_csv(folder / "conversion.csv", rows[0], (_flat(row) for row in rows))
        for tracker in run.trackers:
            tracker.config.update(config, allow_val_change=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.is_global_zero and any(isinstance(logger, WandbLogger) for logger in trainer.loggers):
            import wandb

            wandb.finish()


def _keep_files(config: Any, folder: Path) -> None:
    """Copies the device and plan files of a configuration to a folder, and makes the configuration name the copies."""
    if isinstance(config, list):
        for one in config:
            _keep_files(one, folder)
    if not isinstance(config, dict):
        return
    for key, value in config.items():
        if key == "device" and isinstance(value, dict):
            _keep_file(value, "name", folder)
        elif key == "hardware" and isinstance(value, dict) and "plan" in value:
            _keep_file(value, "plan", folder)
            _keep_files({one: value[one] for one in value if one != "plan"}, folder)
        else:
            _keep_files(value, folder)


def _keep_file(values: dict[str, Any], key: str, folder: Path) -> None:
    """Copies the file that is named under a key, if there is one."""
    name = values.get(key)
    if not isinstance(name, str) or not name.endswith((".yaml", ".yml")):
        return
    text, numbers = as_read(name), count(2)
    copy = folder / Path(name).name
    while copy.is_file() and copy.read_text(encoding="utf-8") != text:  # the file name is the name of the device
        copy = folder / str(next(numbers)) / copy.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(text, encoding="utf-8")
    values[key] = str(copy)


def _flat(row: dict[str, Any]) -> list[Any]:
    return ["x".join(map(str, value)) if isinstance(value, tuple) else value for value in row.values()]
