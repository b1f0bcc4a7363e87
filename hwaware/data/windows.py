"""Questions and their paragraphs as tokens: windows that a network can read, and where they lie in the text."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock
from rich.progress import track

from hwaware.data.questions import Question
from hwaware.errors import UserError
from hwaware.results.files import replacing

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerFast

#: Longer questions are cut, as BERT's reference implementation does.
MAX_QUESTION_TOKENS = 64

#: Fewer questions are tokenised again rather than cached.
CACHED_QUESTIONS = 2000

_CHUNK = 500  # questions per call of the tokenizer
_FORMAT = 3  # of cached files; until 2, some versions of tokenizers left windows out


@dataclass(frozen=True, eq=False)
class Windows:
    """A split's windows: each question with as much of its paragraph as fits, long paragraphs in overlapping parts.

    Attributes:
        questions: what is asked.
        pad: id and type of the padding token.
        tokens, types: token and token-type ids of all windows, one after the other.
        begins: ``[F + 1]``, where each window begins in them.
        question: ``[F]``, the question's place in ``questions``.
        first, last: ``[F]``, first and last token of the paragraph's part, in the window without padding.
        null: ``[F]``, the token that stands for "no answer here".
        start, end: ``[F]``, first and last token of the answer to learn; ``null`` where the window does not have it.
        characters: ``[…, 2]``, where the paragraph's tokens begin and end in its text, all windows one after the other.
    """

    questions: Sequence[Question]
    pad: tuple[int, int]
    tokens: np.ndarray
    types: np.ndarray
    begins: np.ndarray
    question: np.ndarray
    first: np.ndarray
    last: np.ndarray
    null: np.ndarray
    start: np.ndarray
    end: np.ndarray
    characters: np.ndarray

    def __len__(self) -> int:
        return len(self.question)

    @property
    def length(self) -> np.ndarray:
        """``[F]``, tokens of each window without padding."""
        return np.diff(self.begins)

    @property
    def by_length(self) -> np.ndarray:
        """``[F]``, the windows in order of their lengths."""
        return np.argsort(self.length, kind="stable")

    def part(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        """Token and token-type ids of a window."""
        here = slice(self.begins[window], self.begins[window + 1])
        return self.tokens[here], self.types[here]

    def offsets(self, window: int) -> np.ndarray:
        """``[last - first + 1, 2]``: where the paragraph's tokens begin and end in its text, in characters."""
        return self.characters[self._places[window] : self._places[window + 1]]

    @cached_property
    def _places(self) -> np.ndarray:
        """``[F + 1]``, where each window begins in ``characters``."""
        return np.concatenate([[0], np.cumsum(self.last - self.first + 1)])


def make_windows(
    questions: Sequence[Question],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    stride: int,
    show_progress: bool = False,
) -> Windows:
    """Tokenises a split, or takes it from the cache, where exactly this was tokenised before.

    Args:
        questions: of the split.
        tokenizer: the network's own.
        max_length: tokens of a window, question and special tokens included.
        stride: tokens that consecutive windows of a paragraph share.

    Raises:
        UserError: windows are too short for the stride.
    """
    special = tokenizer.num_special_tokens_to_add(pair=True)
    room = max_length - stride - special - 1  # for the question, so that windows advance by a token at least
    if stride < 0 or room < 1:
        raise UserError(
            f"max_length={max_length} is too short for stride={stride}: with {special} special tokens and a question "
            f"it must be above {stride + special + 1} (384 and 128 are usual)."
        )
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    longest = min(room, MAX_QUESTION_TOKENS)
    if len(questions) < CACHED_QUESTIONS:
        return _tokenise(questions, tokenizer, max_length, stride, longest, show_progress)
    file = _cache() / f"{_digest(questions, tokenizer, max_length, stride)}.npz"
    with _alone(file):  # of several processes one tokenises, and the others read what it wrote
        # What cannot be read, since a disk was full or a file is damaged, is made and written again.
        with contextlib.suppress(OSError, EOFError, ValueError, TypeError, BadZipFile), np.load(file) as arrays:
            return Windows(questions, _padding(tokenizer), **arrays)
        windows = _tokenise(questions, tokenizer, max_length, stride, longest, show_progress)
        with contextlib.suppress(OSError), replacing(file) as handle:  # a cache is nothing to fail for
            np.savez(handle, **{field.name: getattr(windows, field.name) for field in fields(Windows)[2:]})
    return windows


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Holds a file's lock; nothing where none can be had, as in a folder that cannot be written."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(f"{file}.lock"))
        yield


def _padding(tokenizer: PreTrainedTokenizerFast) -> tuple[int, int]:
    # Some have no padding token: what stands there is masked anyway.
    return tokenizer.pad_token_id or 0, tokenizer.pad_token_type_id


def _tokenise(
    questions: Sequence[Question],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    stride: int,
    max_question: int,
    show_progress: bool,
) -> Windows:
    # The question first and the padding last, whatever the tokenizer's side: a causal network's paragraph would not see
    # a question behind it, and padding in front would move the positions of many networks.
    tokens, types, lengths, characters = [], [], [], []
    places: list[tuple[int, ...]] = []
    chunks = range(0, len(questions), _CHUNK)
    for begin in track(chunks, "tokenising questions", transient=True, disable=not show_progress or len(chunks) < 4):
        chunk = questions[begin : begin + _CHUNK]
        pair = [_cut([one.text.strip() for one in chunk], tokenizer, max_question), [one.context for one in chunk]]
        # Not told that paragraphs are longer than the network reads: they are cut here.
        for number, encoded in enumerate(tokenizer(*pair, verbose=False).encodings, begin):
            for ids, kinds, offsets, first in _parts(encoded, max_length, stride):
                null = _null(ids, tokenizer)
                # An empty paragraph has no place for an answer, but its question counts.
                first, last = (first, first + len(offsets) - 1) if len(offsets) else (null, null - 1)
                answer = _answer(questions[number].span(), offsets)
                here = (null, null) if answer is None else (first + answer[0], first + answer[1])
                tokens.append(ids)
                types.append(kinds)
                lengths.append(len(ids))
                characters.append(offsets)
                places.append((number, first, last, null, *here))
    columns = np.asarray(places, dtype=np.int32).T
    names = ("question", "first", "last", "null", "start", "end")
    return Windows(
        questions,
        _padding(tokenizer),
        tokens=np.concatenate(tokens),
        types=np.concatenate(types),
        begins=np.concatenate([[0], np.cumsum(lengths)]),
        characters=np.concatenate(characters),
        **dict(zip(names, columns, strict=True)),
    )


def _parts(encoded: Encoding, max_length: int, stride: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
    """Cuts a question with its paragraph into windows.

    The tokenizer could do so itself, but of a long paragraph tokenizers 0.23.1 and 0.23.2 lose the end (their issue
    2091).

    Yields:
        Ids and types of a window's tokens, where those of the paragraph lie in its text, and the first of these.
    """
    ids, types = np.asarray(encoded.ids, dtype=np.int32), np.asarray(encoded.type_ids, dtype=np.int8)
    offsets = np.asarray(encoded.offsets, dtype=np.int32).reshape(-1, 2)
    paragraph = np.flatnonzero(np.asarray([part == 1 for part in encoded.sequence_ids]))
    begin, end = (int(paragraph[0]), int(paragraph[-1]) + 1) if len(paragraph) else (len(ids), len(ids))
    room = max_length - (len(ids) - (end - begin))
    for at in range(begin, max(end - stride, begin + 1), room - stride):
        until = min(at + room, end)
        kept = np.r_[:begin, at:until, end : len(ids)]
        yield ids[kept], types[kept], offsets[at:until], begin


def _cut(texts: list[str], tokenizer: PreTrainedTokenizerFast, most: int) -> list[str]:
    """Questions that have at most so many tokens."""
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [text if len(at) <= most else text[: at[most - 1][1]] for text, at in zip(texts, encoded, strict=True)]


def _null(ids: np.ndarray, tokenizer: PreTrainedTokenizerFast) -> int:
    for token in (tokenizer.cls_token_id, tokenizer.bos_token_id):
        if token is not None and len(found := np.flatnonzero(ids == token)):
            return int(found[0])
    return 0


def _answer(span: tuple[int, int] | None, offsets: np.ndarray) -> tuple[int, int] | None:
    """First and last token of the paragraph's part that cover a span of characters; None where it is not all there."""
    if span is None or offsets[0, 0] > span[0] or offsets[-1, 1] < span[1]:
        return None
    start = int(np.searchsorted(offsets[:, 0], span[0], side="right")) - 1
    end = int(np.searchsorted(offsets[:, 1], span[1], side="left"))
    return start, max(start, end)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hwaware" / "windows"


def _digest(questions: Sequence[Question], tokenizer: PreTrainedTokenizerFast, max_length: int, stride: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    about = [_FORMAT, max_length, stride, tokenizer.backend_tokenizer.to_str()]
    about += [tokenizer.cls_token_id, tokenizer.bos_token_id]
    digest.update(json.dumps(about).encode())
    for question in questions:
        digest.update(json.dumps(astuple(question)).encode())
    return digest.hexdigest()
