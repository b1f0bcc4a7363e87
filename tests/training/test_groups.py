"""What is frozen stays to the last bit; rates by pattern and by depth are those of the closed form and of timm."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from lightning.pytorch.callbacks import BackboneFinetuning
from timm.optim import param_groups_layer_decay
from torch import Tensor
from torch.optim import SGD, AdamW

from hwaware.errors import UserError
from hwaware.nn import effective_state_dict
from hwaware.tasks import ImageClassification, WarmupCosine
from hwaware.training import RetentionLoss
from tests.tasks.test_task import CMO, OLD, fit, make


def adam(parameters: Any) -> AdamW:
    return AdamW(parameters, lr=0.01, weight_decay=0.1)


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {key for key, value in before.items() if not value.equal(after[key])}


@pytest.mark.parametrize("hardware", [None, CMO], ids=["digital", "cells"])
@pytest.mark.parametrize("statistics", [True, False], ids=["kept statistics", "trained statistics"])
def test_what_is_frozen_stays_bit_by_bit(hardware, statistics):
    """With all on that moves weights: noise, clipping at less than they have, decay, the retention loss."""
    everything = {"noise": OLD, "retention": RetentionLoss(), "clip_alpha": 1.0} if hardware else {}
    task = make(
        hardware=hardware, freeze=["conv1", "bn*"], optimizer=adam, freeze_bn_statistics=statistics, **everything
    )
    before = copy.deepcopy(task.network.state_dict())
    exact = effective_state_dict(task.network) if hardware else {}
    fit(task)
    assert moved(before, task.network.state_dict()) == {"conv2.weight", "linear.weight", "linear.bias"}
    if hardware:
        assert exact["conv1.weight"].equal(effective_state_dict(task.network)["conv1.weight"])


def test_only_what_is_frozen_keeps_its_statistics():
    task = make(freeze=["bn1"], freeze_bn_statistics=False)
    before = copy.deepcopy(task.network.state_dict())
    fit(task)
    assert not {key for key in moved(before, task.network.state_dict()) if key.startswith("bn1")}
    assert {"bn2.running_mean", "bn2.weight"} <= moved(before, task.network.state_dict())


def test_rates_by_pattern_follow_the_schedule():
    def schedule(optimizer, total_steps):
        return WarmupCosine(optimizer, 100, warmup_steps=10)

    task = make(lr_scale={"linear": 10, "conv?.weight": 0.5}, scheduler=schedule)
    trainer = fit(task, max_steps=1)
    convolutions, rest, linear = trainer.optimizers[0].param_groups
    assert [len(group["params"]) for group in (convolutions, rest, linear)] == [2, 4, 2]
    assert convolutions["lr"] == pytest.approx(0.5 * rest["lr"]) and linear["lr"] == pytest.approx(10 * rest["lr"])
    plain = fit(make(scheduler=schedule), max_steps=1).optimizers[0].param_groups[0]["lr"]
    assert rest["lr"] == pytest.approx(plain) and plain < 0.01  # in the midst of its warm-up


def test_layer_decay_is_timms():
    """Rates and weight decay of each parameter of a ViT, converted or not, as timm's own groups have them."""
    from hwaware.models import build_model

    name, options = "vit_tiny_patch16_224", {"hardware": CMO, "optimizer": adam, "layer_decay": 0.75}
    task = ImageClassification(name, num_classes=5, **options)
    digital = build_model(name, num_classes=5)
    theirs = {}
    places = {id(parameter): key for key, parameter in digital.named_parameters()}
    kept = digital.no_weight_decay()
    for group in param_groups_layer_decay(digital, 0.1, layer_decay=0.75, no_weight_decay_list=kept):
        for parameter in group["params"]:
            theirs[places[id(parameter)]] = (0.01 * group["lr_scale"], group["weight_decay"])
    places = {id(parameter): key for key, parameter in task.network.named_parameters()}
    ours = {
        places[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in task.make_optimizer().param_groups
        for parameter in group["params"]
    }
    assert ours.keys() == theirs.keys()
    for key, found in ours.items():
        assert found == pytest.approx(theirs[key]), key
    assert ours["blocks.0.attn.qkv.weight"][0] == pytest.approx(0.01 * 0.75**12)


def test_decay_and_pattern_multiply():
    task = make(lr_scale={"conv1": 4.0}, layer_decay=0.5, optimizer=lambda given: SGD(given, lr=1.0))
    rates = {id(p): group["lr"] for group in task.make_optimizer().param_groups for p in group["params"]}
    without = make(layer_decay=0.5, optimizer=lambda given: SGD(given, lr=1.0))
    plain = {id(p): group["lr"] for group in without.make_optimizer().param_groups for p in group["params"]}
    assert rates[id(task.network.conv1.weight)] == 4 * plain[id(without.network.conv1.weight)]
    assert rates[id(task.network.conv2.weight)] == plain[id(without.network.conv2.weight)]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"freeze": ["convl"]}, "model.freeze: 'convl' matches no layer. Did you mean 'conv"),
        ({"freeze": ["*"]}, "model.freeze: * leaves nothing to train; remove a pattern."),
        ({"lr_scale": {"lin": 2.0}}, "model.lr_scale: 'lin' matches no layer. Did you mean 'linear"),
        ({"lr_scale": {"linear": 0.0}}, "lr_scale 'linear': 0.0 must be above 0; use model.freeze to freeze a layer."),
        ({"lr_scale": {"conv*": 2.0, "conv1": 3.0}}, "'conv1.weight' is matched by 'conv*' and by 'conv1', with"),
        ({"layer_decay": 1.5}, "layer_decay=1.5 must lie in (0, 1]"),
        (
            {"hardware": CMO, "freeze": ["conv*", "linear"], "retention": RetentionLoss()},
            "retention changes weights in cells, but freeze leaves none trainable: set it to null.",
        ),
    ],
)
def test_mistakes(wrong, reason):
    with pytest.raises(UserError, match=re.escape(reason)):
        make(**wrong)


def test_a_callback_that_looks_for_a_backbone_is_told_what_to_do_instead():
    task = make(hardware=CMO)
    with pytest.raises(UserError, match=r"BackboneFinetuning finds no backbone in this task: set model\.freeze"):
        fit(task, BackboneFinetuning(unfreeze_backbone_at_epoch=1))
