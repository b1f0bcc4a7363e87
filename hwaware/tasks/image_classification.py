"""Image classification with any timm network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from hwaware.data.base import SampleData
from hwaware.data.contract import ImageInputs
from hwaware.errors import UserError
from hwaware.metrics.by_class import accuracy_by_class
from hwaware.metrics.chance import chance_of_classes
from hwaware.models import build_model
from hwaware.models.inputs import check_kwargs, data_config, input_size_is, plain_config
from hwaware.models.own import registered
from hwaware.nn.install import eval_mode
from hwaware.tasks.base import HardwareAwareTask
from hwaware.tasks.normalisation import IMAGES, better_normalised
from hwaware.tasks.scores import Scores
from hwaware.training import BALANCED, ClassWeights, Mixing, check_class_weights, weights_of_classes


class ImageClassification(HardwareAwareTask):
    """Classifies images; a batch is ``(images [N, C, H, W], labels [N])``.

    Args:
        name: name of a network in timm or this package (``resnet20_cifar``, …), or of one that a file in the working
            directory registers in timm: ``own_network.small_digits``.
        weights: file of pretrained weights: a ``model.safetensors`` (or its folder), or a checkpoint of another
            trainer.
        weights_key: which weights of a checkpoint to load (``state_dict``, ``state_dict_ema``, …); None: averaged
            weights if there are any, otherwise the usual ones.
        pretrained: load timm's weights for this name.
        num_classes: number of classes; None: the network's own number. If it differs from that of the weights, the head
            is new: train it first, without hardware.
        kwargs: further arguments of the network in timm: ``{in_chans: 1, img_size: 96, drop_path_rate: 0.1}``.
        label_smoothing: fraction of the target that is spread over all classes.
        class_weights: weights of the classes in the training loss, also for repairs that are fitted to labels:
            ``balanced`` (inverse to the number of training images of a class), or by class, ``{cat: 5}``, with 1 for
            all others. The validation loss is not weighted.
        mixing: Mixup and CutMix of the training images; None: neither.
        by_class: also score each class and their mean, the balanced accuracy, for classes of unequal size.
        **options: hardware, noise, optimiser, …: see :class:`~hwaware.tasks.HardwareAwareTask`. With ``layer_decay``,
            biases, norms and position embeddings get no weight decay, as in timm.
    """

    _inputs_are_checked = False

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        weights_key: str | None = None,
        pretrained: bool = False,
        num_classes: int | None = None,
        kwargs: dict[str, Any] | None = None,
        label_smoothing: float = 0.0,
        class_weights: ClassWeights | None = None,
        mixing: Mixing | None = None,
        by_class: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if num_classes is not None and num_classes < 2:
            raise UserError(f"num_classes={num_classes} must be at least 2; null keeps the network's own number.")
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing={label_smoothing} must lie in [0, 1); 0.1 is usual.")
        name = registered(name)
        self.name, self.weights, self.weights_key, self.pretrained = name, weights, weights_key, pretrained
        check_kwargs(kwargs or {})
        self.kwargs, self.by_class = kwargs or {}, by_class
        self._class_names: list[str] = []
        self._class_counts: list[int] = []
        check_class_weights(class_weights)
        if class_weights and self.distillation is not None and self.distillation.weight == 1:
            raise UserError(
                "class_weights apply to the loss of labels, which distillation.weight=1 leaves out: drop one."
            )
        if isinstance(class_weights, dict):
            class_weights = {str(name): weight for name, weight in class_weights.items()}  # YAML reads 0 as a number
        self.class_weights = class_weights
        self._asked_classes, self.label_smoothing, self.mixing = num_classes, label_smoothing, mixing

    @property
    def network_name(self) -> str:
        return self.name

    @property
    def is_pretrained(self) -> bool:
        return self.pretrained or self.weights is not None

    @property
    def num_classes(self) -> int:
        """Number of classes of the network, once it is built."""
        return self.network.num_classes  # type: ignore[return-value]  # an attribute of timm's networks, which torch's types do not know

    @property
    def chance_percent(self) -> dict[str, float]:
        return chance_of_classes(self.num_classes) | {"balanced": 100.0 / self.num_classes}

    @property
    def data_config(self) -> dict[str, Any]:
        """The preprocessing that the network was trained with: input size, mean, std, crop, interpolation."""
        return data_config(self.network, self.kwargs)

    @property
    def inputs(self) -> ImageInputs:  # type: ignore[override]  # derived from the network, not set
        size = input_size_is(self.network)
        return ImageInputs(
            self.data_config,
            self.num_classes,
            self.mixing is not None,
            size,
            self._class_names,
            self._class_counts,
            evens_classes=self.class_weights == BALANCED,
            weighed=tuple(self.class_weights) if isinstance(self.class_weights, dict) else (),
        )

    def build_network(self, weights: str | None = None) -> nn.Module:
        own = weights is None  # the weights to start from, not another file's
        network = build_model(
            self.name,
            weights=weights or self.weights,
            weights_key=self.weights_key if own else None,
            pretrained=self.pretrained,
            num_classes=self._asked_classes,
            new_head=own,
            **self.kwargs,
        )
        if own and self.distillation is not None and getattr(network, "head_is_new", False):
            raise UserError(
                f"distillation: '{self.weights}' was not trained for {network.num_classes} classes, so "
                "there is no teacher; train the new head first, without hardware and without distillation."
            )
        return network

    def predict(self, network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return network(batch[0])

    def task_loss(self, output: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        # Targets are labels, or mixed targets.
        weight = None if self.class_weights is None else self._weights.to(output)
        return F.cross_entropy(output, batch[1], weight, label_smoothing=self.label_smoothing)

    def evaluation_loss(self, output: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(output, batch[1])

    def make_metrics(self, **options: Any) -> MetricCollection:
        """Top-1 accuracy, and top-5 if there are more than five classes."""
        top = (1, 5) if self.num_classes > 5 else (1,)
        return MetricCollection(
            {f"top{k}": MulticlassAccuracy(self.num_classes, top_k=k, average="micro", **options) for k in top}
        )

    def hits(self, output: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return output.argmax(-1) == batch[1]

    def check_inputs(self, network: nn.Module, batches: Iterable[Any], inputs: Any) -> None:
        knows = self.is_pretrained and not getattr(network, "head_is_new", False)
        if not knows or self._inputs_are_checked or not isinstance(inputs, ImageInputs):
            return
        self._inputs_are_checked = True
        word = better_normalised(partial(self.predict, network), batches, inputs.data_config)
        if word is not None:
            rank_zero_warn(word)

    def on_fit_start(self) -> None:
        if self.class_weights is not None:
            self._weights  # noqa: B018 - refuses before the first step
        super().on_fit_start()
        data = self.trainer.datamodule
        if isinstance(data, SampleData) and isinstance(data.inputs, ImageInputs):
            seen, usual = plain_config(data.inputs.data_config), plain_config(self.data_config)
            self.preprocessing = {key: value for key, value in seen.items() if value != usual[key]}
        alone = self.trainer.world_size == 1 and next(self.network.parameters()).dtype == torch.float32
        if not isinstance(data, SampleData) or not alone or self.trainer.global_step:  # otherwise at its end
            return
        batches = data.validation_batches(min(IMAGES, data.n_val))
        with eval_mode(self.network):
            there = ([part.to(self.device) for part in batch] for batch in batches)
            self.check_inputs(self.network, there, data.inputs)

    def layer_rates(self) -> dict[str, float]:
        # timm's own grouping of the network's blocks
        groups = param_groups_layer_decay(self.network, layer_decay=self.layer_decay or 1.0)
        rates = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
        return {name: rates[id(one)] for name, one in self.network.named_parameters() if id(one) in rates}

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        if self.layer_decay is None:
            return True
        kept: set[str] = getattr(
            self.network, "no_weight_decay", set
        )()  # position embeddings and class tokens in transformers
        return parameter.ndim > 1 and name not in kept

    def score(self, network: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
        labels: list[Tensor] = []

        def noted() -> Iterator[Any]:
            for batch in batches:
                labels.append(batch[1].cpu())
                yield batch

        scores = super().score(network, noted())
        if self.by_class and isinstance(scores, Scores) and scores.hits is not None:
            names = self._class_names or [str(number) for number in range(self.num_classes)]
            scores.update(accuracy_by_class(scores.hits, torch.cat(labels), names))
        return scores

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        if self._mix is not None:  # here, since the generators have just been seeded for the step
            batch = self._mix(*batch)
        return super().training_step(batch, batch_idx)

    @cached_property
    def _weights(self) -> Tensor:
        """Weight of each class, once the data are set up."""
        assert self.class_weights is not None  # for the type checker
        names = self._class_names or [str(number) for number in range(self.num_classes)]
        return weights_of_classes(self.class_weights, names, self._class_counts)

    @cached_property
    def _mix(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
        return None if self.mixing is None else self.mixing.mixer(self.num_classes)
