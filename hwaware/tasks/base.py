"""What every hardware-aware task shares: a converted network, its training step, its optimiser."""

from __future__ import annotations

import copy
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.callbacks import BackboneFinetuning
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric, MetricCollection

from hwaware.data.contract import TakesSamples, samples_of
from hwaware.errors import UserError, nearest
from hwaware.hardware import HardwareOptions, Placement
from hwaware.models.weight_files import CHECKPOINT_KEY
from hwaware.nn import (
    ConversionReport,
    Measured,
    add_adapters,
    analog_layers,
    calibrate,
    convert,
    layers_with_converters,
)
from hwaware.nn.batches import split_batch
from hwaware.nn.reads import refusing_reads
from hwaware.tasks.fully_sharded import refuse_unfit
from hwaware.tasks.same_run import refuse_other_run
from hwaware.training import (
    WAYS,
    Adapters,
    Distillation,
    MappingBias,
    RangeLearning,
    RangeParameters,
    RetentionLoss,
    TrainingNoise,
    Way,
    WeightsTogether,
    batch_norms,
    check_rates,
    choose_way,
    clip_weights_,
    distillation_loss,
    freeze,
    install_noise,
    install_retention,
    layer_depths,
    optimizer_in_groups,
    remove_noise,
    remove_retention,
    retention_loss,
    scaled_rates,
    synchronise_batch_norms,
    weight_for_share,
)
from hwaware.training.sharding import keep_gathered, shard, whole_copy

if TYPE_CHECKING:
    from hwaware.metrics import Answers

#: Called with the optimiser and the run's number of optimiser steps; stepped once per optimiser step. So any scheduler
#: whose second argument is its length: ``CosineAnnealingLR``, ``PolynomialLR``, :class:`~hwaware.tasks.WarmupCosine`.
SchedulerCallable = Callable[[Optimizer, int], LRScheduler]

#: Samples that run through a network at a time while its converters' ranges are measured.
_CALIBRATION_BATCH = 64


class Scores(dict[str, float]):
    """Metrics in percent by name.

    Attributes:
        hits: which samples are hits of the first of them, bool ``[n_samples]``; None: not known.
    """

    def __init__(self, values: Mapping[str, float], hits: Tensor | None = None) -> None:
        super().__init__(values)
        self.hits = hits


class _BuiltOnceConstructed(ABCMeta):
    """Builds a task's network when its constructor is done, and a subclass's fields are there."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        task = super().__call__(*args, **kwargs)
        task.configure_models()
        task.validation_metrics, task.test_metrics = task.make_metrics(), task.make_metrics()
        return task


class HardwareAwareTask(LightningModule, TakesSamples, metaclass=_BuiltOnceConstructed):
    """A network that is trained in the knowledge of the memory which is to hold it.

    A subclass says what the network is (:meth:`build_network`), what it answers to a batch (:meth:`predict`), what is
    minimised (:meth:`task_loss`) and what is measured (:meth:`make_metrics`); where data are to be prepared for its
    network, also how (:attr:`inputs`). This class converts, adds training noise, the retention loss and distillation,
    optimises and scores. Validation and test run the exact effective weights: no noise, no drift.

    Args:
        hardware: what is to hold each layer; None trains a plain digital network.
        corrected: whether the network's weights are pre-distorted for the cell's non-linearity.
        noise: training noise; None for none.
        retention: retention loss; None for none.
        bias: constrain the most important columns to favourable states, by :class:`~hwaware.callbacks.BiasColumns`,
            which the commands add; None: not.
        distillation: learn from the digital network that this one starts from; None: from labels alone. Repairs that
            are trained by the loss do so too.
        clip_alpha: clip each layer's weights at this many of their standard deviations after each step; None: never.
        range_learning: let the ranges of converters train along with the weights; None: they stay as measured.
        adapters: train low-rank adapters in digital memory beside the layers, and nothing else; None: none.
        trainable: ``all`` parameters, or ``norms``: the scales and shifts of norms, and biases, while all weights stay.
            Of a few hundred samples the former learns more by heart.
        freeze: patterns of parameters or modules (``conv1``, ``blocks.[0-5].*``) that stay as they are, batch norms'
            statistics included. In cells they drift like all others, and training noise acts on them.
        lr_scale: by such a pattern, the factor of the optimiser's learning rate (``{head: 10}``).
        layer_decay: each of the stacked blocks learns at this fraction of the rate of the one above it; None: alike.
        freeze_bn_statistics: keep a pretrained network's batch-norm statistics while its affine parameters train.
        optimizer: from parameters to an optimiser; None is SGD with learning rate 0.01 and momentum 0.9.
        scheduler: see :data:`SchedulerCallable`; None keeps the learning rate.
        weights_way: how a step computes the weights in cells, one of :data:`hwaware.training.WAYS`; None: ``together``
            on a GPU, ``by_layer`` on a CPU. A run goes on as it began.
    """

    #: Bytes of a stored sample's label.
    label_bytes: ClassVar[int] = 2

    network: nn.Module
    #: Of :meth:`make_metrics`.
    validation_metrics: MetricCollection | Metric
    test_metrics: MetricCollection | Metric
    #: File of the trained weights that the network starts from; a subclass that has one sets it.
    weights: str | None = None
    #: What any network (not only this task's) answers to the questions of batches; None: the task asks none.
    answered: Callable[[nn.Module, Iterable[Any]], Answers] | None = None
    #: From what :meth:`predict` gave for a batch, and the batch: which samples are hits of the first metric, ``[N]``.
    #: None: that metric does not count hits.
    hits: Callable[[Any, Any], Tensor] | None = None
    #: What was converted; None for a digital network.
    conversion: ConversionReport | None = None
    #: λ, resolved at the first step from the retention loss's share of the task loss.
    retention_weight: float | None = None
    #: How samples of a training were prepared, where that is not as the network has it: plain types.
    preprocessing: Mapping[str, Any] = MappingProxyType({})
    #: How the run computes its weights; None: before training.
    _way: Way | None = None
    _together: WeightsTogether | None = None
    #: The converters' ranges, where they train.
    range_parameters: RangeParameters | None
    #: The digital network's output for a batch, while training with distillation.
    _teach: Callable[[Any], Any] | None = None
    #: Of the network, while its parameters lie in shards: in a list, so that it is no part of the task.
    _structure: list[nn.Module]

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
        self._structure = []
        of_cells: dict[str, Any] = {"noise": noise, "retention": retention, "bias": bias, "clip_alpha": clip_alpha}
        of_cells["range_learning"] = range_learning
        for field, value in of_cells.items():
            if hardware is None and value is not None:
                raise UserError(
                    f"{field} is for a network in memory cells, but there is no hardware: set it, or drop {field}."
                )
        if clip_alpha is not None and not clip_alpha > 0:
            raise UserError(f"clip_alpha={clip_alpha} must be above 0 (2.5 is usual); null turns clipping off.")
        if bias is not None and clip_alpha is not None:
            raise UserError(
                "clip_alpha moves weights that bias has projected: set it to null; a fixed scale clips too."
            )
        if weights_way is not None and weights_way not in WAYS:
            raise UserError(f"weights_way '{weights_way}' is unknown. {nearest(weights_way, WAYS)}")
        if trainable not in ("all", "norms"):
            raise UserError(f"trainable '{trainable}' is unknown. {nearest(trainable, ('all', 'norms'))}")
        moving = {"retention": retention, "bias": bias, "clip_alpha": clip_alpha}
        for field, value in moving.items():
            if trainable == "norms" and value is not None:
                raise UserError(f"{field} moves weights, which trainable 'norms' leaves as they are: set it to null.")
            if adapters is not None and value is not None:
                raise UserError(f"{field} moves weights, which adapters leave as they are: set it to null.")
        if adapters is not None and trainable != "all":
            raise UserError(f"trainable '{trainable}': beside adapters nothing is trained; leave one of the two out.")
        check_rates(lr_scale, layer_decay)
        self.trainable, self.freeze_patterns = trainable, freeze or []
        self.lr_scale, self.layer_decay = lr_scale or {}, layer_decay
        self.hardware, self.corrected = hardware, corrected
        self.noise, self.retention, self.clip_alpha = noise, retention, clip_alpha
        self.bias, self.distillation, self.adapters = bias, distillation, adapters
        self.range_learning, self.range_parameters = range_learning, None
        self.freeze_bn_statistics, self.weights_way = freeze_bn_statistics, weights_way
        self.optimizer_callable, self.scheduler_callable = optimizer, scheduler

    # What a subclass says.

    @abstractmethod
    def build_network(self, weights: str | None = None) -> nn.Module:
        """The digital network with the weights that it starts from, or with those of a file in the same form."""

    @abstractmethod
    def predict(self, network: nn.Module, batch: Any) -> Any:
        """The output of any network (not only this task's) for a batch, whose labels are not looked at."""

    @abstractmethod
    def task_loss(self, output: Any, batch: Any) -> Tensor:
        """The task's loss, a scalar, of what :meth:`predict` gave for a batch."""

    @abstractmethod
    def make_metrics(self, **options: Any) -> MetricCollection | Metric:
        """New metrics of what :meth:`predict` gives and of the batch's second part, the labels; see :meth:`score`.

        Args:
            options: of torchmetrics, for each metric.
        """

    # What a subclass may say as well.

    @property
    def network_name(self) -> str:
        """The network's name in results."""
        return type(self).__name__

    @property
    def is_pretrained(self) -> bool:
        """Whether the network starts from trained weights."""
        return self.weights is not None

    def save_beside(self, folder: Path) -> None:
        """Writes what a folder needs beside ``model.safetensors`` for the network's own library to load it."""

    def update_metrics(self, metrics: Any, output: Any, batch: Any) -> None:
        """Shows metrics of :meth:`make_metrics` a batch and what a network gave for it."""
        metrics.update(output, batch[1])

    def judged_loss(self, output: Any, batch: Any) -> Tensor:
        """The loss that validation and test log: as :meth:`task_loss`, without what only eases training."""
        return self.task_loss(output, batch)

    def conclude(self, stage: str, metrics: Any) -> None:
        """Logs what the metrics of ``val`` or ``test`` found in all samples of all ranks, percent, and empties them."""
        values = {f"{stage}/{name}": 100.0 * value for name, value in _computed(metrics).items()}
        self.log_dict(values, prog_bar=stage == "val", sync_dist=True)  # equal already: it spares Lightning's warning
        metrics.reset()

    def judge_inputs(self, network: nn.Module, batches: Iterable[Any], inputs: Any) -> None:
        """Warns where a pretrained network seems to be shown samples otherwise than it was trained on them.

        Args:
            network: exact, in eval mode.
            batches: that lie on its device.
            inputs: that the data prepared them by; see :mod:`hwaware.data.contract`.
        """

    @torch.no_grad()
    def score(self, network: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
        """Metrics in percent of any network (not only this task's) over batches that lie on its device.

        Here: those of :meth:`make_metrics`, as shares in [0, 1] of which more is better. The first is judged by. Where
        the task has :attr:`hits`, they come along.
        """
        # Ranks score different chips: nothing to be pooled.
        metrics = self.make_metrics(sync_on_compute=False).to(next(network.parameters()).device)
        hits = []
        for batch in batches:
            output = self.predict(network, batch)
            self.update_metrics(metrics, output, batch)
            if self.hits is not None:
                hits.append(self.hits(output, batch))
        # In single precision they have some seven digits; the rest would be noise in results.
        values = {name: round(100.0 * value.item(), 4) for name, value in _computed(metrics).items()}
        return Scores(values, torch.cat(hits).cpu() if hits else None)

    def divergence(self, output: Any, exact: Any) -> Tensor:
        """How far a network's output for a batch lies from the exact network's: a scalar, mean over samples.

        Here: the Kullback-Leibler divergence (nats) of logits ``[N, C]``, or the mean of several such.
        """
        return distillation_loss(output, exact, temperature=1.0)

    @property
    def chance_percent(self) -> dict[str, float]:
        """Value of each metric that a network without any knowledge has, where it is known; once samples are scored."""
        return {}

    def forward(self, *inputs: Any) -> Any:
        return self.network(*inputs)

    # What this class makes of it.

    def loss_of(self, network: nn.Module, batch: Any, teach: Callable[[Any], Any] | None = None) -> Tensor:
        """What any network is trained by on one batch: the task's loss, mixed with the distillation's.

        Args:
            network: not only this task's.
            batch: of training.
            teach: see :meth:`teacher`; None leaves the distillation out.
        """
        output = self.predict(network, batch)
        loss = self.task_loss(output, batch)
        if teach is None or self.distillation is None:
            return loss
        with torch.no_grad():
            taught = teach(batch)
        a = self.distillation.weight
        return (1 - a) * loss + a * distillation_loss(output, taught, self.distillation.temperature)

    def teacher(self, device: torch.device, mesh: DeviceMesh | None = None) -> Callable[[Any], Any] | None:
        """What the digital network that this one starts from says to a batch; None without distillation.

        Args:
            device: where it runs.
            mesh: of the processes that it is sharded over, and that call it together; None: it is whole.
        """
        if self.distillation is None:
            return None
        network = self.build_network().eval().requires_grad_(False)
        if mesh is not None:
            shard(network, mesh)
        return partial(self.predict, network.to(device))

    def configure_models(self) -> None:
        """Builds the network and, for cells, converts it."""
        self.network = self.build_network()
        if self.trainable == "norms":
            for parameter in self.network.parameters():
                parameter.requires_grad_(parameter.requires_grad and parameter.ndim < 2)
        if self.adapters is not None:
            add_adapters(self.network, self.adapters.rank, self.adapters.gain, self.adapters.match)
        freeze(self.network, self.freeze_patterns, alone=self.range_learning is None)
        scaled_rates(self.network, self.lr_scale)  # so that a wrong pattern is told now
        if self.placement is None:
            return
        ages_s = self.noise.ages.ages_s if self.noise is not None and self.noise.kind == "device" else ()
        for hardware in self.placement.every:
            for age_s in (*ages_s, *(self.retention.ages_s if self.retention is not None else ())):
                hardware.device.check_law(age_s)  # now, not at the step that draws it
            if self.bias is not None:
                self.bias.check(hardware)
        self.conversion = self.convert(self.network, self.placement, self.corrected)
        if self.range_learning is not None:
            self.range_parameters = RangeParameters(self.network)
        if not any(layer.weight.requires_grad for layer in analog_layers(self.network).values()):
            for field in ("retention", "bias", "clip_alpha"):
                if getattr(self, field) is not None:
                    raise UserError(f"{field} moves weights in cells, but freeze leaves none to move: set it to null.")

    def configure_model(self) -> None:
        """Lightning's hook, in every process: shards the network, where the Trainer's strategy is ``fsdp2``."""
        if self.device_mesh is not None and not self._structure:
            refuse_unfit(self.trainer, self)
            self._structure = [shard(self.network, self.device_mesh["data_parallel"])]

    def copy_network(self) -> nn.Module:
        """A copy of the whole network. For all processes, where it is sharded."""
        return whole_copy(self.network, *self._structure) if self._structure else copy.deepcopy(self.network)

    def make_whole(self) -> None:
        """Undoes the sharding. For all processes."""
        if self._structure:
            self.network = self.copy_network()
            self._structure, self._device_mesh = [], None

    @property
    def placement(self) -> Placement | None:
        """The hardware of each layer; None: the network is digital."""
        return None if self.hardware is None else self.hardware.placement

    def convert(self, network: nn.Module, placement: Placement, corrected: bool = True) -> ConversionReport:
        """Converts a digital network of this task."""
        return convert(network, placement, corrected)

    def calibrate(self, network: nn.Module, datamodule: LightningDataModule | None) -> None:
        """Measures what goes with a network beside its weights on validation samples, where it has none yet.

        Here: the ranges of a converted network's converters.
        """
        found = layers_with_converters(network).values()
        if all(layer.ranges for layer, _ in found):
            return
        samples = samples_of(datamodule, "the ranges of converters are measured on calibration samples")
        samples.setup("fit")
        wanted = max(converters.samples for _, converters in found)
        device = next(network.parameters()).device
        batch = samples.calibration_batch(min(wanted, samples.n_val))
        batches = ([part.to(device) for part in one] for one in split_batch(batch, _CALIBRATION_BATCH))
        calibrate(network, self.predict, batches)

    # Training.

    def train(self, mode: bool = True) -> HardwareAwareTask:
        super().train(mode)
        for module in batch_norms(self.network) if mode else ():
            if self._bn_is_frozen or (self.freeze_patterns and not any(p.requires_grad for p in module.parameters())):
                module.eval()
        return self

    def configure_callbacks(self) -> list[Callback]:
        # Lightning asks before it sets callbacks up, which is where this one would look for a backbone.
        if any(isinstance(one, BackboneFinetuning) for one in self.trainer.callbacks) and not hasattr(self, "backbone"):
            raise UserError(
                "BackboneFinetuning knows no backbone of this task: set model.freeze (patterns of layers) and "
                "model.lr_scale; a second run with --model.weights goes on with all layers."
            )
        return []

    def on_fit_start(self) -> None:
        if self.bias is not None and all(getattr(one, "bias", None) != self.bias for one in self.trainer.callbacks):
            raise UserError("bias is set, but nothing projects: give the Trainer callbacks=[BiasColumns(task.bias)].")
        self._calibrate()
        if self.range_parameters is not None:
            self.range_parameters.start()

    def on_train_start(self) -> None:
        self.train()  # Lightning leaves the modes that it finds
        if self.retention is not None:  # here, because by now the weights are on their device
            install_retention(self.network, self.retention)
        self._choose_way()
        # no submodule: it is neither trained nor saved
        self._teach = self.teacher(self.device, self.device_mesh and self.device_mesh["data_parallel"])

    def _choose_way(self) -> None:
        """As the recipe says, else as the run began, else as is best here."""
        if self._structure:
            if self.weights_way not in (None, "by_layer"):
                raise UserError(
                    f"weights_way '{self.weights_way}' needs whole weights, and fsdp2 shards them: drop it."
                )
            self._way = "by_layer"
            return
        began = self._way
        self._way = choose_way(self.network, self.weights_way or began)
        if began is not None and self._way != began:
            rank_zero_warn(f"weights_way: the run began '{began}' and goes on '{self._way}', so not bit for bit.")
        if self._way != "by_layer":
            self._together = WeightsTogether(self.network, self._way == "compiled")

    def on_train_end(self) -> None:
        self.settle()
        remove_retention(self.network)
        self._teach = self._together = None
        if self.range_parameters is not None:
            self.range_parameters.stop()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        # The seeding callback has just seeded torch's global generator for this very step.
        age_s = install_noise(self.network, self.noise) if self.noise is not None else None
        if self._together is not None:
            self._together()
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
            # Here, not in on_train_batch_end, which comes after checkpoints are written.
            clip_weights_(self.network, self.clip_alpha)

    def make_optimizer(self) -> Optimizer:
        """A new optimiser over all parameters that ask for a gradient, in groups of the same rate."""
        named = {name.removeprefix("network."): one for name, one in self.named_parameters() if one.requires_grad}
        by_depth = self.layer_rates() if self.layer_decay is not None else {}
        by_name = scaled_rates(self.network, self.lr_scale)
        rates = {name: by_depth.get(name, 1.0) * by_name.get(name, 1.0) for name in named}
        ranges = {name for name in named if name.startswith("range_parameters.")}
        if self.range_learning is not None:
            rates |= dict.fromkeys(ranges, self.range_learning.rate)
        return optimizer_in_groups(
            self.optimizer_of, named, rates, lambda name, one: name not in ranges and self.decays(name, one)
        )

    def layer_rates(self) -> dict[str, float]:
        """The factor of each parameter's learning rate by its depth in the network, by name."""
        decay = self.layer_decay or 1.0
        return {name: decay**depth for name, depth in layer_depths(self.network).items()}

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether the optimiser's weight decay is for a parameter as well."""
        return True

    def optimizer_of(self, parameters: Iterable[Any]) -> Optimizer:
        """The recipe's optimiser for parameters, or groups of them."""
        make = self.optimizer_callable or (lambda parameters: SGD(parameters, lr=0.01, momentum=0.9))
        return make(parameters)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.make_optimizer()
        if self.scheduler_callable is None:
            return {"optimizer": optimizer}
        scheduler = self.scheduler_callable(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # Validation and test.

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._judge(batch, "val", self.validation_metrics)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._judge(batch, "test", self.test_metrics)

    def on_validation_epoch_end(self) -> None:
        self.conclude("val", self.validation_metrics)

    def on_test_epoch_end(self) -> None:
        self.conclude("test", self.test_metrics)

    def _judge(self, batch: Any, stage: str, metrics: MetricCollection | Metric) -> None:
        with refusing_reads(self.network):
            output = self.predict(self.network, batch)
        self.update_metrics(metrics, output, batch)
        self.log(f"{stage}/loss", self.judged_loss(output, batch), batch_size=len(batch[0]), sync_dist=True)

    def on_validation_start(self) -> None:
        keep_gathered(self.network, True)
        self.settle()
        self._calibrate()

    def on_validation_end(self) -> None:
        keep_gathered(self.network, False)

    def on_test_start(self) -> None:
        self.on_validation_start()

    def on_test_end(self) -> None:
        self.on_validation_end()

    def _calibrate(self) -> None:
        if layers_with_converters(self.network):
            self.calibrate(self.network, self.trainer.datamodule)

    def settle(self) -> None:
        """Makes the network what it is to be judged by: no training noise, equal batch-norm statistics on all ranks."""
        remove_noise(self.network)
        for layer in analog_layers(self.network).values():
            layer.weight_error = None  # of the last step, whose graph it holds
        self._pool_statistics()

    @property
    def hardware_plain(self) -> dict[str, Any] | None:
        """What holds the network, as plain types for file headers; None for a digital network."""
        return None if self.placement is None else {**self.placement.plain(), "corrected": self.corrected}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # The file's tensors are the network's own, and only one rank's are written.
        self._pool_statistics()
        if self.range_parameters is not None:
            self.range_parameters.write()
        checkpoint[CHECKPOINT_KEY] = {
            "network": self.network_name,
            "hardware": self.hardware_plain,
            "retention_weight": self.retention_weight,
            "ranges": dict(Measured.of(self.network).ranges),
            "weights_way": self._way,
        }
        if self.preprocessing:
            checkpoint[CHECKPOINT_KEY]["preprocessing"] = dict(self.preprocessing)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Lightning's, of a run's ``.ckpt``; it needs what the task was made with, which the file does not hold.

        Raises:
            UserError: that is missing, or is another network's or other hardware's than the run's.
        """
        try:
            return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)
        except TypeError as error:
            if "missing" not in str(error):
                raise
            reason = str(error).partition(" ")[2]
            raise UserError(
                f"'{checkpoint_path}' does not hold the task's settings ({reason}): give them as well, as in "
                f"{cls.__name__}.load_from_checkpoint(path, name=…, hardware=…); the run's config.yaml has them."
            ) from None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint.get(CHECKPOINT_KEY, {})
        refuse_other_run(saved, self.network_name, self.hardware_plain, self.network)
        self.retention_weight = saved["retention_weight"]
        self._way = saved.get("weights_way")
        Measured(ranges=saved.get("ranges", {})).give(self.network)

    @property
    def _bn_is_frozen(self) -> bool:
        return self.freeze_bn_statistics and self.is_pretrained

    def _pool_statistics(self) -> None:
        if not self._bn_is_frozen:
            synchronise_batch_norms(self.network)


def _computed(metrics: MetricCollection | Metric) -> dict[str, Tensor]:
    """The metrics' values by name; of a single one by that of its class."""
    values = metrics.compute()
    return values if isinstance(values, dict) else {type(metrics).__name__: values}
