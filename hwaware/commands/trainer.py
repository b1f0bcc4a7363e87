"""Lightning's Trainer with one more entry: ageing chips without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch import LightningDataModule, Trainer

from hwaware.callbacks import DriftEvaluation, RunRecord
from hwaware.commands.export import export
from hwaware.commands.push import hand_over
from hwaware.commands.sensitivity import check_ranking, rank_layers
from hwaware.compensation import Schedule
from hwaware.errors import UserError
from hwaware.export.onnx import write_onnx
from hwaware.export.weights import hardware_of, load_weights

if TYPE_CHECKING:
    from torch import nn

    from hwaware.results.row import Row
    from hwaware.results.sensitivity import LayerSensitivity
    from hwaware.tasks import HardwareAwareTask


class HardwareTrainer(Trainer):
    """A Trainer with ``drift``, ``compare``, ``sensitivity``, ``export`` beside ``fit``, ``validate`` and ``test``."""

    def drift(
        self,
        model: HardwareAwareTask,
        datamodule: LightningDataModule,
        weights: str | None = None,
        ckpt_path: str | None = None,
    ) -> list[Row]:
        """Accuracy of networks on simulated chips, from the first second to years.

        Args:
            model: the task; its own pretrained weights are ``base``.
            datamodule: the data.
            weights: weights to age: a run's ``model.safetensors`` (``finetuned``), or a plain file (timm,
                transformers), which takes the place of ``base``.
            ckpt_path: a run's ``.ckpt`` to age instead; ``last`` is the recipe's latest.
        """
        file = _the_one(weights, ckpt_path)
        launcher = self.strategy.launcher
        if launcher is None:
            return self._drift(model, datamodule, file)
        return launcher.launch(self._drift, model, datamodule, file, trainer=self)

    def compare(
        self,
        model: HardwareAwareTask,
        datamodule: LightningDataModule,
        weights: str | None = None,
        ckpt_path: str | None = None,
    ) -> list[Row]:
        """:meth:`drift` with every repair that the recipe's ``evaluation.methods`` names, on the same chips."""
        if not any(callback.methods for callback in self.callbacks if isinstance(callback, DriftEvaluation)):
            raise UserError("there is nothing to compare: evaluation.methods names no way of repairing a chip.")
        return self.drift(model, datamodule, weights, ckpt_path)

    def export(
        self,
        model: HardwareAwareTask,
        datamodule: LightningDataModule,
        out: str,
        weights: str | None = None,
        ckpt_path: str | None = None,
    ) -> Path:
        """Writes what a chip team needs of a network: conductance targets, scales, repairs with their timetable.

        Repairs are those of the recipe's ``evaluation.methods`` that are fitted offline, planned by
        ``evaluation.schedule`` or its defaults.

        Args:
            model: the task; its pretrained weights are exported where no others are given.
            datamodule: the data that repairs are fitted on.
            out: the bundle's folder, which must not exist yet.
            weights: a run's ``model.safetensors``, or a plain file (timm, transformers).
            ckpt_path: a run's ``.ckpt`` instead; ``last`` is the recipe's latest.
        """
        own = [callback for callback in self.callbacks if isinstance(callback, DriftEvaluation)]
        evaluation = own[0] if own else DriftEvaluation()
        network = self._alone(model, datamodule, weights, ckpt_path)
        schedule = evaluation.schedule or Schedule()
        path = export(self, model, datamodule, network, out, evaluation.methods, schedule, evaluation.seed)
        print(f"bundle: {path}", flush=True)
        return path

    def push(
        self,
        model: HardwareAwareTask,
        datamodule: LightningDataModule,
        weights: str | None = None,
        ckpt_path: str | None = None,
        repo: str | None = None,
        out: str | None = None,
        rows: str | None = None,
        license: str | None = None,
    ) -> None:
        """Hands a finetuned network on: to the Hugging Face hub, or as the folder that would lie there.

        Args:
            model: the task whose network it is.
            datamodule: not used.
            weights: a run's ``model.safetensors``, or the run's folder.
            ckpt_path: a run's ``.ckpt`` instead; ``last`` is the recipe's latest.
            repo: ``USER/NAME`` on the hub; it is made, publicly, where it is not there yet.
            out: a folder to write, which must not exist yet.
            rows: measurements for the model card; by default ``rows.csv`` beside the weights, where there is one.
            license: of the weights, by its name on the hub (``apache-2.0``).
        """
        file = _the_one(weights, ckpt_path)
        if not file:
            raise UserError("push: give --weights: a run's model.safetensors, or the run's folder.")
        hand_over(model, file, repo, out, rows, license)

    def onnx(
        self,
        model: HardwareAwareTask,
        datamodule: LightningDataModule,
        out: str,
        weights: str | None = None,
        ckpt_path: str | None = None,
    ) -> None:
        """Writes the exact network, with effective weights, as an ONNX file.

        Args:
            model: the task; its pretrained weights are written where no others are given.
            datamodule: not used.
            out: the file, which ends in ``.onnx``; one that is there is replaced.
            weights: a run's ``model.safetensors``, or a plain file (timm, transformers).
            ckpt_path: a run's ``.ckpt`` instead; ``last`` is the recipe's latest.
        """
        network, file = self._network(model, weights, ckpt_path), _the_one(weights, ckpt_path)
        print(f"network: {write_onnx(model, network, hardware_of(file) if file else None, out)}", flush=True)

    def sensitivity(
        self,
        model: HardwareAwareTask,
        datamodule: LightningDataModule,
        weights: str | None = None,
        ckpt_path: str | None = None,
        age_s: float = 315_360_000.0,
        chips: int = 3,
        most: int = 8,
    ) -> list[LayerSensitivity]:
        """Which layers a network's accuracy depends on: one at a time in aged cells, on validation images and chips.

        Args:
            model: the task; its pretrained weights are ranked where no others are given.
            datamodule: the data.
            weights: a run's ``model.safetensors``, or a plain file (timm, transformers).
            ckpt_path: a run's ``.ckpt`` instead; ``last`` is the recipe's latest.
            age_s: age of the chips (s).
            chips: how many.
            most: of how many layers to keep digital at most the accuracy is measured.
        """
        check_ranking(model, age_s, chips, most)
        network = self._alone(model, datamodule, weights, ckpt_path)
        datamodule.setup("fit")
        for callback in self.callbacks:
            if isinstance(callback, RunRecord):
                callback.write(self, model)
        try:
            return rank_layers(self, model, datamodule, network, age_s, chips, most)
        finally:
            self._finish(model)

    def _alone(
        self, task: HardwareAwareTask, datamodule: LightningDataModule, weights: str | None, ckpt_path: str | None
    ) -> nn.Module:
        """The digital network of a command that runs in one process, which this sets up."""
        if self.world_size > 1:
            raise UserError(f"this command runs in one process, not in {self.world_size}: --trainer.devices 1.")
        self.strategy.connect(task)
        self.strategy.setup_environment()
        task.trainer = datamodule.trainer = self
        network = self._network(task, weights, ckpt_path)
        datamodule.prepare_data()
        return network

    @staticmethod
    def _network(task: HardwareAwareTask, weights: str | None, ckpt_path: str | None) -> nn.Module:
        """The digital network that a command is given, or else the task's pretrained one."""
        file = _the_one(weights, ckpt_path)
        if not file and not task.is_pretrained:
            raise UserError("there is no network: give --weights, --ckpt_path or model.weights.")
        return load_weights(task, file)[1] if file else task.build_network()

    def _finish(self, task: HardwareAwareTask) -> None:
        for logger in self.loggers:
            logger.finalize("success")
        for callback in self.callbacks:
            callback.teardown(self, task, "test")

    def _drift(self, task: HardwareAwareTask, datamodule: LightningDataModule, file: str | None) -> list[Row]:
        own = [callback for callback in self.callbacks if isinstance(callback, DriftEvaluation)]
        evaluation = own[0] if own else DriftEvaluation()
        self.strategy.connect(task)
        self.strategy.setup_environment()
        task.trainer = datamodule.trainer = self
        evaluation.check(task)
        kind, network = load_weights(task, file) if file else ("base", None)
        base, finetuned = (network, None) if kind == "base" else (None, network)
        if base is None:
            if not task.is_pretrained:
                raise UserError("there is no base network to compare with: give model.weights or model.pretrained.")
            base = task.build_network()
        networks = evaluation.choose(base, finetuned)
        datamodule.prepare_data()
        datamodule.setup(evaluation.stage)
        evaluation.check_data(task, datamodule)
        for callback in self.callbacks:
            if isinstance(callback, RunRecord):
                callback.write(self, task)
        try:
            return evaluation.run(self, task, datamodule, networks, base)
        finally:
            self._finish(task)


def _the_one(weights: str | None, ckpt_path: str | None) -> str | None:
    if weights and ckpt_path:
        raise UserError("--weights and --ckpt_path exclude each other: give the one network.")
    return weights or ckpt_path
