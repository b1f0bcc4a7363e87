"""Every question-answering architecture of the installed transformers."""

from __future__ import annotations

import csv
import re
import sys

import census
import pytest
import timm_census
import torch
from timm_census import TOLERANCE
from transformers_census import architectures, examine_reader, small_config

from hwaware.errors import UserError
from hwaware.hardware import load_hardware
from hwaware.models.readers import mark
from hwaware.nn import analog_layers, convert, effective_state_dict
from tests.placing import without

pytestmark = pytest.mark.slow

transformers = pytest.importorskip("transformers")

DEVICE = load_hardware("reram_cmo")

UNCALLED = "were converted, but the network never calls them"
UNKNOWN = "have weights, but no analog form is known for that class"

#: What conversion refuses unless it stays digital, or transformers does not run on text.
REFUSED = {
    # Integer arithmetic of their own.
    "ibert": rf"position_embeddings' \(QuantEmbedding\); .* \(QuantLinear\) {UNKNOWN}",
    # Read past the layer: a convolution's weight by a function, and linear layers as tables of biases.
    "qwen3_next": r"linear_attn.conv1d' \(Conv1d\) was converted, but the network never calls it: it reads the weight",
    "layoutlmv3": rf"rel_pos_bias', .* \(Linear\) {UNCALLED}: it reads the weight directly",
    # Readers of images.
    "layoutlmv2": "does not build it here: ImportError: .*detectron2|does not answer on text alone",
    "lxmert": "does not answer on text alone: ValueError: `visual_feats` cannot be `None`",
}

#: Parameters of two or more dimensions that are no layer's: matrices of XLNet and Funnel among them.
PASSED_OVER = {
    "funnel": {"FunnelRelMultiheadAttention"},
    "reformer": {"ParameterList"},  # embeddings of positions
    "xlnet": {"XLNetRelativeAttention"},
}


@pytest.fixture(scope="module")
def findings():
    return {name: examine_reader(name, DEVICE) for name in architectures()}


def test_each_is_tried_and_none_fails(findings):
    assert len(findings) > 70
    assert {name: found.reason for name, found in findings.items() if found.status not in ("ok", "refused")} == {}


def test_the_refused_ones_are_named(findings):
    refused = {name: found.reason for name, found in findings.items() if found.status == "refused"}
    assert set(refused) == set(REFUSED)
    for name, reason in refused.items():
        assert re.search(REFUSED[name], reason), (name, reason)


def test_the_others_go_into_cells_and_back(findings):
    for name, found in findings.items():
        if found.status == "ok":
            assert max(found.converted_error, found.returned_error) < TOLERANCE, name
            assert 0.01 < found.aged_change < 1, name
            assert found.cells >= 2 * found.layers > 4, name


def test_what_conversion_passes_over_is_named(findings):
    reasons = {name: found.reason for name, found in findings.items() if found.status == "ok" and found.reason}
    kinds = {name: set(re.findall(r"of (\w+) stay digital", reason)) for name, reason in reasons.items()}
    assert kinds == PASSED_OVER


def test_latent_weights_in_the_file_would_be_found(monkeypatch):
    monkeypatch.setattr(timm_census, "effective_state_dict", lambda model: model.state_dict())
    found = examine_reader("bert", DEVICE)
    assert found.status == "failed" and found.returned_error > TOLERANCE > found.converted_error


def _reader(model_type):
    return transformers.AutoModelForQuestionAnswering.from_config(small_config(model_type)).eval()


def test_a_head_tied_to_an_embedding_is_refused_by_name():
    reader = _reader("bert")
    reader.qa_outputs.weight = reader.bert.embeddings.token_type_embeddings.weight  # both [2, hidden]
    with pytest.raises(UserError, match=r"'qa_outputs' is tied to 'bert.embeddings.token_type_embeddings.weight'"):
        convert(reader, DEVICE)
    convert(reader, without(DEVICE, "qa_outputs"))


def test_shared_layers_and_embeddings_load_into_the_plain_network():
    for model_type, layers in {"albert": 8, "bart": 33}.items():
        reader = _reader(model_type)
        convert(reader, DEVICE)
        assert len(analog_layers(reader)) == layers
        fresh = _reader(model_type)
        fresh.load_state_dict(effective_state_dict(reader))
        batch = torch.randint(8, 100, (1, 12)), torch.ones(1, 12, dtype=torch.long), torch.zeros(1, 12).long()
        with torch.no_grad():
            for logits, wanted in zip(mark(fresh, *batch), mark(reader, *batch), strict=True):
                torch.testing.assert_close(logits, wanted)


def test_the_script(tmp_path, monkeypatch, capsys):
    options = ["--task", "question-answering", "--filter", "megatron*", "--out", str(tmp_path / "c.csv")]
    monkeypatch.setattr(sys, "argv", ["census.py", *options])
    assert census.main() == 0
    assert "1 architectures: 1 ok" in capsys.readouterr().out
    with (tmp_path / "c.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert (line["name"], line["side"], line["transformers"]) == ("megatron-bert", "24", transformers.__version__)
