"""What tasks and data ask of each other, so that neither has to know the other's class.

A task says how its network takes samples (:attr:`TakesSamples.inputs`); data prepare them so. A task, repairs and
evaluations ask data for what :class:`Samples` names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hwaware.errors import UserError
from hwaware.system.names import check_name

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

    from hwaware.data.windows import Windows

#: ImageNet-21k has 21,841, the largest sets of faces and plants ten times as many.
MAX_CLASSES = 1_000_000


@dataclass(frozen=True)
class ImageInputs:
    """How a network takes images.

    Attributes:
        data_config: input size, mean, std, crop, interpolation, as timm's ``resolve_model_data_config(model)`` has it.
        num_classes: that its outputs stand for; None: the data's classes are not what it is asked for.
        mixing: whether training mixes images in pairs, which takes batches of even size.
        size: whether the config's input size is one of several that the network takes (``usual``), the only one
            (``fixed``), or timm's default for a network that names none (``unknown``).
        class_names: of the outputs, in their order; the data that are set up fill it in.
        class_counts: training images of each class; the data fill it in where they open those.
        evens_classes: whether the loss makes up for classes of unequal size.
        weighed: classes that the loss has weights for.
        what, example: for messages.
    """

    what: ClassVar[str] = "preprocessing"
    example: ClassVar[str] = "timm.data.resolve_model_data_config(model)"

    data_config: Mapping[str, Any]
    num_classes: int | None = None
    mixing: bool = False
    size: Literal["usual", "fixed", "unknown"] = "usual"
    class_names: list[str] = field(default_factory=list)
    class_counts: list[int] = field(default_factory=list)
    evens_classes: bool = False
    weighed: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextInputs:
    """How a network takes questions and paragraphs.

    Attributes:
        tokenizer: the network's own.
        max_positions: tokens that it has positions for; None: any number.
        windows: by a split's number in batches, the texts behind positions; the data that are set up fill it in.
        what, example: for messages.
    """

    what: ClassVar[str] = "tokenizer"
    example: ClassVar[str] = "AutoTokenizer.from_pretrained(…)"

    tokenizer: PreTrainedTokenizerFast
    max_positions: int | None = None
    windows: dict[int, Windows] = field(default_factory=dict)


class TakesSamples:
    """A task that says how its network takes samples."""

    inputs: ImageInputs | TextInputs | None = None


class Samples(ABC):
    """Data that a network can be scored, calibrated and repaired on. A batch is a list of tensors, the input first."""

    @property
    @abstractmethod
    def dataset_name(self) -> str:
        """The data's name in results."""

    @property
    @abstractmethod
    def n_val(self) -> int:
        """Validation samples; 0 before ``setup``."""

    @abstractmethod
    def setup(self, stage: str | None = None) -> None:
        """Opens the splits that Lightning's ``stage`` needs; None is all of them."""

    @abstractmethod
    def every_sample(self, split: str) -> Iterable[list[Tensor]]:
        """The batches of ``val`` or ``test``, whole on every rank."""

    @abstractmethod
    def n_scored(self, split: str) -> int:
        """How many things a split's metrics count: its samples, or what several samples stand for."""

    @abstractmethod
    def calibration_batch(self, n: int) -> list[Tensor]:
        """``n`` validation samples, always the same, with their labels.

        Raises:
            UserError: there are fewer.
        """

    @abstractmethod
    def judging_batches(self, n: int) -> Iterator[list[Tensor]]:
        """About ``n`` validation samples, always the same, in batches as evaluation has them: to judge by."""

    @abstractmethod
    def fitting_batches(self, seed: int) -> Iterator[list[Tensor]]:
        """Endless training batches, whole on every rank: of what is fitted to the device rather than trained."""


def samples_of(datamodule: LightningDataModule | None, why: str) -> Samples:
    """The data module as what has samples to calibrate on.

    Args:
        datamodule: the run's; None: it has none.
        why: samples are asked for, for the message.

    Raises:
        UserError: there is no data module, or it keeps no such samples.
    """
    if datamodule is None:
        raise UserError(f"{why}: give a data module.")
    if not isinstance(datamodule, Samples):
        raise UserError(f"{why}: {type(datamodule).__name__} has none, derive it from hwaware.data.SampleData.")
    return datamodule


def dataset_name(datamodule: LightningDataModule) -> str:
    """The data's name in results: its own, or that of its class.

    Raises:
        UserError: it is none.
    """
    name = datamodule.dataset_name if isinstance(datamodule, Samples) else type(datamodule).__name__
    return check_name(name, "data.name")
