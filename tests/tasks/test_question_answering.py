"""Logits, loss, learning rates and the threshold of "no answer"."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file
from torch import nn
from torch.optim import SGD, AdamW
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, DistilBertConfig, DistilBertForQuestionAnswering

from hwaware.chip import Chip
from hwaware.data import SquadData, TextInputs
from hwaware.errors import UserError
from hwaware.hardware import Converters, CrossbarOptions, HardwareOptions
from hwaware.metrics import Answers
from hwaware.nn import analog_layers, to_digital
from hwaware.tasks import QuestionAnswering
from hwaware.tasks.question_answering import METRICS
from hwaware.training import Distillation, TrainingNoise

pytestmark = pytest.mark.slow

CMO = HardwareOptions({"name": "reram_cmo"})


@pytest.fixture(scope="module")
def untaught(tiny_reader):
    """A task whose network has a new head."""

    def make(**options) -> QuestionAnswering:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*has no head")
            return QuestionAnswering(str(tiny_reader / "model"), **options)

    return make


@pytest.fixture(scope="module")
def taught(taught_reader, data):
    """A task whose network was taught to answer, and which knows the data's windows."""

    def make(**options) -> QuestionAnswering:
        task = QuestionAnswering(str(taught_reader), **options)
        task.inputs = data.inputs
        return task

    return make


@pytest.fixture(scope="module")
def data(tiny_reader):
    questions = SquadData(str(tiny_reader / "data"), max_length=64, stride=24, eval_batch_size=40, seed=0)
    questions.inputs = TextInputs(AutoTokenizer.from_pretrained(tiny_reader / "model"))
    questions.setup()
    return questions


def batch_of(data, windows):
    return data.collate([(2, int(window)) for window in windows])


@pytest.fixture(scope="module")
def padded(data):
    """A batch of windows of different lengths."""
    batch = batch_of(data, np.argsort(data.windows[2].length)[:: len(data.windows[2]) // 6])
    assert 0.1 < (batch[1] == 0).float().mean() < 0.5
    return batch


def test_names_and_whether_there_is_something_to_start_from(untaught, taught, tiny_reader, taught_reader):
    assert untaught().network_name == "model" and untaught(name="reader").network_name == "reader"
    assert QuestionAnswering(f"{taught_reader}/").network_name == "version_0"
    assert not untaught().is_pretrained and taught().is_pretrained
    weights = str(taught_reader / "model.safetensors")
    task = untaught(weights=weights)
    assert task.is_pretrained and task.inputs.max_positions == 128
    assert torch.equal(task.network.qa_outputs.bias, load_file(weights)["qa_outputs.bias"])


def test_logits_are_the_networks_own_and_padding_is_nowhere(untaught, padded):
    task = untaught().eval()
    names = ("input_ids", "attention_mask", "token_type_ids")
    output = task.network(**dict(zip(names, padded, strict=False)))
    for ours, theirs in zip(task(*padded[:3]), (output.start_logits, output.end_logits), strict=True):
        there = padded[1].bool()
        assert torch.equal(ours[there], theirs[there]) and (ours[~there] == -1e4).all()


def test_a_network_without_token_types(untaught, padded):
    config = DistilBertConfig(vocab_size=400, dim=16, n_layers=1, n_heads=2, hidden_dim=16)
    network = DistilBertForQuestionAnswering(config).eval()
    start, _ = untaught().predict(network, padded)
    there = padded[1].bool()
    assert torch.equal(start[there], network(padded[0], padded[1]).start_logits[there])


def theirs(network, batch) -> torch.Tensor:
    names = ("input_ids", "attention_mask", "token_type_ids", "start_positions", "end_positions")
    return network(**dict(zip(names, batch, strict=False))).loss


def test_the_loss_is_that_of_transformers(untaught, data):
    lengths = data.windows[2].length
    batch = batch_of(data, np.flatnonzero(lengths == 64)[:12])  # without padding
    task = untaught().eval()
    loss = task.loss_of(task.network, batch)
    torch.testing.assert_close(loss, theirs(task.network, batch))
    assert loss > 1 and len(set(batch[3].tolist())) > 3


def test_padding_takes_no_part_in_the_loss(untaught, padded):
    """transformers lets the padding have a share of the probability; each window on its own has none."""
    task = untaught().eval()
    alone = []
    for row in range(len(padded[0])):
        n = int(padded[1][row].sum())
        alone.append(
            theirs(
                task.network,
                [*(part[row : row + 1, :n] for part in padded[:3]), *(p[row : row + 1] for p in padded[3:5])],
            )
        )
    torch.testing.assert_close(task.loss_of(task.network, padded), torch.stack(alone).mean())


def test_the_loss_is_finite_in_half_precision(untaught, padded):
    task = untaught()
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.loss_of(task.network.eval(), padded)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, task.loss_of(task.network, padded), rtol=0.02, atol=0.0)


def rates(task) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter."""
    groups = task.make_optimizer().param_groups
    of = {id(parameter): (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    assert len(of) == sum(len(group["params"]) for group in groups)
    return {name: of[id(parameter)] for name, parameter in task.network.named_parameters()}


@pytest.mark.parametrize("hardware", [None, CMO])
def test_learning_rates_fall_with_depth_and_only_matrices_decay(untaught, hardware):
    options = {"optimizer": lambda parameters: AdamW(parameters, lr=0.1, weight_decay=0.3), "hardware": hardware}
    found = rates(untaught(layer_decay=0.5, **options))
    for name, (rate, decay) in found.items():
        depth = 3 if "embeddings" in name else 2 if "layer.0." in name else 1 if "layer.1." in name else 0
        assert rate == pytest.approx(0.1 * 0.5**depth), name
        assert decay == (0.0 if name.endswith("bias") or "LayerNorm" in name else 0.3), name
    assert {rate for rate, _ in found.values()} == {0.1, 0.05, 0.025, 0.0125}
    assert {rate for rate, _ in rates(untaught(**options)).values()} == {0.1}


def test_the_default_optimiser_takes_the_groups(untaught):
    task = untaught(layer_decay=0.9)
    assert isinstance(task.make_optimizer(), SGD) and rates(task)["qa_outputs.weight"] == (0.01, 0)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_answer_tokens": 0}, "max_answer_tokens=0 must be at least 1"),
        ({"layer_decay": 0.0}, r"layer_decay=0.0 must lie in \(0, 1\]"),
        ({"layer_decay": 1.5}, r"layer_decay=1.5 must lie in \(0, 1\]"),
        ({"noise": TrainingNoise("device")}, "noise needs a network in memory cells"),
        ({"distillation": Distillation()}, "distillation: '.*model' has no trained head to distil from"),
    ],
)
def test_wrong_settings(untaught, options, reason):
    with pytest.raises(UserError, match=reason):
        untaught(**options)


def test_distillation_learns_from_start_and_end(taught, padded):
    """Where the labels are left out, the exact network has nothing to learn; a disturbed one has."""
    task = taught(distillation=Distillation(weight=1.0)).eval()
    teach = task.teacher(torch.device("cpu"))
    assert task.loss_of(task.network, padded, teach).item() == pytest.approx(0, abs=1e-5)
    with torch.no_grad():
        task.network.qa_outputs.weight[1] *= 1.5  # of the end alone
    assert task.loss_of(task.network, padded, teach) > 1e-3


def answers(task, network, data, split) -> Answers:
    return task.answered(network, data.every_sample(split))


def test_the_threshold_is_that_of_the_validation_questions(taught, data):
    task = taught()
    network = task.network.eval()
    network.config.null_threshold = None  # the run's own, which is as good a choice
    task.calibrate(network, data)
    best = answers(task, network, data, "val")
    assert network.config.null_threshold == best.kept_threshold() != 0
    assert best.scores(network.config.null_threshold)["f1"] >= best.scores(0.0)["f1"]
    expected = answers(task, network, data, "test").scores(network.config.null_threshold)
    scores = task.score(network, data.test_dataloader())
    assert scores == {name: pytest.approx(expected[name], abs=1e-4) for name in METRICS}
    # found once, and what is said by hand stays
    network.config.null_threshold = -1000.0
    task.calibrate(network, data)
    assert network.config.null_threshold == -1000.0
    refused = task.score(network, data.test_dataloader())
    assert refused["f1_has_ans"] == 0 and refused["f1"] == pytest.approx(100 / 3, abs=1e-4)
    assert {name: refused[name] for name in task.chance_percent} == pytest.approx(task.chance_percent, abs=1e-4)


def test_a_taught_reader_answers(taught, data):
    """Or else nothing that these tests compare would mean anything."""
    task = taught()
    task.calibrate(task.network.eval(), data)
    scores = task.score(task.network, data.test_dataloader())
    assert scores["f1_has_ans"] > 50 and scores["f1"] > 100 / 3 + 20


def test_the_threshold_stays_with_the_network(taught, data):
    task = taught()
    task.network.config.null_threshold = None
    task.calibrate(network := task.network.eval(), data)
    threshold = network.config.null_threshold
    copied = copy.deepcopy(network)
    task.convert(copied, CMO.placement)
    assert copied.config.null_threshold == threshold
    with Chip.program(copied, seed=1).at(1e8):
        task.calibrate(copied, data)
        assert copied.config.null_threshold == threshold
    assert to_digital(copied).config.null_threshold == threshold
    assert "null_threshold" not in network.state_dict()


def test_calibration_needs_data_and_leaves_the_mode_alone(taught, data):
    task, again = taught(), taught()
    for one in (task, again):
        one.network.config.null_threshold = None
    with pytest.raises(UserError, match='the "no answer" threshold is chosen on validation questions: give a data'):
        task.calibrate(task.network, None)
    task.network.train()
    task.calibrate(task.network, data)
    assert task.network.training
    again.calibrate(again.network.eval(), data)
    assert again.network.config.null_threshold == task.network.config.null_threshold  # found without dropout


def test_training_leaves_no_threshold_of_other_weights(taught, tiny_reader):
    """Converters' ranges are measured before training, the threshold after it: it is of the weights."""
    crossbar = CrossbarOptions(converters=Converters(adc_bits=8, samples=20))
    task = taught(hardware=HardwareOptions({"name": "reram_cmo"}, crossbar=crossbar))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", max_steps=2, limit_val_batches=2, **quiet, enable_model_summary=False)
    trainer.fit(task, datamodule=SquadData(str(tiny_reader / "data"), max_length=64, stride=24))
    assert all(layer.ranges for layer in analog_layers(task.network).values())
    assert task.network.config.null_threshold is None
    trainer.test(task, datamodule=trainer.datamodule, verbose=False)
    assert task.network.config.null_threshold is not None


def test_what_is_saved_beside_is_loaded_by_plain_transformers(taught_reader, padded):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = AutoModelForQuestionAnswering.from_pretrained(taught_reader, dtype=torch.float32)
    task = QuestionAnswering(str(taught_reader))
    names = ("input_ids", "attention_mask", "token_type_ids")
    assert isinstance(network, nn.Module)
    inputs = dict(zip(names, padded, strict=False))
    assert torch.equal(network.eval()(**inputs).end_logits, task.network(**inputs).end_logits)
    assert AutoTokenizer.from_pretrained(taught_reader).get_vocab() == task.tokenizer.get_vocab()
