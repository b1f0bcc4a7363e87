"""Images for classification, as a LightningDataModule."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Literal

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from hwaware.data.base import SampleData
from hwaware.data.contract import MAX_CLASSES, ImageInputs
from hwaware.data.datasets import EvalDataset, TrainDataset, in_memory
from hwaware.data.labelled import Images, Subset
from hwaware.data.loading import BalancedSampler
from hwaware.data.preprocessing import Preprocessing
from hwaware.data.sources import Source, open_source
from hwaware.data.subsets import TEST_SUBSET_SEED, VALIDATION_SEED, row_range, stratified_subset
from hwaware.data.transforms import check_augment, eval_transform, train_transform
from hwaware.errors import UserError, nearest

#: So many times the smallest class is the largest where their sizes are worth a word.
_UNEQUAL = 3


class ImageData(SampleData):
    """Training, validation and test images with the preprocessing of the network's data config.

    The data config (timm's ``resolve_model_data_config(model)``) and the number of classes are the Trainer's task's;
    without a Trainer set ``inputs`` before ``setup``: ``task.inputs``, or an :class:`~hwaware.data.ImageInputs`.

    Splits: the data's own test set, else its validation set, is for testing (``test_split`` says which). Validation
    uses ``val_rows`` of the training set; else a validation set that is not used for testing; else the training rows
    that ``train_rows`` leaves; else a fixed stratified tenth of them.

    Args:
        source: ``digits`` (scikit-learn's, upscaled), ``parquet`` (files as the hub has them: train.parquet or
            data/train-00000-of-00001.parquet …, columns img or image, label), ``folder`` (train/CLASS/…, val/CLASS/…
            or test/CLASS/…; of CLASS/… alone a fixed fifth is for testing), ``idx`` (MNIST's files and their kin) or
            ``hub`` (Hugging Face's); by default what ``path`` holds, and digits without a path.
        path: folder of the data; for ``hub`` its name there (``uoft-cs/cifar10``).
        name: of the data set in the results (default: the folder's).
        batch_size: images per training step and device.
        eval_batch_size: images per evaluation step.
        num_workers: processes that load images (0: none beside the main one, best for small images).
        augment: none, crop, crop_flip or resized_crop_flip. Repairs that are fitted offline see it, too: networks of
            ImageNet take the last, those of CIFAR crop_flip, as they were trained (``hwaware/data/transforms.py``).
        auto_augment: a policy in timm's notation (``rand-m9-mstd0.5-inc1``, ``augmix-m5-w4``, ``original``).
        color_jitter: largest relative change of brightness, contrast and saturation; most policies ignore it.
        random_erasing: probability that a rectangle of an image is replaced by noise.
        train_rows: rows [start, stop] of the training set for training.
        val_rows: rows [start, stop] of the training set for validation.
        test_split: ``val``: test on the validation set even if there is a test set, for test sets without public
            labels.
        test_subset: number of test images, always the same and stratified by class; None: all of them.
        num_classes: number of classes, for files that do not name the classes and lack some.
        mean, std: normalisation of images in [0, 1], for each channel or for all (default: timm's for the network's
            name; ports from TensorFlow need 0.5 and 0.5).
        crop_pct, interpolation: resizing and cropping (default: timm's).
        image_size: side of the network's input, or height and width (default: timm's).
        balanced: train on equally many images of each class, repeating those of small classes; also for repairs that
            are fitted offline.
        seed: seed of order and augmentation; None: the run's seed (0 without a run).

    Raises (in ``setup``, as UserError): no data, a single class, an image that cannot be decoded, classes that are not
        the network's, rows or subsets that are not there, unknown source or augmentation.

    After ``setup``: ``num_classes``, ``class_names``, ``dataset_name``, ``n_train``, ``n_val``, ``n_test`` (0 for
    splits that were not needed).
    """

    noun, needs = "images", ImageInputs
    inputs: ImageInputs  # set at setup

    def __init__(
        self,
        source: str | None = None,
        path: str | None = None,
        name: str | None = None,
        batch_size: int = 128,
        eval_batch_size: int = 256,
        num_workers: int = 0,
        augment: str = "none",
        auto_augment: str | None = None,
        color_jitter: float | None = None,
        random_erasing: float = 0.0,
        train_rows: list[int] | None = None,
        val_rows: list[int] | None = None,
        test_split: Literal["test", "val"] | None = None,
        test_subset: int | None = None,
        num_classes: int | None = None,
        mean: float | list[float] | None = None,
        std: float | list[float] | None = None,
        crop_pct: float | None = None,
        interpolation: str | None = None,
        image_size: int | list[int] | None = None,
        balanced: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, num_workers, seed)
        if balanced:
            self.sampler = BalancedSampler
        check_augment(augment, auto_augment, color_jitter, random_erasing)
        self.auto_augment, self.color_jitter, self.random_erasing = auto_augment, color_jitter, random_erasing
        self.source, self.path, self.name = source, path, name
        self.augment, self.train_rows, self.val_rows, self.test_subset = augment, train_rows, val_rows, test_subset
        self.test_split = test_split
        self._given_classes = num_classes
        self.preprocessing = Preprocessing(mean, std, crop_pct, interpolation, image_size)
        self._classes: tuple[str, ...] | None = None
        self._opened: dict[str, Images] = {}

    def _read_inputs(self) -> None:
        super()._read_inputs()
        if self.inputs.evens_classes and self.sampler is BalancedSampler:
            raise UserError(
                "data.balanced and model.class_weights 'balanced' each make up for classes of unequal size: leave one "
                "out."
            )
        self.inputs = replace(self.inputs, data_config=self.preprocessing.applied(self.inputs))

    def _check_batch_size(self, per_process: int) -> None:
        if self.inputs.mixing and self.batch_size % 2:
            raise UserError(f"batch_size={self.batch_size} must be even: model.mixing mixes images in pairs")
        super()._check_batch_size(per_process)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        if self._classes is None:
            raise RuntimeError("the classes are known after setup()")
        return self._classes

    @property
    def dataset_name(self) -> str:
        return self.name or self.origin.name

    @cached_property
    def origin(self) -> Source:
        """The stored images; a data set of one's own is a subclass that has another."""
        return open_source(self.source, self.path)

    @property
    def described(self) -> str:
        where = self.origin.where or self.path
        size = " × ".join(map(str, self.inputs.data_config["input_size"][-2:]))
        unequal = ""
        if isinstance(train := self._datasets.get("train"), TrainDataset):
            counts = np.bincount(train.labels, minlength=self.num_classes)
            if counts.max() >= _UNEQUAL * counts.min():
                hint = "(data.balanced or model.class_weights, model.by_class)"
                unequal = f" of {counts.min():,} … {counts.max():,} training images {hint}"
        where = f" ({where})" if where else ""
        return f"{super().described}{where}, {self.num_classes} classes{unequal}, seen at {size}"

    def setup(self, stage: Literal["fit", "validate", "test", "predict"] | str | None = None) -> None:
        super().setup(stage)
        if unknown := [name for name in self.inputs.weighed if name not in self.class_names]:
            hint = nearest(unknown[0], self.class_names)
            raise UserError(f"class_weights: the data have no class '{unknown[0]}'. {hint}".rstrip())
        self.inputs.class_names[:] = self.class_names  # the task scores classes by name

    def _stored(self, split: str) -> Images:
        """A split as the source has it."""
        if split not in self._opened:
            if split not in self.origin.splits:
                have = ", ".join(self.origin.splits)
                raise UserError(f"{self.path} holds no '{split}' images (only: {have})")
            images = self.origin.splits[split]()
            self._check_classes(images, split)
            self._opened[split] = images
        return self._opened[split]

    @property
    def _tested(self) -> str:
        """The stored split that is tested on."""
        has = self.origin.splits
        return self.test_split or ("val" if "test" not in has and "val" in has else "test")

    @property
    def _has_validation(self) -> bool:
        """Whether a validation set is stored that is not tested on."""
        return "val" in self.origin.splits and self._tested != "val"

    def _split(self, split: str) -> Images:
        if split == "test":
            images = self._stored(self._tested)
            if self.test_subset is None:
                return images
            return Subset(images, stratified_subset(images.labels, self.test_subset, TEST_SUBSET_SEED, "test_subset"))
        if split == "val" and self.val_rows is None and self._has_validation:
            return self._stored("val")
        train, val = self._train_and_val_rows()
        return Subset(self._stored("train"), train if split == "train" else val)

    def _train_and_val_rows(self) -> tuple[np.ndarray, np.ndarray]:
        labels = self._stored("train").labels
        n = len(labels)
        rows = np.arange(n) if self.train_rows is None else row_range("train_rows", self.train_rows, n)
        if self.val_rows is not None:
            val = row_range("val_rows", self.val_rows, n)
            if self.train_rows is None:
                return np.setdiff1d(rows, val), val
            if shared := len(np.intersect1d(rows, val)):
                raise UserError(
                    f"train_rows={self.train_rows} and val_rows={self.val_rows} share {shared} images: what is fitted "
                    "on says nothing about others"
                )
            return rows, val
        if self._has_validation:
            return rows, rows[:0]
        rest = np.setdiff1d(np.arange(n), rows)
        if len(rest) > 0:
            return rows, rest
        val = stratified_subset(labels, max(1, n // 10), VALIDATION_SEED)
        return np.setdiff1d(rows, val), val

    def dataset(self, split: str) -> TrainDataset | EvalDataset:
        images = self._split(split)
        show = self.trainer is None or self.trainer.is_global_zero
        if split == "train":
            self._warn_of_lacking(images)
            self.inputs.class_counts[:] = np.bincount(images.labels, minlength=self.num_classes).tolist()
            transform = train_transform(
                self.inputs.data_config, self.augment, self.auto_augment, self.color_jitter, self.random_erasing
            )
            return TrainDataset(in_memory(images, show), transform, numpy=self.auto_augment is not None)
        return EvalDataset(images, eval_transform(self.inputs.data_config), show)

    # --- classes

    def _warn_of_lacking(self, images: Images) -> None:
        """A word about classes without a training image; of data that are said to lack some there is none."""
        counts = np.bincount(images.labels, minlength=self.num_classes)
        lacking = [name for name, n in zip(self.class_names, counts, strict=True) if n == 0]
        if lacking and self._given_classes is None:
            more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
            rank_zero_warn(
                f"no training image is of {', '.join(lacking[:5])}{more}: the network can't learn such classes."
            )

    def _check_classes(self, images: Images, split: str) -> None:
        labels, where = images.labels, self.path or self.origin.name
        if labels.min() < 0:
            raise UserError(f"{where} has labels below 0 ({labels.min()}): a test set whose answers are not public?")
        if labels.max() >= MAX_CLASSES:
            raise UserError(f"{where} has label {labels.max()}; up to {MAX_CLASSES:,} classes are counted from 0.")
        known = self._classes if self._given_classes is None else None
        if images.class_names is not None:
            names = images.class_names
        elif known is not None and "train" in self._opened:  # whose labels have said which there are
            if labels.max() >= len(known):
                raise UserError(
                    f"{where} has no training images of class {labels.max()}, which {split} images have: training has "
                    f"0 … {len(known) - 1}."
                )
            names = known
        else:
            names = tuple(map(str, range(self._given_classes or int(labels.max()) + 1)))
        if labels.max() >= len(names):
            raise UserError(f"{where} has label {labels.max()}, and num_classes={len(names)}")
        if len(names) < 2 or (labels == labels[0]).all():
            raise UserError(f"{where} has only one class ({names[labels[0]]}); there is nothing to classify")
        outputs = self.inputs.num_classes
        if outputs is not None and len(names) != outputs:
            hint = "" if images.class_names else ", or data.num_classes if the images only lack some of them"
            raise UserError(
                f"{where} has {len(names)} classes, the network {outputs} outputs: set model.num_classes "
                f"{len(names)} (such a head is new, and to be trained without hardware first){hint}."
            )
        if self._classes is not None and names != self._classes:
            ours, theirs = (f"{len(n)} ({', '.join(n[:3])} …)" for n in (self._classes, names))
            raise UserError(f"the splits of {where} have different classes: {ours} and {theirs}")
        self._classes = names
