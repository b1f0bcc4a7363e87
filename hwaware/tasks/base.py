"""Base class of hardware-aware tasks: a converted network, its training step and its checkpoints."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import BackboneFinetuning
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from hwaware.errors import UserError
from hwaware.hardware import HardwareOptions
from hwaware.models.weight_files import CHECKPOINT_KEY
from hwaware.nn import ConversionReport, Measured, add_adapters, analog_layers
from hwaware.tasks.distilled import Distilled
from hwaware.tasks.optimised import Optimised, SchedulerCallable
from hwaware.tasks.same_run import refuse_other_run
from hwaware.tasks.scored import Scored
from hwaware.tasks.scores import Scores
from hwaware.tasks.settings import check_settings
from hwaware.tasks.sharded import Sharded
from hwaware.tasks.step_weights import StepWeights
from hwaware.training import (
    Adapters,
    Distillation,
    MappingBias,
    RangeLearning,
    RangeParameters,
    RetentionLoss,
    TrainingNoise,
    batch_norms,
    clip_weights_,
    freeze,
    install_noise,
    install_retention,
    remove_retention,
    retention_loss,
    scaled_rates,
    weight_for_share,
)

__all__ = ["HardwareAwareTask", "SchedulerCallable", "Scores"]


class _BuiltOnceConstructed(ABCMeta):
    """Builds a task's network after its constructor, when the fields of subclasses are set."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        task = super().__call__(*args, **kwargs)
        task.configure_models()
        task.validation_metrics, task.test_metrics = task.make_metrics(), task.make_metrics()
        return task


class HardwareAwareTask(Scored, Optimised, Sharded, Distilled, metaclass=_BuiltOnceConstructed):
    """A network with hardware-aware training.

    A subclass defines the network (:meth:`build_network`), its output (:meth:`predict`), the loss (:meth:`task_loss`)
    and the metrics (:meth:`make_metrics`). If the data must be prepared for its network, it also defines
    :attr:`inputs`. This class converts the network, adds training noise, the retention loss and distillation, and
    optimises and scores it. Validation and test use the exact effective weights: no noise, no drift.

    Args:
        hardware: hardware of the layers; None: train a plain digital network.
        corrected: whether to pre-distort the network's weights for the sinh-shaped I-V curve of the cells.
        noise: training noise; None: none.
        retention: retention loss; None: none.
        bias: constrain the most important columns to favourable states, with :class:`~hwaware.callbacks.BiasColumns`,
            which the commands add; None: off.
        distillation: distil from the digital network that this one starts from; None: labels only. Also holds for
            repairs that are trained with the loss.
        clip_alpha: clip each layer's weights at this many standard deviations after each step; None: never.
        range_learning: learn the ranges of converters along with the weights; None: keep the measured ranges.
        adapters: train only low-rank adapters in digital memory beside the layers; None: no adapters.
        trainable: ``all`` parameters, or ``norms``: only the scales and shifts of norms, and biases. With a few hundred
            samples, ``all`` overfits more.
        freeze: patterns of parameters or modules (``conv1``, ``blocks.[0-5].*``) that are not trained, statistics of
            batch norms included. In cells they drift like all others, and training noise acts on them.
        lr_scale: factors on the learning rate, by pattern (``{head: 10}``).
        layer_decay: factor on the learning rate from each stacked block to the one below it; None: one rate for all.
        freeze_bn_statistics: keep the batch-norm statistics of a pretrained network; its affine parameters still train.
        optimizer: function from parameters to an optimiser; None: SGD with learning rate 0.01 and momentum 0.9.
        scheduler: see :data:`SchedulerCallable`; None: constant learning rate.
        weights_way: how a step computes the weights in cells, one of :data:`hwaware.training.WAYS`; None: ``together``
            on a GPU, ``by_layer`` on a CPU. A resumed run keeps its choice.
    """

    #: Report of the conversion; None for a digital network.
    conversion: ConversionReport | None = None
    #: λ, resolved at the first step from the retention loss's share of the task loss.
    retention_weight: float | None = None
    #: How training samples were prepared, as plain types, if it differs from the network's own preprocessing.
    preprocessing: Mapping[str, Any] = MappingProxyType({})
    #: The converters' ranges, if they are learned.
    range_parameters: RangeParameters | None
    #: The digital network's output for a batch, while training with distillation.
    _teach: Callable[[Any], Any] | None = None

    def __init__(
        self,
        hardware: HardwareOptions | None = None,
        corrected: bool = True,
        noise: TrainingNoise | None = None,
        retention: RetentionLoss | None = None,
        bias: MappingBias | None = None,
        distillation: Distillation | None = None,
        clip_alpha: float | None = None,
        range_learning: RangeLearning | None = None,
        adapters: Adapters | None = None,
        trainable: Literal["all", "norms"] = "all",
        freeze: list[str] | None = None,
        lr_scale: dict[str, float] | None = None,
        layer_decay: float | None = None,
        freeze_bn_statistics: bool = True,
        optimizer: OptimizerCallable | None = None,
        scheduler: SchedulerCallable | None = None,
        weights_way: Literal["by_layer", "together", "compiled"] | None = None,
    ) -> None:
        super().__init__()
        check_settings(
            hardware=hardware,
            noise=noise,
            retention=retention,
            bias=bias,
            clip_alpha=clip_alpha,
            range_learning=range_learning,
            adapters=adapters,
            trainable=trainable,
            lr_scale=lr_scale,
            layer_decay=layer_decay,
            weights_way=weights_way,
        )
        self.trainable, self.freeze_patterns = trainable, freeze or []
        self.lr_scale, self.layer_decay = lr_scale or {}, layer_decay
        self.hardware, self.corrected = hardware, corrected
        self.noise, self.retention, self.clip_alpha = noise, retention, clip_alpha
        self.bias, self.distillation, self.adapters = bias, distillation, adapters
        self.range_learning, self.range_parameters = range_learning, None
        self.freeze_bn_statistics, self.weights_way = freeze_bn_statistics, weights_way
        self.optimizer_callable, self.scheduler_callable = optimizer, scheduler
        self._step_weights = StepWeights()

    def configure_models(self) -> None:
        """Builds the network and, with hardware, converts it."""
        self.network = self.build_network()
        if self.trainable == "norms":
            for parameter in self.network.parameters():
                parameter.requires_grad_(parameter.requires_grad and parameter.ndim < 2)
        if self.adapters is not None:
            add_adapters(self.network, self.adapters.rank, self.adapters.gain, self.adapters.match)
        freeze(self.network, self.freeze_patterns, alone=self.range_learning is None)
        scaled_rates(self.network, self.lr_scale)  # so that a wrong pattern is reported now
        if self.placement is None:
            return
        ages_s = self.noise.ages.ages_s if self.noise is not None and self.noise.kind == "device" else ()
        for hardware in self.placement.every:
            for age_s in (*ages_s, *(self.retention.ages_s if self.retention is not None else ())):
                hardware.device.check_law(age_s)  # now rather than at the step that draws it
            if self.bias is not None:
                self.bias.check(hardware)
        self.conversion = self.convert(self.network, self.placement, self.corrected)
        if self.range_learning is not None:
            self.range_parameters = RangeParameters(self.network)
        if not any(layer.weight.requires_grad for layer in analog_layers(self.network).values()):
            for field in ("retention", "bias", "clip_alpha"):
                if getattr(self, field) is not None:
                    raise UserError(
                        f"{field} changes weights in cells, but freeze leaves none trainable: set it to null."
                    )

    # Training.

    def train(self, mode: bool = True) -> HardwareAwareTask:
        super().train(mode)
        for module in batch_norms(self.network) if mode else ():
            if self._bn_is_frozen or (self.freeze_patterns and not any(p.requires_grad for p in module.parameters())):
                module.eval()
        return self

    def configure_callbacks(self) -> list[Callback]:
        # Lightning calls this before it sets up callbacks, when this one would look for a backbone.
        if any(isinstance(one, BackboneFinetuning) for one in self.trainer.callbacks) and not hasattr(self, "backbone"):
            raise UserError(
                "BackboneFinetuning finds no backbone in this task: set model.freeze (patterns of layers) and "
                "model.lr_scale; a second run with --model.weights continues with all layers."
            )
        return []

    def on_fit_start(self) -> None:
        if self.bias is not None and all(getattr(one, "bias", None) != self.bias for one in self.trainer.callbacks):
            raise UserError("bias is set, but its callback is missing: Trainer(callbacks=[BiasColumns(task.bias)]).")
        self._calibrate()
        if self.range_parameters is not None:
            self.range_parameters.start()

    def on_train_start(self) -> None:
        self.train()  # Lightning keeps the modes that it finds
        if self.retention is not None:  # here, since the weights are on their torch device by now
            install_retention(self.network, self.retention)
        self._step_weights.choose(self.network, self.weights_way, self.is_sharded)
        # not a submodule: it is neither trained nor saved
        self._teach = self.teacher(self.device, self.device_mesh and self.device_mesh["data_parallel"])

    def on_train_end(self) -> None:
        self.settle()
        remove_retention(self.network)
        self._step_weights.end(self.network)
        self._teach = None
        if self.range_parameters is not None:
            self.range_parameters.stop()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        # The seeding callback has just seeded torch's global generator for this very step.
        age_s = install_noise(self.network, self.noise) if self.noise is not None else None
        self._step_weights.compute()
        task_loss = self.loss_of(self.network, batch, self._teach)
        logged, total = {"train/task_loss": task_loss.detach()}, task_loss
        if age_s is not None:
            logged["train/age_s"] = torch.tensor(age_s)
        if self.retention is not None:
            penalty = retention_loss(self.network)
            if self.retention_weight is None:
                self.retention_weight = weight_for_share(self.retention.share, task_loss, penalty)
            total = task_loss + self.retention_weight * penalty
            logged |= {"train/retention": penalty.detach(), "train/lambda": torch.tensor(self.retention_weight)}
        if self.range_learning is not None and self.range_parameters is not None:
            total = total + self.range_learning.decay * self.range_parameters.pull()
        self.log_dict(logged | {"train/loss": total.detach()})
        return total

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.clip_alpha is not None:
            # Here rather than in on_train_batch_end, which runs after checkpoints are written.
            clip_weights_(self.network, self.clip_alpha)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # The tensors in the file are the network's own, and only one rank writes them.
        self._pool_statistics()
        if self.range_parameters is not None:
            self.range_parameters.write()
        checkpoint[CHECKPOINT_KEY] = {
            "network": self.network_name,
            "hardware": self.hardware_plain,
            "retention_weight": self.retention_weight,
            "ranges": dict(Measured.of(self.network).ranges),
            "weights_way": self._step_weights.way,
        }
        if self.preprocessing:
            checkpoint[CHECKPOINT_KEY]["preprocessing"] = dict(self.preprocessing)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Loads a run's ``.ckpt`` with Lightning. The file does not contain the task's arguments: pass them as well.

        Raises:
            UserError: arguments are missing, or belong to another network or other hardware than the run's.
        """
        try:
            return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)
        except TypeError as error:
            if "missing" not in str(error):
                raise
            reason = str(error).partition(" ")[2]
            raise UserError(
                f"'{checkpoint_path}' does not contain the task's settings ({reason}): pass them as well, as in "
                f"{cls.__name__}.load_from_checkpoint(path, name=…, hardware=…); the run's config.yaml has them."
            ) from None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint.get(CHECKPOINT_KEY, {})
        refuse_other_run(saved, self.network_name, self.hardware_plain, self.network)
        self.retention_weight = saved["retention_weight"]
        self._step_weights.way = saved.get("weights_way")
        Measured(ranges=saved.get("ranges", {})).give(self.network)
