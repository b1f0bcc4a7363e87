"""The training step, and what a task leaves alone."""

from __future__ import annotations

import copy
import math
import re
import warnings

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from torch import nn
from torch.optim import SGD, AdamW
from torch.utils.data import DataLoader, TensorDataset

import tests.tiny  # noqa: F401 - registers the tiny network
from hwaware.data import SampleData
from hwaware.errors import UserError
from hwaware.hardware import HardwareOptions
from hwaware.models import build_model
from hwaware.nn import analog_layers, effective_state_dict
from hwaware.nn.weights.gaussian import clear_pool
from hwaware.tasks import ImageClassification, WarmupCosine
from hwaware.training import (
    AgeDistribution,
    Distillation,
    MappingBias,
    Mixing,
    RetentionLoss,
    TrainingNoise,
    retention_loss,
)
from tests.command_line import pretrained_weights
from tests.placing import options

CMO = HardwareOptions({"name": "reram_cmo"})
OLD = TrainingNoise("device", ages=AgeDistribution("fixed", (315360000.0,)))


def make(**options) -> ImageClassification:
    options = {"weights": str(pretrained_weights()), "num_classes": 10, **options}
    return ImageClassification("tiny_test_net", **options)


def images(n: int = 64) -> DataLoader:
    torch.manual_seed(0)
    return DataLoader(TensorDataset(torch.randn(n, 3, 8, 8), torch.randint(10, (n,))), batch_size=16)


def fit(task: ImageClassification, *callbacks: Callback, ckpt_path=None, **options) -> Trainer:
    options = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, **options}
    trainer = Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(task, images(), images(32), ckpt_path=ckpt_path)
    return trainer


class Spy(Callback):
    """Keeps what was logged in each step."""

    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.append({key: float(value) for key, value in trainer.callback_metrics.items()})


def test_conversion_keeps_the_function():
    digital, converted = make(), make(hardware=CMO)
    x = torch.randn(4, 3, 8, 8)
    assert converted.conversion.n_weights == 3 * 8 * 9 + 8 * 16 * 9 + 256 * 10
    torch.testing.assert_close(converted.eval()(x), digital.eval()(x), rtol=1e-4, atol=1e-4)


def test_lambda_is_the_share_of_the_task_loss_at_the_first_step_and_stays():
    task, spy = make(hardware=CMO, noise=OLD, retention=RetentionLoss(share=0.2)), Spy()
    fit(task, spy)
    first = spy.steps[0]
    assert first["train/lambda"] * first["train/retention"] == pytest.approx(0.2 * first["train/task_loss"], rel=1e-4)
    assert {step["train/lambda"] for step in spy.steps} == {first["train/lambda"]}
    assert first["train/loss"] == pytest.approx(1.2 * first["train/task_loss"], rel=1e-4)
    assert first["train/age_s"] == pytest.approx(315360000.0)
    assert task.retention_weight == pytest.approx(first["train/lambda"])


def test_lambda_is_restored_as_a_plain_number(tmp_path):
    task = make(hardware=CMO, retention=RetentionLoss())
    trainer = fit(task)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert checkpoint["hwaware"]["retention_weight"] == task.retention_weight > 0
    other = make(hardware=CMO, retention=RetentionLoss())
    other.on_load_checkpoint(checkpoint)
    assert other.retention_weight == task.retention_weight


def test_digital_training_logs_no_hardware():
    spy = Spy()
    fit(make(), spy)
    assert not {"train/age_s", "train/lambda", "train/retention"} & set(spy.steps[-1])


@pytest.mark.parametrize("field", ["noise", "retention", "bias", "clip_alpha"])
def test_hardware_settings_without_a_device_are_refused(field):
    value = {"noise": OLD, "retention": RetentionLoss(), "bias": MappingBias(), "clip_alpha": 2.0}[field]
    with pytest.raises(UserError, match=f"{field} needs a network in memory cells"):
        make(**{field: value})


def test_clipping_does_not_go_with_a_bias():
    with pytest.raises(UserError, match="clip_alpha changes weights that bias has projected"):
        make(hardware=CMO, bias=MappingBias(), clip_alpha=2.0)


def test_ages_that_the_device_does_not_cover_are_refused_at_once():
    with pytest.raises(UserError, match="age_s=0\\.5"):
        make(hardware=CMO, noise=TrainingNoise("device", ages=AgeDistribution("list", (0.5, 10.0))))


def test_validation_runs_without_noise():
    """Validation inside training gives what the digital network with the effective weights gives."""

    class Validated(Callback):
        def on_validation_end(self, trainer, pl_module):
            self.accuracy = float(trainer.callback_metrics["val/top1"])
            self.network = copy.deepcopy(pl_module.network.state_dict()), effective_state_dict(pl_module.network)
            assert all(layer.noise is None for layer in analog_layers(pl_module.network).values())

    task, validated = make(hardware=CMO, noise=OLD), Validated()
    fit(task, validated, num_sanity_val_steps=0)
    _, effective = validated.network
    digital = build_model("tiny_test_net", num_classes=10)
    digital.load_state_dict(effective)
    hits = [(digital.eval()(x).argmax(1) == y).float() for x, y in images(32)]
    assert validated.accuracy == pytest.approx(100 * torch.cat(hits).mean().item())


def test_noise_and_retention_are_gone_after_training():
    task = make(hardware=CMO, noise=OLD, retention=RetentionLoss())
    fit(task)
    assert all(layer.noise is None and layer.error is None for layer in analog_layers(task.network).values())
    with pytest.raises(UserError):
        retention_loss(task.network)


def test_pretrained_batch_norm_keeps_its_statistics_but_trains_its_affine_part():
    task = make(hardware=CMO)
    before = copy.deepcopy(task.network.bn1.state_dict())
    fit(task)
    after = task.network.bn1.state_dict()
    for key in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(before[key], after[key])
    assert not torch.equal(before["weight"], after["weight"])


@pytest.mark.parametrize("options", [{"weights": None}, {"freeze_bn_statistics": False}])
def test_batch_norm_statistics_train_from_scratch_and_on_request(options):
    task = make(**options)
    before = task.network.bn1.running_mean.clone()
    fit(task)
    assert not torch.equal(before, task.network.bn1.running_mean)


def test_default_optimiser_has_no_weight_decay():
    task = make()
    fit(task)
    (optimizer,) = [task.trainer.optimizers[0]]
    assert isinstance(optimizer, SGD)
    assert optimizer.param_groups[0]["weight_decay"] == 0


def test_optimiser_and_schedule_follow_the_trainer():
    seen = {}

    def schedule(optimizer, total_steps):
        seen["steps"] = total_steps
        return WarmupCosine(optimizer, total_steps, warmup_steps=2)

    task = make(optimizer=lambda parameters: AdamW(parameters, lr=1e-3), scheduler=schedule)
    trainer = fit(task, max_epochs=3)
    assert seen["steps"] == 3 * 4 == trainer.global_step
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)  # stepped per step, to its end


def test_weights_are_clipped_after_each_step():
    task = make(hardware=CMO, clip_alpha=1.0, optimizer=lambda parameters: SGD(parameters, lr=1e-9))
    weight = task.network.linear.weight
    limit = weight.std(correction=0).item()
    assert weight.abs().max() > 1.5 * limit
    fit(task, max_steps=1, max_epochs=-1)
    assert weight.abs().max().item() == pytest.approx(limit, rel=1e-3)


def test_gradient_accumulation_draws_new_noise_for_each_micro_batch():
    ages = TrainingNoise("device", ages=AgeDistribution("log_uniform", (1.0, 1e8)))
    task, spy = make(hardware=CMO, noise=ages), Spy()
    trainer = fit(task, spy, accumulate_grad_batches=2)
    assert trainer.global_step == 2
    assert len({step["train/age_s"] for step in spy.steps}) == 4


def test_bf16_mixed_precision_trains():
    clear_pool()  # as in a new process
    task = make(hardware=CMO, noise=OLD, retention=RetentionLoss(), clip_alpha=2.5)
    before = task.network.conv1.weight.clone()
    fit(task, precision="bf16-mixed")
    after = task.network.conv1.weight
    assert after.dtype == torch.float32 and after.isfinite().all() and not torch.equal(before, after)


@pytest.mark.parametrize(("classes", "names"), [(10, {"top1", "top5"}), (5, {"top1"})])
def test_top5_only_where_it_says_something(classes, names):
    task = make(weights=None, num_classes=classes)
    scores = task.score(task.network.eval(), [(x, y % classes) for x, y in images(32)])
    assert set(scores) == names


def test_score_is_in_percent_and_exact():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return nn.functional.one_hot(x.long(), 10).float()

    guesses, labels = torch.tensor([0, 1, 2, 3, 4, 5, 6]), torch.tensor([0, 1, 2, 9, 9, 9, 9])
    assert make().score(Fixed(), [(guesses[:5], labels[:5]), (guesses[5:], labels[5:])])["top1"] == 42.8571


def test_unknown_device_name_is_told_at_construction():
    with pytest.raises(UserError, match="Did you mean 'reram_cmo'"):
        HardwareOptions({"name": "reram_cm"})


def test_linear_cells_by_name():
    assert options("reram_cmo", kappa="linear").placement.default.encoding.kappa is None
    assert options("reram_cmo").placement.default.encoding.kappa == 2.0
    assert HardwareOptions({"name": "reram_cmo", "stuck_on": 0.1}).placement.default.device.stuck_on == 0.1


@pytest.mark.filterwarnings("ignore:.*new, untrained head")
def test_a_teacher_with_other_classes_is_refused():
    with pytest.raises(UserError, match=r"distillation: '.*' was not trained for 3 classes"):
        make(hardware=CMO, distillation=Distillation(), num_classes=3)


def test_distillation_pulls_towards_the_digital_network():
    """With nothing but the teacher, the exact network has nothing to learn, and a noisy one keeps what it knew."""
    still = make(hardware=CMO, distillation=Distillation(weight=1.0))
    spy = Spy()
    fit(still, spy)
    assert max(step["train/task_loss"] for step in spy.steps) < 1e-5
    digital, x = make().eval(), next(iter(images()))[0]

    def distance(distillation):
        task = make(hardware=CMO, noise=OLD, distillation=distillation)
        fit(task, max_epochs=4)
        with torch.no_grad():
            return (task.eval()(x) - digital(x)).square().mean().item()

    assert distance(Distillation(weight=1.0)) < 0.5 * distance(None)  # the labels here are random


def test_mixed_targets_go_through_the_loss_as_in_timm():
    """timm's own mixed and smoothed targets and its own loss, from the same draws."""
    task = make(mixing=Mixing(), label_smoothing=0.1)
    (x, labels), spy = next(iter(images())), []
    task.predict = lambda network, batch: spy.append(batch[0]) or network(batch[0])
    for seed in range(6):  # some mix, some cut
        np.random.seed(seed)
        mixed, targets = task._mix(x.clone(), labels)
        ours = task.loss_of(task.network, (mixed, targets))
        np.random.seed(seed)
        theirs, soft = Mixup(0.8, 1.0, label_smoothing=0.1, num_classes=10)(x.clone(), labels)
        torch.testing.assert_close(ours, SoftTargetCrossEntropy()(task.network(theirs), soft))
        assert torch.equal(mixed, theirs) and not torch.equal(mixed, x)


def test_mixing_acts_in_training_alone_and_teaches_on_the_mixture():
    task = make(hardware=CMO, mixing=Mixing(), distillation=Distillation(weight=1.0))
    seen = []
    task.validation_step = lambda batch, _, step=task.validation_step: seen.append(batch[1].dtype) or step(batch, _)
    spy = Spy()
    fit(task, spy)
    assert max(step["train/task_loss"] for step in spy.steps) < 1e-5  # teacher and student saw the same images
    assert set(seen) == {torch.int64}


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_mixing_in_half_precision(precision):
    spy = Spy()
    fit(make(mixing=Mixing()), spy, precision=precision)
    assert all(math.isfinite(step["train/task_loss"]) for step in spy.steps)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"mixup_alpha": -1.0}, "mixup_alpha=-1.0"), ({"mixup_alpha": 0.0, "cutmix_alpha": 0.0}, "are both 0")],
)
def test_wrong_mixing(options, reason):
    with pytest.raises(UserError, match=reason):
        Mixing(**options)


def test_the_teacher_is_neither_trained_nor_saved(tmp_path):
    task = make(hardware=CMO, distillation=Distillation())
    trainer = fit(task)
    assert task._teach is None
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    keys = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert keys.keys() == make(hardware=CMO).state_dict().keys()


def test_repairs_learn_from_the_digital_network_too():
    """With nothing but the teacher, a repair's loss on the exact network is none, whatever the labels."""
    from hwaware.evaluation.fitting import fit_data
    from hwaware.evaluation.run import Run

    class Data(SampleData):
        dataset_name = dataset = None  # not asked for

        def setup(self, stage):
            pass

    batch = next(iter(images()))
    for distillation, low in ((Distillation(weight=1.0), True), (None, False)):
        task = make(hardware=CMO, distillation=distillation)
        loss = fit_data(Run(), task, Data()).loss(task.network.eval(), batch).item()
        assert (loss < 1e-5) == low


def test_the_way_to_compute_weights_is_kept_and_a_change_is_told():
    told = r"weights_way: the run began with 'together' and continues with 'by_layer'; not bit-identical"
    with pytest.raises(UserError, match="weights_way 'togehter' is unknown"):
        make(hardware=CMO, weights_way="togehter")
    task = make(hardware=CMO, noise=OLD, retention=RetentionLoss(), weights_way="together")
    fit(task)
    checkpoint = {}
    task.on_save_checkpoint(checkpoint)
    for way, warned in ((None, False), ("by_layer", True)):
        again = make(hardware=CMO, noise=OLD, weights_way=way)
        again.on_load_checkpoint(checkpoint)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit(again)
        assert any(re.search(told, str(one.message)) for one in caught) == warned
