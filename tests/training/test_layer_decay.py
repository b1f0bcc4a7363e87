"""How deep each parameter lies."""

from __future__ import annotations

import pytest
from torch import nn
from transformers import AlbertConfig, AutoModelForQuestionAnswering, BertConfig, DistilBertConfig, RobertaConfig

from hwaware.training import layer_depths

SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 20}


@pytest.mark.parametrize(
    ("config", "stack", "embeddings"),
    [
        (BertConfig(**SMALL), "bert.encoder.layer", "bert.embeddings"),
        (RobertaConfig(**SMALL), "roberta.encoder.layer", "roberta.embeddings"),
        (
            DistilBertConfig(dim=16, n_layers=3, n_heads=2, hidden_dim=16, vocab_size=20),
            "distilbert.transformer.layer",
            "distilbert.embeddings",
        ),
    ],
)
def test_blocks_embeddings_and_head_of_a_reader(config, stack, embeddings):
    network = AutoModelForQuestionAnswering.from_config(config)
    depths = layer_depths(network)
    assert depths.keys() == dict(network.named_parameters()).keys()
    expected = {f"{stack}.{block}.": 3 - block for block in range(3)} | {f"{embeddings}.": 4, "qa_outputs.": 0}
    for prefix, depth in expected.items():
        assert {depths.pop(name) for name in list(depths) if name.startswith(prefix)} == {depth}
    assert not depths


def test_shared_blocks_are_one():
    config = AlbertConfig(embedding_size=8, **SMALL)
    depths = layer_depths(AutoModelForQuestionAnswering.from_config(config))
    assert depths["qa_outputs.weight"] == 0 and depths["albert.embeddings.word_embeddings.weight"] == 2


class Parallel(nn.Module):
    """Blocks whose norms are a list beside them, with a shorter list in each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 2)
        self.blocks = nn.ModuleList(nn.ModuleList([nn.Linear(2, 2)]) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(2) for _ in range(2))
        self.head = nn.Linear(2, 2)


def test_lists_side_by_side_count_together():
    depths = layer_depths(Parallel())
    names = ("stem.weight", "blocks.0.0.weight", "norms.0.weight", "blocks.1.0.bias", "norms.1.bias", "head.bias")
    assert [depths[name] for name in names] == [3, 2, 2, 1, 1, 0]


def test_without_blocks_all_are_alike():
    assert set(layer_depths(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))).values()) == {0}


def test_embeddings_behind_the_blocks_are_the_deepest_too():
    from transformers import DebertaV2Config, DebertaV2ForQuestionAnswering

    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
    config = DebertaV2Config(vocab_size=50, relative_attention=True, pos_att_type=["p2c", "c2p"], **sizes)
    depths = layer_depths(DebertaV2ForQuestionAnswering(config))
    assert depths["deberta.encoder.rel_embeddings.weight"] == depths["deberta.embeddings.word_embeddings.weight"] == 4
    assert depths["deberta.encoder.layer.2.output.dense.weight"] == 1 and depths["qa_outputs.weight"] == 0
