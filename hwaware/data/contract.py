"""The interface between tasks and data, so that neither depends on the other's class.

A task defines how samples must be prepared for its network (:attr:`TakesSamples.inputs`), and data prepare them so.
Tasks, repairs and evaluations use data through :class:`Samples`.
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
    """How images must be prepared for a network.

    Attributes:
        data_config: input size, mean, std, crop, interpolation, as from timm's ``resolve_model_data_config(model)``.
        num_classes: number of classes of its outputs; None: the outputs are not the data's classes.
        mixing: whether training mixes images in pairs, which needs batches of even size.
        size: whether the config's input size is one of several that the network takes (``usual``), the only one
            (``fixed``), or timm's default for a network that names none (``unknown``).
        class_names: class names in the order of outputs; the data fill it in at setup.
        class_counts: number of training images of each class; the data fill it in when they open them.
        evens_classes: whether the loss compensates for classes of unequal size.
        weighed: classes for which the loss has weights.
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
    """How questions and paragraphs must be prepared for a network.

    Attributes:
        tokenizer: the network's tokenizer.
        max_positions: number of position embeddings; None: any length.
        windows: the texts behind token positions, by the number of a split in batches; the data fill it in at setup.
        what, example: for messages.
    """

    what: ClassVar[str] = "tokenizer"
    example: ClassVar[str] = "AutoTokenizer.from_pretrained(…)"

    tokenizer: PreTrainedTokenizerFast
    max_positions: int | None = None
    windows: dict[int, Windows] = field(default_factory=dict)


class TakesSamples:
    """A task that defines how samples must be prepared for its network."""

    inputs: ImageInputs | TextInputs | None = None


class Samples(ABC):
    """Data that a network can be scored, calibrated and repaired on. A batch is a list of tensors, the input first."""

    @property
    @abstractmethod
    def dataset_name(self) -> str:
        """Name of the data in results."""

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
        """Number of items that the metrics of a split count: its samples, or questions with several samples each."""

    @abstractmethod
    def calibration_batch(self, n: int) -> list[Tensor]:
        """``n`` validation samples, always the same, with their labels.

        Raises:
            UserError: there are fewer.
        """

    @abstractmethod
    def validation_batches(self, n: int) -> Iterator[list[Tensor]]:
        """About ``n`` validation samples, always the same, in evaluation batches, for decisions."""

    @abstractmethod
    def fitting_batches(self, seed: int) -> Iterator[list[Tensor]]:
        """Endless training batches, the same on every rank, for fitting repairs."""


def samples_of(datamodule: LightningDataModule | None, why: str) -> Samples:
    """The data module as a source of calibration samples.

    Args:
        datamodule: data module of the run; None: there is none.
        why: why samples are needed, for the message.

    Raises:
        UserError: there is no data module, or it keeps no such samples.
    """
    if datamodule is None:
        raise UserError(f"{why}: give a data module.")
    if not isinstance(datamodule, Samples):
        raise UserError(f"{why}: {type(datamodule).__name__} has none; derive it from hwaware.data.SampleData.")
    return datamodule


def dataset_name(datamodule: LightningDataModule) -> str:
    """The data's name in results: its own, or that of its class.

    Raises:
        UserError: it is none.
    """
    name = datamodule.dataset_name if isinstance(datamodule, Samples) else type(datamodule).__name__
    return check_name(name, "data.name")
