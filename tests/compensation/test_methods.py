"""What every method must hold: it repairs, leaves no trace, is deterministic, and counts its cost."""

import copy
import math
from contextlib import contextmanager

import pytest
import torch

from hwaware.chip import Chip
from hwaware.compensation import (
    BnAdaBs,
    BnAdaBsDifference,
    BnFinetune,
    BnStats,
    ChannelAffine,
    ColumnDriftCompensation,
    Dora,
    DoraLowRank,
    DoraMagnitude,
    GlobalDriftCompensation,
    LnAffine,
    Lora,
    OfflineCompensation,
    RandomSparseAdaptation,
    ReadVerifyWrite,
    Repair,
    Schedule,
    VeraPlus,
)
from hwaware.compensation.costs import network_size
from hwaware.errors import UserError
from hwaware.hardware import load_hardware
from hwaware.nn import convert, to_digital

TEN_YEARS_S = 315_360_000.0
METHODS = [
    BnStats(batches=8),
    ChannelAffine(steps=60),
    VeraPlus(steps=60),
    VeraPlus(rank=2, full_kernel=True, constant=False, steps=60),
    Dora(steps=40),
    DoraMagnitude(steps=40),
    DoraLowRank(steps=40),
    Lora(steps=40),
    BnAdaBs(images=200),
    BnFinetune(images=100, batch_size=25),
    LnAffine(steps=60),
    GlobalDriftCompensation(),
    ColumnDriftCompensation(),
    RandomSparseAdaptation(share=0.2, images=100, batch_size=25),
    RandomSparseAdaptation(share=0.2, mask="importance", images=100, batch_size=25),
    ReadVerifyWrite(share=0.5),
    RandomSparseAdaptation(share=0.2, mask="error", images=100, batch_size=25),
    RandomSparseAdaptation(share=0.2, mask="error", epochs=0),
    BnAdaBsDifference(images=200),
]
IDS = [f"{method.name}{i}" for i, method in enumerate(METHODS)]


def _fit(method, model, data, chip):
    if isinstance(method, OfflineCompensation):
        return method.fit(model, (TEN_YEARS_S / 10, TEN_YEARS_S), data, 3, {})
    return method.fit(chip, TEN_YEARS_S, data)


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_repairs_a_chip_and_leaves_no_trace(method, data, model, error):
    relaxed = load_hardware("reram_cmo", mapping="offset")  # every weight falls: far off, and structured
    model = to_digital(model)
    convert(model, relaxed)
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    chip = Chip.program(model, seed=2_000_000)
    state = _fit(method, model, data, chip)
    with chip.at(TEN_YEARS_S):
        broken = error(model)
        with method.installed(model, state):
            repaired = error(model)
        assert error(model) == broken
    # One batch norm is all there is, and a scale cannot answer a shift.
    weak = method.name in ("bn_stats", "bn_adabs", "bn_adabs_difference", "bn_finetune", "gdc", "column_dc")
    # Nor are the statistics of this network those of any images, which differences start from.
    most = 1.05 if method.name == "bn_adabs_difference" else 1.0 if weak else 0.9
    assert repaired < most * broken
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_the_same_seed_gives_the_same_state(method, data, model):
    chip = Chip.program(model, seed=2_000_000)
    first, second = (_fit(method, model, data, chip) for _ in range(2))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_a_state_that_repairs_nothing_changes_nothing(method, data, model, error):
    """As a method starts: VeRA with b = 0, an affine of 0, the network's own statistics."""
    chip = Chip.program(model, seed=2_000_000)
    state = _fit(method, model, data, chip)
    if method.name == "rvw":
        pytest.skip("a cell that is written changes")
    if method.name.startswith("bn_"):
        own = dict(model.named_buffers()) | dict(model.named_parameters())
        neutral = {name: own[name.replace("/", ".")] for name in state}
    else:
        neutral = {name: torch.zeros_like(value) for name, value in state.items()}
        neutral |= {name: torch.ones_like(value) for name, value in state.items() if name.endswith(("/scale", "/d"))}
    with chip.at(TEN_YEARS_S):
        broken = error(model)
        with method.installed(model, neutral):
            assert error(model) == pytest.approx(broken, rel=1e-4)


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_counted_cost(method, data, model):
    size = network_size(model, data.predict, data.calibration(2))
    cost = method.cost(size, levels=3)
    chip = Chip.program(model, seed=2_000_000)
    state = _fit(method, model, data, chip)
    values = sum(value.numel() for name, value in state.items() if not name.endswith(("/where", "/counts")))
    if method.name == "rvw":
        cost = method.counted(cost, state)
        rewritten = 2 * values  # cells
        addresses = sum(_addresses(layer.weights, state[f"{n}/where"]) for n, layer in size.layers.items())
        assert cost.bytes_stored == 2 * rewritten + addresses
        assert 0.5 * rewritten < cost.cell_writes < 3 * rewritten
        assert cost.cell_reads == cost.cell_writes + rewritten
        assert cost.update_time_s == pytest.approx(6.5e-6 * cost.cell_writes)
        assert cost.update_time_slow_s == pytest.approx(4.5e-3 * cost.cell_writes)
        return
    assert cost.update_time_slow_s == cost.update_time_s
    fitted = [layer for name, layer in size.layers.items() if name != "head"]  # of which ten images show too little
    if method.name == "lora":
        values -= sum(layer.out_channels for layer in fitted)  # its scale is 1, and not stored
    fixed = sum(layer.out_channels for layer in fitted) if method.name == "dora_lowrank" else 0
    assert cost.trainable_percent == pytest.approx(100 * (values - fixed) / size.parameters)
    if isinstance(method, OfflineCompensation):
        bits = method.bits or 16
        scales = {"bn_stats": 0, "ln_affine": 2 * 2}.get(method.name, 2 * 2 * len(size.layers))
        seed = 8 if method.name == "vera_plus" else 0
        assert cost.bytes_stored == seed + 3 * (values * bits / 8 + scales)
        assert cost.images_kept == cost.cell_reads == 0
        return
    reference = 2 * values if method.name in ("gdc", "column_dc") else 0
    weights = sum(layer.weights for layer in size.layers.values())
    addresses = (
        sum(_addresses(layer.weights, state[f"{name}/where"]) for name, layer in size.layers.items())
        if (method.name == "rsa")
        else 0
    )
    mask = {"random": 8, "importance": weights / 8, "error": addresses}[method.mask] if method.name == "rsa" else 0
    reference += 2 * values if method.name == "bn_adabs_difference" else 0
    images = method.samples_kept
    teacher = 2 * weights if "ora" in method.name else 0  # fewer than its features for the images
    labels = images if method.name in ("rsa", "bn_finetune") else 0
    assert cost.bytes_stored == 2 * values + reference + mask + teacher + images * 3 * 12 * 12 + 2 * labels
    assert (cost.images_kept, cost.labels_kept) == (images, labels)
    reads = size.cells
    if "ora" in method.name:
        reads = sum(layer.cells for layer in fitted)
    elif method.name.startswith("bn_") or (method.name == "rsa" and method.mask != "error"):
        reads = 0
    assert cost.cell_reads == reads and cost.cell_writes == 0


def _addresses(weights, where):
    return len(where) * math.ceil(math.log2(weights)) / 8


@pytest.mark.parametrize(("weight", "answer"), [(0.5, 2 * 4 + 2), (1.0, 2 * 4)])
def test_what_a_teacher_says_is_kept_with_the_images(data, model, weight, answer):
    method = RandomSparseAdaptation(images=10)
    plain = method.cost(network_size(model, data.predict, data.calibration(2)), levels=1)
    taught = method.cost(network_size(model, data.predict, data.calibration(2), weight), levels=1)
    assert taught.bytes_stored - plain.bytes_stored == 10 * (answer - 2)
    assert (plain.labels_kept, taught.labels_kept) == (10, 10 if weight < 1 else 0)


def test_operations_are_counted_from_the_layers(data, model):
    size = network_size(model, data.predict, data.calibration(2))
    assert size.layers["stem"].macs == 8 * 36 * 27 and size.layers["depthwise"].macs == 8 * 36 * 9
    assert size.layers["twice"].macs == 2 * 8 * 36 * 8  # used twice
    assert size.layers["head"].macs == 32 and size.cells == 2 * sum(layer.weights for layer in size.layers.values())
    affine = ChannelAffine().cost(size, 1).extra_macs_percent
    assert affine == pytest.approx(100 * (4 * 36 * 8 + 36 * 8 + 4) / size.macs)


def test_bad_settings_and_networks_are_refused(device):
    with pytest.raises(UserError, match="rank=0"):
        VeraPlus(rank=0, constant=False)
    with pytest.raises(UserError, match="bits=1 "):
        VeraPlus(bits=1)
    with pytest.raises(UserError, match="images=0"):
        Dora(images=0)
    with pytest.raises(UserError, match="lora: rank=0"):
        Lora(rank=0)
    plain = torch.nn.Sequential(torch.nn.Linear(4, 4))
    convert(plain, device)
    with pytest.raises(UserError, match="no batch norm"):
        BnStats().check(plain)
    for method in (BnAdaBs(), BnFinetune()):
        with pytest.raises(UserError, match="no batch norm"):
            method.check(plain)
    with pytest.raises(UserError, match="no layer norm"):
        LnAffine().check(plain)
    with pytest.raises(UserError, match="share=0"):
        RandomSparseAdaptation(share=0)
    with pytest.raises(UserError, match=r"share=1\.1"):
        ReadVerifyWrite(share=1.1)
    with pytest.raises(UserError, match="images=1 "):
        BnAdaBs(images=1)


def test_tied_layers_share_their_cells(device):
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4))
    net[2].weight = net[0].weight
    report = convert(net, device)
    size = network_size(net, lambda network, batch: network(batch[0]), (torch.randn(2, 4),))
    assert size.cells == report.n_cells == 2 * 16


def test_fits_say_what_they_are_of_and_how_far_they_are(data, model):
    told, steps = [], []

    @contextmanager
    def fitting(what, total):
        told.append((what, total))
        yield lambda: steps.append(what)

    repair = Repair(BnStats(batches=3), model, [0.0, 3600.0, 86400.0], data, seed=0)
    repair.prepare(fitting=fitting)
    assert told == [(f"fitting bn_stats (BnStats), level {number} of 2", 3) for number in (1, 2)]
    assert len(steps) == 2 * (3 - 1)  # the last batch's step ends with the fit
    untold = Repair(BnStats(batches=3), model, [0.0, 3600.0, 86400.0], data, seed=0)
    untold.prepare()
    for age_s, state in repair._states.items():
        assert all(value.equal(untold._states[age_s][name]) for name, value in state.items())
    Repair(BnStats(batches=2), model, [3600.0], data, 0, Schedule(instances=2, per_decade=1)).prepare(fitting=fitting)
    assert told[-1] == ("planning bn_stats (BnStats): 10 ages", 10) and steps.count(told[-1][0]) == 10
