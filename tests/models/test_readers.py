"""Networks that read, from folders in every state."""

from __future__ import annotations

import json
import math
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoTokenizer, BertModel, ViTConfig, ViTModel

from hwaware.errors import UserError
from hwaware.models.readers import build_reader, build_tokenizer, mark, n_positions, read_config


@pytest.fixture
def copied(tiny_reader, tmp_path):
    """A copy of the checkpoint, to be spoilt."""
    return shutil.copytree(tiny_reader / "model", tmp_path / "model")


def spoil(folder, change):
    file = folder / "model.safetensors"
    state = load_file(file)
    change(state)
    save_file(state, file, {"format": "pt"})


def quietly(folder, **options) -> nn.Module:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*has no head")
        return build_reader(str(folder), **options)


def test_a_checkpoint_without_a_head_gets_a_new_one_and_says_so(tiny_reader):
    with pytest.warns(UserWarning, match=r"has no head .* \(qa_outputs.bias, qa_outputs.weight\): it is new") as caught:
        network = build_reader(str(tiny_reader / "model"))
    assert len(caught) == 1 and network.head_is_new and not network.training
    stored = load_file(tiny_reader / "model" / "model.safetensors")
    state = network.state_dict()
    assert state.keys() - {f"bert.{key}" for key in stored} == {"qa_outputs.weight", "qa_outputs.bias"}
    assert all(torch.equal(state[f"bert.{key}"], tensor) for key, tensor in stored.items())


def test_a_checkpoint_with_a_head_is_taken_whole(copied, tmp_path):
    network = quietly(copied)
    network.save_pretrained(tmp_path / "whole")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = build_reader(str(tmp_path / "whole"))
    assert not again.head_is_new
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in network.state_dict().items())


def test_a_file_of_weights_takes_the_place_of_the_checkpoints(copied, tmp_path):
    state = {key: tensor + 1 for key, tensor in quietly(copied).state_dict().items()}
    save_file(state, tmp_path / "other.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # there is a head
        network = build_reader(str(copied), str(tmp_path / "other.safetensors"))
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in state.items())
    assert not getattr(network, "head_is_new", False) and not network.training


@pytest.mark.parametrize("threshold", [-1.5, math.inf, -math.inf, None])
def test_weights_of_a_run_bring_their_threshold(copied, tmp_path, threshold):
    network = quietly(copied)
    network.config.null_threshold = threshold
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    network.config.save_pretrained(tmp_path)
    network.config.save_pretrained(copied)
    assert build_reader(str(copied), str(tmp_path / "model.safetensors")).config.null_threshold == threshold
    assert getattr(quietly(copied).config, "null_threshold", None) == threshold


def test_half_precision_is_upcast(copied):
    BertModel.from_pretrained(copied, dtype=torch.float16, add_pooling_layer=False).save_pretrained(copied)
    assert {parameter.dtype for parameter in quietly(copied).parameters()} == {torch.float32}


def test_entries_of_the_configuration(copied):
    network = quietly(copied, config={"hidden_dropout_prob": 0.3})
    assert network.bert.embeddings.dropout.p == 0.3
    assert read_config(str(copied)).hidden_dropout_prob == 0.1
    with pytest.raises(UserError, match=r"has no entry 'hidden_dropout'. Did you mean 'hidden_dropout_prob'"):
        read_config(str(copied), {"hidden_dropout": 0.3})


def test_entries_that_change_the_networks_shape_are_refused(copied):
    with pytest.raises(UserError):
        quietly(copied, config={"intermediate_size": 96})


@pytest.mark.parametrize("change", [lambda s: s.pop("embeddings.LayerNorm.bias"), lambda s: s.clear()])
def test_a_checkpoint_without_all_of_its_encoder(copied, change):
    def most(state):
        state["unused"] = torch.zeros(1)
        change(state)

    spoil(copied, most)
    with pytest.raises(UserError, match=r"lacks \d+ tensors of the network's encoder; the first: bert.embeddings."):
        quietly(copied)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(copied, value):
    spoil(copied, lambda state: state["embeddings.LayerNorm.bias"].__setitem__(3, value))
    with pytest.raises(UserError, match=r"tensor bert.embeddings.LayerNorm.bias has values that are NaN or infinite"):
        quietly(copied)


def test_damaged_weights(copied):
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError, match=f"'{copied}' is not a checkpoint for question answering: ") as error:
        quietly(copied)
    assert len(str(error.value).splitlines()) == 1


def test_weights_of_another_network(copied, tmp_path):
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError):
        build_reader(str(copied), str(tmp_path / "other.safetensors"))


def test_a_folder_that_is_no_checkpoint(tmp_path, copied):
    with pytest.raises(UserError, match=f"'{tmp_path}' is not a checkpoint for question answering: "):
        build_reader(str(tmp_path))
    (copied / "config.json").write_text("{")
    with pytest.raises(UserError, match="is not a checkpoint for question answering: "):
        build_reader(str(copied))


def test_a_network_that_answers_no_questions(tmp_path):
    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"'{tmp_path}' is not a checkpoint for question answering: .*ViTConfig"):
        build_reader(str(tmp_path))


def test_a_name_on_the_hub_without_a_network(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    local = "Without a network, give a folder with config.json, model.safetensors and tokenizer.json."
    for build in (build_reader, build_tokenizer):
        with pytest.raises(UserError, match=r"cannot get 'them/no-such-reader': \S") as error:
            build("them/no-such-reader")
        assert str(error.value).splitlines()[1:] == [local]


def test_a_mistyped_folder(tmp_path):
    """transformers would take it for a name on the hub, and say that it is none."""
    for build in (build_reader, build_tokenizer):
        for folder in (str(tmp_path / "nowhere"), "./nowhere", "here/and/nowhere", "nowhere/"):
            with pytest.raises(UserError, match=rf"there is no folder '{folder}' \(with config.json"):
                build(folder)


def test_the_tokenizer(tiny_reader):
    tokenizer = build_tokenizer(str(tiny_reader / "model"))
    assert tokenizer.is_fast and tokenizer.tokenize("The Doors?") == ["the", "doors", "?"]


def test_a_slow_tokenizer_is_refused(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "<unk>": 2}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "ctrl", "vocab_size": 3}))
    with pytest.raises(
        UserError, match=r"the tokenizer of '.*' \(CTRLTokenizer\) is a slow tokenizer, .* \(tokenizer.json\)"
    ):
        build_tokenizer(str(tmp_path))


def test_a_checkpoint_without_a_tokenizer(copied):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copied / name).unlink()
    with pytest.raises(UserError, match=f"'{copied}' has no tokenizer vocabulary: save tokenizer.json beside it"):
        build_tokenizer(str(copied))


def test_a_tokenizer_with_more_tokens_than_embeddings(copied):
    tokenizer = AutoTokenizer.from_pretrained(copied)
    n = len(tokenizer)
    tokenizer.add_tokens(["[NEW]"])
    tokenizer.save_pretrained(copied)
    with pytest.raises(UserError, match=f"has token {n}, but the network has embeddings of {n} tokens only"):
        build_tokenizer(str(copied))


def test_positions_of_roberta_begin_behind_the_padding_token():
    from transformers import BertConfig, BertForQuestionAnswering, RobertaConfig, RobertaForQuestionAnswering

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    roberta = RobertaForQuestionAnswering(RobertaConfig(vocab_size=50, max_position_embeddings=18, **sizes)).eval()
    bert = BertForQuestionAnswering(BertConfig(vocab_size=50, max_position_embeddings=16, **sizes)).eval()
    for network in (roberta, bert):
        assert n_positions(network) == 16
        ids = torch.full((1, 16), 7)
        mark(network, ids, torch.ones_like(ids))
        with pytest.raises((IndexError, RuntimeError)):
            mark(network, torch.full((1, 17), 7), torch.ones(1, 17, dtype=torch.long))


def test_token_types_that_a_tokenizer_does_not_give_are_not_words():
    """GPT-2 adds the embedding of a type as if it were a word's."""
    from transformers import GPT2Config, GPT2ForQuestionAnswering

    torch.manual_seed(0)
    network = GPT2ForQuestionAnswering(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2)).eval()
    ids, ones, types = torch.arange(6)[None], torch.ones(1, 6, dtype=torch.long), torch.zeros(1, 6, dtype=torch.long)
    own = network(input_ids=ids, attention_mask=ones)
    assert torch.equal(mark(network, ids, ones)[0], own.start_logits)
    assert not torch.allclose(mark(network, ids, ones, types)[0], own.start_logits)
