"""Questions about paragraphs (SQuAD v1.1 and v2), as a LightningDataModule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from hwaware.data.base import SampleData
from hwaware.data.contract import TextInputs
from hwaware.data.loading import LengthGroupedSampler, SequenceDataset
from hwaware.data.questions import Question
from hwaware.data.squad_files import find_files, hub_questions, read_questions
from hwaware.data.subsets import CALIBRATION_SEED, TEST_SUBSET_SEED, VALIDATION_SEED, stratified_subset
from hwaware.data.windows import Windows, make_windows
from hwaware.errors import UserError, nearest
from hwaware.results.files import is_hub_name

#: Splits by their number in batches.
SPLITS = ("train", "val", "test")


class SquadData(SampleData):
    """Training, validation and test windows of questions and paragraphs, tokenised by the network's own tokenizer.

    A batch is ``[input_ids, attention_mask, token_type_ids (all [N, T]), start, end (both [N]), place [N, 2]]``. A
    place is a split's number and a window's, by which :attr:`windows` has the texts; T is the batch's longest window.

    Splits: ``dev`` is for testing. Validation uses articles of the training set that are set aside and never trained
    on. The "no answer" threshold is chosen on them, so scores on them (``evaluation.split: val``) use a threshold that
    was fitted to them. Evaluation is ordered by length: a limited number of batches only has the shortest paragraphs.

    Args:
        path: folder with train and dev files (SQuAD's JSON of v1.1 or v2, JSON or JSON lines with one question per row,
            or parquet), or a name on the hub (``rajpurkar/squad_v2``).
        source: ``local`` or ``hub``; None: local if there is such a folder.
        name: name of the data set in results (default: name of the folder).
        max_length: tokens of a window.
        stride: tokens that consecutive windows of a long paragraph share.
        batch_size: windows per training step and process.
        eval_batch_size: windows per evaluation step.
        num_workers: processes that load windows (0: none beside the main one, best for data in memory).
        val_articles: titles of the training articles to set aside; None: a fixed tenth of them, or of the paragraphs if
            all have one title or none.
        skip_articles: titles of training articles not to train on, such as those without unanswerable questions.
        answerable_only: train only on questions with an answer, as in SQuAD v1.1.
        test_subset: number of test questions, always the same, stratified by answerability; None: all.
        seed: seed of the order; None: the run's seed (0 without a run).

    Raises (in ``setup``, as UserError): no data, malformed files, an unknown article, windows too short for the stride.
    """

    noun, needs = "windows", TextInputs
    inputs: TextInputs  # once set up
    windows: dict[int, Windows]  # by split number, of the splits that were set up
    sampler = LengthGroupedSampler

    def __init__(
        self,
        path: str | None = None,
        source: Literal["local", "hub"] | None = None,
        name: str | None = None,
        max_length: int = 384,
        stride: int = 128,
        batch_size: int = 16,
        eval_batch_size: int = 32,
        num_workers: int = 0,
        val_articles: list[str] | None = None,
        skip_articles: list[str] | None = None,
        answerable_only: bool = False,
        test_subset: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, num_workers, seed)
        if source not in (None, "local", "hub"):
            raise UserError(f"unknown source '{source}' of questions. {nearest(source, ('local', 'hub'))}")
        self.path, self.source, self.name = path, source, name
        self.max_length, self.stride = max_length, stride
        self.val_articles, self.skip_articles, self.test_subset = val_articles, skip_articles, test_subset
        self.answerable_only = answerable_only
        self.windows = {}
        self._read: dict[str, list[Question]] = {}

    @property
    def dataset_name(self) -> str:
        return self.name or str(self.path).rstrip("/").rpartition("/")[2]

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        self.inputs.windows.update(self.windows)  # the task turns positions in windows into texts

    def _read_inputs(self) -> None:
        super()._read_inputs()
        longest = self.inputs.max_positions
        if longest is not None and self.max_length > longest:
            raise UserError(f"max_length={self.max_length} is above the {longest} positions of the network.")

    def dataset(self, split: str) -> WindowDataset:
        number, questions = SPLITS.index(split), self._questions(split)
        show = self.trainer is None or self.trainer.is_global_zero
        windows = make_windows(questions, self.inputs.tokenizer, self.max_length, self.stride, show)
        self.windows[number] = windows
        return WindowDataset(windows, number)

    def n_scored(self, split: str) -> int:
        return len(np.unique(self.windows[SPLITS.index(split)].question))  # questions, not windows

    def _counted(self, split: str) -> str:
        n = super()._counted(split)
        return f"{n} (of {self.n_scored(split):,} questions)"

    @property
    def described(self) -> str:
        return f"{super().described}{f' ({self.path})' if self.path else ''}, of at most {self.max_length} tokens"

    def collate(self, samples: Sequence[tuple[int, int]]) -> list[Tensor]:
        """From places to a batch, padded at the end to its longest window."""
        windows = self.windows[samples[0][0]]
        index = np.asarray([window for _, window in samples])
        lengths = windows.length[index]
        longest = int(lengths.max())
        ids, types = (np.full((len(index), longest), value, dtype=np.int64) for value in windows.pad)
        mask = np.zeros_like(ids)
        for row, (window, n) in enumerate(zip(index, lengths, strict=True)):
            ids[row, :n], types[row, :n] = windows.part(window)
            mask[row, :n] = 1
        ends = windows.start[index], windows.end[index]
        return [torch.from_numpy(np.asarray(part, dtype=np.int64)) for part in (ids, mask, types, *ends, samples)]

    def validation_batches(self, n: int) -> Iterator[list[Tensor]]:
        # Whole questions: one of which the answer's window is missing would always count as wrong.
        windows = self.windows[SPLITS.index("val")]
        questions = np.random.RandomState(CALIBRATION_SEED).permutation(np.unique(windows.question))
        counts = np.bincount(windows.question)[questions]
        chosen = set(questions[: max(1, int(np.searchsorted(np.cumsum(counts), n, side="right")))].tolist())
        of = windows.question[windows.by_length]
        yield from self._in_batches("val", [i for i, question in enumerate(of) if question in chosen])

    def _calibration_order(self, n: int) -> np.ndarray:
        # Of about equal length, the usual one: what is measured layer by layer would count padding as tokens.
        super()._calibration_order(n)  # which looks whether there are so many
        windows = self.windows[SPLITS.index("val")]
        lengths = windows.length[windows.by_length]
        shuffled = np.random.RandomState(CALIBRATION_SEED).permutation(len(lengths))
        apart = np.abs(lengths[shuffled] - np.median(lengths))
        return shuffled[np.argsort(apart, kind="stable")[:n]]

    def _questions(self, split: str) -> list[Question]:
        if split == "test":
            questions = self._stored("dev")
            if self.test_subset is None:
                return questions
            kept = stratified_subset(
                [bool(one.answers) for one in questions], self.test_subset, TEST_SUBSET_SEED, "test_subset"
            )
            return [questions[index] for index in kept]
        aside, skipped = self._set_aside, self._skipped
        questions = [one for one in self._stored("train") if (self._whole_of(one) in aside) == (split == "val")]
        if split == "train":
            questions = [one for one in questions if one.title not in skipped]
            if self.answerable_only and not (questions := [one for one in questions if one.answers]):
                raise UserError("answerable_only: no training question has an answer; set it to false.")
            lost = [one for one in questions if one.answers and one.span() is None]
            if lost:
                rank_zero_warn(
                    f"{len(lost)} of {len(questions)} training questions are left out, since their paragraph does not "
                    f"contain the answer; the first: '{lost[0].id}', '{lost[0].answers[0][:40]}'."
                )
                left_out = {one.id for one in lost}
                questions = [one for one in questions if one.id not in left_out]
        return questions

    @cached_property
    def _titles(self) -> list[str]:
        """Titles of all training articles."""
        return sorted({one.title for one in self._stored("train")})

    def _whole_of(self, question: Question) -> str:
        """The unit that splits keep whole: the question's article or, without distinct titles, its paragraph."""
        untitled = len(self._titles) == 1 and self.val_articles is None
        return question.context if untitled else question.title

    @cached_property
    def _set_aside(self) -> set[str]:
        """Titles of the articles to validate on, or paragraphs (:meth:`_whole_of`)."""
        wholes, noun = sorted({self._whole_of(one) for one in self._stored("train")}), "articles"
        if self.val_articles is not None:
            chosen = _known("val_articles", self.val_articles, wholes)
        else:
            noun = "articles" if len(self._titles) > 1 else "paragraphs"
            order = np.random.RandomState(VALIDATION_SEED).permutation(len(wholes))
            chosen = {wholes[index] for index in order[: max(1, len(wholes) // 10)]}
        if not 0 < len(chosen) < len(wholes):
            raise UserError(
                f"{len(chosen)} of {len(wholes)} training {noun} are set aside to validate on: at least one must be, "
                "and one left to train on."
            )
        return chosen

    @cached_property
    def _skipped(self) -> set[str]:
        """Titles of the articles to leave out of training."""
        skipped, n = _known("skip_articles", self.skip_articles or [], self._titles), len(self._titles)
        if not set(self._titles) - skipped - self._set_aside:
            raise UserError(
                f"skip_articles: none of {n} training articles is left to train on; skip at most "
                f"{n - len(self._set_aside) - 1}."
            )
        return skipped

    def _stored(self, part: str) -> list[Question]:
        if part not in self._read:
            if self.path is None:
                raise UserError("data.path is missing: a folder with train.json and dev.json, or a name on the hub.")
            is_hub = self.source is None and not Path(self.path).exists() and is_hub_name(self.path)
            if self.source == "hub" or is_hub:
                self._read[part] = hub_questions(self.path, part)
            else:
                files = find_files(self.path)
                if part not in files:
                    raise UserError(f"'{self.path}' has no {part} file (train.json and dev.json are usual).")
                self._read[part] = read_questions(files[part])
        return self._read[part]


def _known(option: str, chosen: list[str], titles: list[str]) -> set[str]:
    for title in chosen:
        if title not in titles:
            raise UserError(f"{option}: there is no training article '{title}'. {nearest(title, titles)}")
    return set(chosen)


class WindowDataset(SequenceDataset):
    """Index → (split's number, window), windows by length, so that batches in this order have little padding."""

    in_memory = True

    def __init__(self, windows: Windows, number: int) -> None:
        self.order = windows.by_length
        self.lengths, self.number = windows.length[self.order], number

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, item: tuple[int, int] | int) -> tuple[int, int]:
        index = item[0] if isinstance(item, tuple) else item  # training samples come with a key
        return self.number, int(self.order[index])
