"""Whether an architecture of transformers that answers questions can be put into cells and taken out again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from timm_census import Finding, fill, finding_of, round_trip
from torch import Tensor, nn

from hwaware.errors import UserError
from hwaware.hardware import Hardware
from hwaware.models.readers import mark
from hwaware.nn import convert

if TYPE_CHECKING:
    from transformers import PretrainedConfig

#: Tokens of the two texts that are read; the second one is shorter, and padded.
LENGTHS = (24, 20)

_VOCABULARY, _WIDTH, _HEADS, _LAYERS, _POSITIONS = 128, 32, 2, 2, 64
_INNER = 2 * _WIDTH
#: Tokens that a text may have anywhere: below are the special ones.
_FIRST_WORD = 8

#: The value of a configuration's field, whatever architecture has it.
_SMALL: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "entity_vocab_size", "pronunciation_vocab_size", "shape_vocab_size"), _VOCABULARY),
    **dict.fromkeys(
        (
            "hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size", "input_embedding_size",
            "output_embedding_size", "pooler_hidden_size", "word_embed_proj_dim", "pronunciation_embed_dim",
            "shape_embed_dim", "entity_emb_size",
        ),
        _WIDTH,
    ),
    **dict.fromkeys(
        (
            "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
            "num_decoder_layers", "l_layers", "r_layers", "x_layers",
        ),
        _LAYERS,
    ),
    **dict.fromkeys(
        (
            "num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads",
            "decoder_attention_heads", "num_key_value_heads", "num_kv_heads", "linear_num_key_heads",
            "linear_num_value_heads",
        ),
        _HEADS,
    ),
    **dict.fromkeys(
        ("head_dim", "d_kv", "d_head", "attention_head_size", "linear_key_head_dim", "linear_value_head_dim"),
        _WIDTH // _HEADS,
    ),
    **dict.fromkeys(
        (
            "intermediate_size", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_dim", "d_ff", "d_inner", "hidden_dim",
            "ffn_hidden_size", "moe_intermediate_size", "shared_expert_intermediate_size", "feed_forward_size",
        ),
        _INNER,
    ),
    **dict.fromkeys(
        (
            "max_position_embeddings", "n_positions", "max_seq_len", "max_encoder_position_embeddings",
            "max_decoder_position_embeddings",
        ),
        _POSITIONS,
    ),
    **dict.fromkeys(("num_experts", "num_local_experts"), 4),
    "num_experts_per_tok": 2,
    "attention_window": 8,
}  # fmt: skip

#: What those do not make small, or make inconsistent, or what has no default.
_ALSO: dict[str, dict[str, Any]] = {
    "big_bird": {"block_size": 2, "num_random_blocks": 1},  # small enough for sparse attention
    "bigbird_pegasus": {"block_size": 2, "num_random_blocks": 1},
    "funnel": {"block_sizes": [1, 1]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "gptj": {"rotary_dim": 8},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4, "input_size": 32},
    "lilt": {"hidden_size": 48},  # six coordinates side by side
    "mobilebert": {"intra_bottleneck_size": _WIDTH},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
    "reformer": {
        "attn_layers": ["local", "lsh"], "axial_pos_embds_dim": [8, 24], "axial_pos_shape": [8, 8], "hash_seed": 0,
        "local_attn_chunk_length": 4, "lsh_attn_chunk_length": 4,
    },
    "t5": {"decoder_start_token_id": 0},
    "xmod": {"default_language": "en_XX"},
}  # fmt: skip


def architectures() -> list[str]:
    """Model types that ``AutoModelForQuestionAnswering`` of the installed transformers knows."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES

    return list(MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES)


def examine_reader(model_type: str, hardware: Hardware) -> Finding:
    """Builds a small network of an architecture with random weights and tries it.

    Args:
        model_type: transformers'.
        hardware: what holds all layers.
    """
    return finding_of(model_type, partial(_examine, model_type, hardware))


def small_config(model_type: str) -> PretrainedConfig:
    """An architecture's configuration with two layers of width 32."""
    from transformers import CONFIG_MAPPING

    of_type = CONFIG_MAPPING[model_type]
    default = of_type().to_dict()
    small = {key: value for key, value in _SMALL.items() if key in default}
    for key, value in default.items():
        if key.endswith("_token_id") and isinstance(value, int) and value >= _VOCABULARY:
            small[key] = 1
    return of_type(**small | _ALSO.get(model_type, {}))


def _examine(model_type: str, hardware: Hardware, known: dict[str, Any]) -> Finding:
    from transformers import AutoModelForQuestionAnswering

    def build() -> nn.Module:
        return AutoModelForQuestionAnswering.from_config(small_config(model_type)).eval()

    def output(network: nn.Module) -> Tensor:
        return torch.stack(mark(network, *batch), dim=-1)[batch[1].bool()]

    torch.manual_seed(0)
    with _refused("transformers does not build it here"):
        model = build()
    known["parameters"] = sum(p.numel() for p in model.parameters())
    batch = _batch(model.config)
    known["side"] = max(LENGTHS)
    with _refused("it does not answer on text alone"), torch.no_grad():
        output(model)
    fill(model)
    found = round_trip(model, output, build, hardware, known)
    return replace(found, reason=_passed_over(model, hardware)) if found.status == "ok" else found


@contextmanager
def _refused(why: str) -> Iterator[None]:
    """Before anything is converted, whatever goes wrong is the architecture's."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{why}: {type(error).__name__}: {' '.join(str(error).split())[:160]}") from error


def _passed_over(model: nn.Module, hardware: Hardware) -> str:
    """What conversion cannot know to be a matrix: parameters that belong to no layer."""
    found: dict[str, dict[str, None]] = {}
    for name in convert(model, hardware).passed_over:
        owner, _, key = name.rpartition(".")
        found.setdefault(type(model.get_submodule(owner)).__name__, {})[key] = None
    return "; ".join(f"{', '.join(keys)} of {kind} stay digital" for kind, keys in found.items())


def _batch(config: PretrainedConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and types of question and paragraph as tokenizers make them: ``<s> q </s></s> p </s>``, padded."""
    ids = torch.randint(_FIRST_WORD, _VOCABULARY, (len(LENGTHS), max(LENGTHS)))
    mask = torch.zeros_like(ids)
    for row, length in enumerate(LENGTHS):
        mask[row, :length] = 1
        for at in (7, 8, length - 1):
            ids[row, at] = 2
        ids[row, length:] = config.pad_token_id or 0
    return ids, mask, torch.zeros_like(ids)
