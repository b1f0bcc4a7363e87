"""Networks of Hugging Face transformers for extractive question answering, and their tokenizers."""

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
    """Builds any ``AutoModelForQuestionAnswering``, in float32 and eval mode.

    Args:
        checkpoint: a name on the hub, or a folder from ``save_pretrained``.
        weights: a file with all of the network's weights, to replace those of the checkpoint.
        config: entries that replace those of the checkpoint's configuration, such as dropout rates.
        weights_key: see :func:`~hwaware.models.weight_files.read_weights`.

    Raises:
        UserError: no such checkpoint, no such network for question answering, no such entry, or weights of another
            network.
    """
    from transformers import AutoModelForQuestionAnswering, PretrainedConfig

    whole = read_config(checkpoint, config)
    if weights is not None:
        whole.null_threshold = None  # that of the checkpoint
        network = _of(checkpoint, lambda: AutoModelForQuestionAnswering.from_config(whole, dtype=torch.float32))
        load_weights(network, weights, checkpoint, key=weights_key)
        beside = weights_file(weights).with_name("config.json")
        if beside.is_file():  # as in the folder of a run
            # Read with transformers, which has its own notation for infinity.
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
    network.config.architectures = [type(network).__name__]  # not that of the encoder, if the head is new
    if missing:
        head = ", ".join(missing)
        rank_zero_warn(f"'{checkpoint}' has no head for question answering ({head}): it is new and untrained.")
    network.head_is_new = bool(missing)
    return network.eval()


def mark(network: nn.Module, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Start and end logits ``[N, T]`` of a question-answering network, padding included.

    Args:
        network: a network from :func:`build_reader`.
        ids, mask, types: token ids, attention mask and token types, ``[N, T]``. Types are passed to networks that take
            them; None if the tokenizer gives none, since GPT-2 and others would treat them as words.
    """
    inputs = {"input_ids": ids, "attention_mask": mask}
    if types is not None and "token_type_ids" in inspect.signature(type(network).forward).parameters:
        inputs["token_type_ids"] = types
    output = network(**inputs)
    return output.start_logits, output.end_logits


def n_positions(network: nn.Module) -> int | None:
    """Number of position embeddings of a network, in tokens; None: any length."""
    for name, module in network.named_modules():
        # RoBERTa and related networks count positions from after the padding token's.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return module.num_embeddings - module.padding_idx - 1
    return getattr(network.config, "max_position_embeddings", None)


def read_config(checkpoint: str, changes: Mapping[str, Any] | None = None) -> PretrainedConfig:
    """Reads a checkpoint's configuration, with changes.

    Raises:
        UserError: there is no configuration, or it has no such entry.
    """
    from transformers import AutoConfig

    config = _of(checkpoint, lambda: AutoConfig.from_pretrained(checkpoint))
    for name, value in (changes or {}).items():
        if not hasattr(config, name):
            raise UserError(f"config: '{checkpoint}' has no entry '{name}'. {nearest(name, config.to_dict())}")
        setattr(config, name, value)
    return config


def build_tokenizer(checkpoint: str) -> PreTrainedTokenizerFast:
    """Loads the fast tokenizer of a checkpoint.

    Raises:
        UserError: there is none, it does not return token offsets, or it has tokens that the network lacks.
    """
    from transformers import AutoTokenizer

    with _quiet():
        tokenizer = _of(checkpoint, lambda: AutoTokenizer.from_pretrained(checkpoint, use_fast=True))
    check_tokenizer(tokenizer, getattr(read_config(checkpoint), "vocab_size", math.inf), checkpoint)
    return cast("PreTrainedTokenizerFast", tokenizer)  # checked


def check_tokenizer(tokenizer: Any, vocabulary: float, name: str) -> None:
    """Raises UserError for a slow tokenizer, an empty one, or one with tokens outside the network's ``vocabulary``."""
    if not tokenizer.is_fast:
        raise UserError(
            f"the tokenizer of '{name}' ({type(tokenizer).__name__}) is a slow tokenizer, which gives no offsets of "
            "tokens in the text: save the fast one (tokenizer.json) beside it."
        )
    # Without tokenizer files in a checkpoint, transformers builds a tokenizer with an empty vocabulary.
    if not set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids):
        raise UserError(f"'{name}' has no tokenizer vocabulary: save tokenizer.json beside it.")
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
    except Exception as error:  # errors of the hub, the network and file formats have no common base class
        reason = (str(error) or type(error).__name__).splitlines()[0]
        folder = Path(checkpoint)
        if folder.is_dir():
            raise UserError(f"'{folder}' is not a checkpoint for question answering: {reason}") from error
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
    """Turns off progress bars and reports of tensors; :func:`build_reader` reports what matters."""

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
