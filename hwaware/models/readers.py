"""Networks of Hugging Face transformers that mark an answer in a paragraph, and their tokenizers."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn

from hwaware.errors import UserError, nearest, nearest_path
from hwaware.models.build import load_weights
from hwaware.models.hub import weights_file
from hwaware.results.files import is_hub_name
from hwaware.system.offline import no_retries_without_network

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

_T = TypeVar("_T")


def build_reader(
    checkpoint: str,
    weights: str | None = None,
    config: Mapping[str, Any] | None = None,
    weights_key: str | None = None,
) -> nn.Module:
    """Any ``AutoModelForQuestionAnswering``, in float32 and eval mode.

    Args:
        checkpoint: a name on the hub, or a folder as ``save_pretrained`` writes it.
        weights: a file with all of the network's weights, in place of the checkpoint's.
        config: entries of the checkpoint's configuration that are to differ, such as rates of dropout.
        weights_key: see :func:`~hwaware.models.weight_files.read_weights`.

    Raises:
        UserError: no such checkpoint, no such network for question answering, no such entry, or weights of another
            network.
    """
    from transformers import AutoModelForQuestionAnswering, PretrainedConfig

    whole = read_config(checkpoint, config)
    if weights is not None:
        whole.null_threshold = None  # the checkpoint's own
        network = _of(checkpoint, lambda: AutoModelForQuestionAnswering.from_config(whole, dtype=torch.float32))
        load_weights(network, weights, checkpoint, key=weights_key)
        beside = weights_file(weights).with_name("config.json")
        if beside.is_file():  # as a run's folder has it
            # Read by transformers, which writes an infinite one in a way of its own.
            network.config.null_threshold = getattr(PretrainedConfig.from_json_file(beside), "null_threshold", None)
        return network.eval()
    options = {"config": whole, "dtype": torch.float32, "output_loading_info": True}
    with _quiet():
        network, info = _of(checkpoint, lambda: AutoModelForQuestionAnswering.from_pretrained(checkpoint, **options))
    missing, encoder = sorted(info["missing_keys"]), f"{network.base_model_prefix}."
    if lost := [key for key in missing if key.startswith(encoder)]:
        raise UserError(f"'{checkpoint}' lacks {len(lost)} tensors of the network's encoder; the first: {lost[0]}.")
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"'{checkpoint}': tensor {key} has values that are NaN or infinite.")
    network.config.architectures = [type(network).__name__]  # not the encoder's, where the head is new
    if missing:
        head = ", ".join(missing)
        rank_zero_warn(f"'{checkpoint}' has no head for question answering ({head}): it is new, untrained.")
    network.head_is_new = bool(missing)
    return network.eval()


def mark(network: nn.Module, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A reader's start and end logits ``[N, T]``, those of padding included.

    Args:
        network: as :func:`build_reader` builds it.
        ids, mask, types: ``[N, T]``, of the tokens. Types go to networks that take them; None where the tokenizer does
            not give any, since GPT-2 and others would take them for words.
    """
    inputs = {"input_ids": ids, "attention_mask": mask}
    if types is not None and "token_type_ids" in inspect.signature(type(network).forward).parameters:
        inputs["token_type_ids"] = types
    output = network(**inputs)
    return output.start_logits, output.end_logits


def n_positions(network: nn.Module) -> int | None:
    """Tokens of the longest text that a network has positions for; None: any number."""
    for name, module in network.named_modules():
        # RoBERTa and its kin count positions from behind the padding token's.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return module.num_embeddings - module.padding_idx - 1
    return getattr(network.config, "max_position_embeddings", None)


def read_config(checkpoint: str, changes: Mapping[str, Any] | None = None) -> PretrainedConfig:
    """A checkpoint's configuration, with changes.

    Raises:
        UserError: there is none, or it has no such entry.
    """
    from transformers import AutoConfig

    config = _of(checkpoint, lambda: AutoConfig.from_pretrained(checkpoint))
    for name, value in (changes or {}).items():
        if not hasattr(config, name):
            raise UserError(f"config: '{checkpoint}' has no entry '{name}'. {nearest(name, config.to_dict())}")
        setattr(config, name, value)
    return config


def build_tokenizer(checkpoint: str) -> PreTrainedTokenizerFast:
    """A checkpoint's own fast tokenizer.

    Raises:
        UserError: there is none, it does not know where tokens lie in a text, or it has tokens that the network lacks.
    """
    from transformers import AutoTokenizer

    with _quiet():
        tokenizer = _of(checkpoint, lambda: AutoTokenizer.from_pretrained(checkpoint, use_fast=True))
    check_tokenizer(tokenizer, getattr(read_config(checkpoint), "vocab_size", math.inf), checkpoint)
    return cast("PreTrainedTokenizerFast", tokenizer)  # checked


def check_tokenizer(tokenizer: Any, vocabulary: float, name: str) -> None:
    """Raises UserError for a slow tokenizer, an empty one, and one of another network, with tokens beyond the
    ``vocabulary``.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"the tokenizer of '{name}' ({type(tokenizer).__name__}) is a slow one, which does not say where tokens "
            "lie in the text: save its fast form (tokenizer.json) beside it."
        )
    # Where a checkpoint has no tokenizer's files, transformers makes one that knows no word.
    if not set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids):
        raise UserError(f"'{name}' has no vocabulary of a tokenizer: save tokenizer.json beside it.")
    largest = max(tokenizer.get_vocab().values())
    if largest >= vocabulary:
        raise UserError(
            f"the tokenizer of '{name}' has token {largest}, but the network has embeddings of {vocabulary} tokens "
            "only: they do not belong together."
        )


def _of(checkpoint: str, load: Callable[[], _T]) -> _T:
    try:
        with no_retries_without_network():
            return load()
    except Exception as error:  # the hub's, the network's and the formats' errors have no common base
        reason = (str(error) or type(error).__name__).splitlines()[0]
        folder = Path(checkpoint)
        if folder.is_dir():
            raise UserError(f"'{folder}' is no checkpoint for question answering: {reason}") from error
        if not is_hub_name(checkpoint):
            raise UserError(
                f"there is no folder '{checkpoint}' (with config.json, model.safetensors and tokenizer.json), and a "
                f"name on the hub is USER/NAME. {nearest_path(folder)}".rstrip()
            ) from error
        near = nearest_path(folder)
        raise UserError(
            f"cannot get '{checkpoint}': {reason}\n"
            + (f"{near} " if near.startswith("Did") else "")
            + "Without a network, give a folder with config.json, model.safetensors and tokenizer.json."
        ) from error


class _quiet:
    """No progress bars, and no report of tensors, of which :func:`build_reader` says what matters."""

    def __enter__(self) -> None:
        from transformers.utils import logging as theirs

        self.bars, self.level = theirs.is_progress_bar_enabled(), theirs.get_verbosity()
        theirs.disable_progress_bar()
        theirs.set_verbosity(logging.ERROR)

    def __exit__(self, *exception: object) -> None:
        from transformers.utils import logging as theirs

        theirs.set_verbosity(self.level)
        if self.bars:
            theirs.enable_progress_bar()
