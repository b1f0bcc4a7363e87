"""What methods that are fitted on one chip do to it, beside repairing it."""

import copy
import math
from dataclasses import dataclass, replace

import pytest
import torch

from hwaware.chip import Chip, drift_free, mean_aged
from hwaware.compensation import (
    BnAdaBs,
    BnAdaBsDifference,
    BnFinetune,
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
    VeraPlus,
)
from hwaware.compensation.access import on_outputs
from hwaware.compensation.norms import batch_norms, installed_statistics
from hwaware.errors import UserError
from hwaware.hardware import Device, Encoding, Hardware
from hwaware.nn import analog_layers, convert, to_digital
from tests.placing import on

AGE_S = 315_360_000.0


@dataclass(frozen=True, kw_only=True)
class Decaying(Device):
    """Every cell keeps the same share of its conductance, and nothing else happens."""

    kept: float = 0.4

    def programming_std_us(self, g_us):
        return 0.0

    def drift_mean_us(self, g_us, age_s):
        return (self.kept - 1) * g_us

    def drift_std_us(self, g_us, age_s):
        return 0.0


def _decaying(**settings):
    device = Decaying(name="decaying", g_min_us=0.0, g_max_us=50.0, clamp="zero", **settings)
    return Hardware(device=device, encoding=Encoding(kappa=None))


def _stuck(hardware, on_rate, off_rate):
    return replace(hardware, device=replace(hardware.device, stuck_on=on_rate, stuck_off=off_rate))


@pytest.mark.parametrize("method", [GlobalDriftCompensation(), ColumnDriftCompensation()])
def test_a_scale_undoes_a_common_decay(method, model, data, error):
    convert(to_digital(model), _decaying())
    chip = Chip.program(model, seed=2_000_000)
    state = method.fit(chip, AGE_S, data)
    assert all(torch.allclose(value, torch.tensor(2.5), rtol=1e-3) for value in state.values())
    with chip.at(AGE_S):
        broken = error(model)
        with method.installed(model, state):
            assert error(model) < 1e-5 * broken


def test_a_column_that_lost_its_current_is_not_scaled_without_bound(model, data):
    convert(to_digital(model), _decaying(kept=0.0))
    with torch.no_grad():
        model.head.weight[0] = 0  # nor was there any
    state = ColumnDriftCompensation().fit(Chip.program(model, seed=2_000_000), AGE_S, data)
    assert all(value.isfinite().all() and (value <= 1.01e4).all() for value in state.values())
    assert state["head/scale"][0] == 0 and state["head/scale"][1] > 9e3


def test_an_error_inside_leaves_no_trace(model, data):
    chip = Chip.program(model, seed=2_000_000)
    methods = [BnAdaBs(images=50), BnFinetune(images=50), Dora(steps=2), RandomSparseAdaptation(images=50)]
    methods += [VeraPlus(steps=2), LnAffine(steps=2)]
    states = {}
    for method in methods:
        offline = isinstance(method, OfflineCompensation)
        ages_s = (AGE_S, AGE_S)
        states[method] = method.fit(model, ages_s, data, 0, {}) if offline else method.fit(chip, AGE_S, data)
    before = copy.deepcopy(model.state_dict())

    def fails(*_):
        raise RuntimeError("midway")

    broken = replace(data, loss=fails, predict=fails)
    for method, state in states.items():
        with pytest.raises(RuntimeError, match="midway"):
            with method.installed(model, state):
                fails()
        with pytest.raises(RuntimeError, match="midway"):
            if isinstance(method, OfflineCompensation):
                method.fit(model, (AGE_S, AGE_S), broken, 0, {})
            else:
                method.fit(chip, AGE_S, broken)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert all(layer._installed is None for layer in analog_layers(model).values())
        assert all(p.requires_grad for p in model.parameters()) and model.norm.momentum == 0.1
        assert not any(m.training or m._forward_hooks for m in model.modules())


def test_adabs_measures_what_torch_would(model, data):
    chip = Chip.program(model, seed=2_000_000)
    state = BnAdaBs(images=200).fit(chip, AGE_S, data)
    with installed_statistics(model, {}), chip.at(AGE_S, purpose="calibration"), torch.no_grad():
        for norm in batch_norms(model).values():
            norm.train()
            norm.momentum = 1.0
        model(data.calibration(200)[0])
        for name, norm in batch_norms(model).items():
            torch.testing.assert_close(state[f"{name}/running_mean"], norm.running_mean, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(state[f"{name}/running_var"], norm.running_var, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("mask", ["random", "importance"])
def test_adaptation_touches_its_share_of_weights_only(mask, model, data):
    chips = [Chip.program(model, seed=2_000_000 + number) for number in range(2)]
    method = RandomSparseAdaptation(share=0.1, mask=mask, images=50, epochs=1, batch_size=25)
    states = [method.fit(chip, AGE_S, data) for chip in chips]
    assert not torch.equal(states[0]["grouped/where"], states[1]["grouped/where"])  # each chip has its own mask
    with chips[0].at(AGE_S):
        before = {name: layer.realised_weight().clone() for name, layer in analog_layers(model).items()}
        with method.installed(model, states[0]):
            for name, layer in analog_layers(model).items():
                moved = (layer.realised_weight() != before[name]).sum().item()
                assert 0 < moved <= max(1, round(0.1 * layer.weight.numel())) == len(states[0][f"{name}/where"])
    if mask == "importance":
        picked = model.grouped.weight.flatten()[states[0]["grouped/where"]].abs().mean()
        assert picked > 1.2 * model.grouped.weight.abs().mean()


def test_rewriting_reaches_the_tolerance_and_stuck_cells_stay(model, device, data):
    linear = replace(device.encoding, kappa=None, scale="tensor")
    convert(to_digital(model), replace(_stuck(device, 0.05, 0.1), encoding=linear))
    chip = Chip.program(model, seed=2_000_000)
    method = ReadVerifyWrite(share=0.5, tolerance=0.02, max_writes=40)
    state = method.fit(chip, AGE_S, data)
    stuck_before = 0
    for name, target in chip.targets.items():
        exact, aged = target.latent.flatten(), chip.weight_at(name, AGE_S, "calibration").flatten()
        where = state[f"{name}/where"]
        assert exact[where].abs().min() >= exact.abs().kthvalue(len(exact) - len(where) + 1).values - 1e-7
        stuck = (chip.stuck_cells(name)[0] | chip.stuck_cells(name)[1]).flatten()[where]
        left = (state[f"{name}/values"] - exact[where]).abs() / target.scale
        assert (left[~stuck] <= 2 * 0.02 + 1e-5).all()  # two cells, each within its tolerance
        both = (chip.stuck_cells(name)[0] & chip.stuck_cells(name)[1]).flatten()[where]
        torch.testing.assert_close(state[f"{name}/values"][both], aged[where][both], rtol=1e-4, atol=1e-5)
        stuck_before += int(stuck.sum())
    assert stuck_before > 10


def test_stuck_cells_are_those_that_do_not_move(model, device):
    chip = Chip.program(on(model, _stuck(device, 0.1, 0.2)), seed=2_000_000)
    window = device.device.g_min_us, device.device.g_max_us
    for name in chip.targets:
        for young, old, stuck in zip(
            chip.conductances_at(name, 0.0), chip.conductances_at(name, AGE_S), chip.stuck_cells(name), strict=True
        ):
            assert torch.equal(young[stuck], old[stuck])
            assert (young[stuck] == window[0]).logical_or(young[stuck] == window[1]).all()
    stuck = torch.cat([cells.flatten() for name in chip.targets for cells in chip.stuck_cells(name)])
    assert 0.2 < stuck.float().mean() < 0.4


def test_the_weights_that_a_chip_has_most_wrong_are_right_again(model, device, data):
    convert(to_digital(model), _stuck(device, 0.02, 0.1))
    chip = Chip.program(model, seed=2_000_000)
    method = RandomSparseAdaptation(share=0.1, mask="error", epochs=0)
    state = method.fit(chip, AGE_S, data)
    for name, layer in analog_layers(model).items():
        wanted = layer.effective_weight().flatten()
        error = (chip.weight_at(name, AGE_S, "calibration").flatten() - wanted).abs()
        where = state[f"{name}/where"]
        rest = torch.ones_like(error, dtype=torch.bool).index_fill(0, where, False)
        assert error[where].min() >= error[rest].max()
        with chip.at(AGE_S, "calibration"), method.installed(model, state):
            torch.testing.assert_close(layer.realised_weight().flatten()[where], wanted[where], rtol=1e-2, atol=1e-3)
    assert method.samples_kept == 0 and RandomSparseAdaptation().samples_kept == 2600


def test_rewritten_cells_answer_the_reference_as_it_is_now(model, device, data):
    """All cells drift by what their reference does, too: cells that are written as on the first day would be off."""
    referenced = replace(device, encoding=replace(device.encoding, mapping="offset_reference"))
    convert(to_digital(model), referenced)
    chip = Chip.program(model, seed=2_000_000)
    state = ReadVerifyWrite(share=1.0).fit(chip, AGE_S, data)
    for name, layer in analog_layers(model).items():
        wanted = layer.effective_weight().flatten()
        error = state[f"{name}/values"] - wanted
        assert error.abs().mean() < 0.05 * wanted.abs().max(), name


def test_verifying_is_by_noisy_reads_that_a_seed_repeats(model, device, data):
    """Reads that miss by more than the tolerance let wrong cells pass, and right ones be written again."""
    errors, counts = [], []
    for noise in (0.0, 1.0):
        noisy = replace(device.device, read_coefficient_us=noise, programming_std_offset_us=1.0)
        convert(to_digital(model), replace(device, device=noisy, encoding=replace(device.encoding, kappa=None)))
        chip, method = Chip.program(model, seed=2_000_000), ReadVerifyWrite(share=1.0, max_writes=30)
        state, again = (method.fit(chip, AGE_S, data) for _ in range(2))
        assert all(torch.equal(value, again[key]) for key, value in state.items())
        wanted = chip.targets["grouped"].latent.flatten()
        errors.append((state["grouped/values"] - wanted).square().mean().sqrt() / chip.targets["grouped"].scale.max())
        counts.append(state["grouped/counts"])
    assert errors[0] < 0.015 and errors[1] > 2 * errors[0]
    assert counts[1][0] > counts[0][0]


def test_rewritten_cells_are_right_when_they_are_written(model, device, data):
    """Not on average over ages to come, as targets are chosen before the first day."""
    convert(to_digital(model), replace(device, encoding=replace(device.encoding, mean_target_ages_s=(AGE_S,))))
    chip = Chip.program(model, seed=2_000_000)
    state = ReadVerifyWrite(share=1.0).fit(chip, AGE_S, data)
    for name, layer in analog_layers(model).items():
        error = state[f"{name}/values"] - layer.effective_weight().flatten()
        assert error.mean().abs() < 0.005 * layer.weight.abs().max(), name


def test_differences_keep_statistics_of_other_images(model, data):
    """Statistics that stored images do not have survive on a chip without errors; plain AdaBS loses them."""
    convert(to_digital(model), _decaying(kept=1.0))
    with torch.no_grad():
        model.norm.running_mean += 0.3
        model.norm.running_var *= 1.7
    own = {key: value.clone() for key, value in model.norm.named_buffers()}
    chip = Chip.program(model, seed=2_000_000)
    kept = BnAdaBsDifference(images=200).fit(chip, AGE_S, data)
    torch.testing.assert_close(kept["norm/running_mean"], own["running_mean"], rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(kept["norm/running_var"], own["running_var"], rtol=1e-2, atol=1e-2)
    lost = BnAdaBs(images=200).fit(chip, AGE_S, data)
    assert (lost["norm/running_mean"] - own["running_mean"]).abs().max() > 0.2


def test_layers_that_samples_show_little_of_are_left_alone(model, data):
    chip = Chip.program(model, seed=2_000_000)
    for method in (Dora(images=31, steps=2), DoraMagnitude(images=31), Lora(images=31, steps=2)):
        state = method.fit(chip, AGE_S, data)
        assert "head/scale" not in state and "stem/scale" in state
        with chip.at(AGE_S):
            alone = model.head.realised_weight().clone()
            with method.installed(model, state):
                assert torch.equal(model.head.realised_weight(), alone)
    assert "head/scale" in Dora(images=32, steps=2).fit(chip, AGE_S, data)


def test_magnitudes_are_the_best_there_are(model, data):
    """Of a channel that decayed by a factor, at once and whatever the factor."""
    convert(to_digital(model), _decaying(kept=0.02))
    state = DoraMagnitude(images=64, steps=1).fit(Chip.program(model, seed=2_000_000), AGE_S, data)
    for key, value in state.items():
        if key.endswith("/scale"):
            torch.testing.assert_close(value, torch.full_like(value, 50.0), rtol=1e-2, atol=0)


def test_harm_is_not_installed(model, data, error):
    @dataclass(frozen=True)
    class Harm(DoraMagnitude):
        def fit(self, chip, age_s, data):
            return {key: value * 3 for key, value in super().fit(chip, age_s, data).items()}

    chip, good = Chip.program(model, seed=2_000_000), Repair(DoraMagnitude(images=64), model, [AGE_S], data, 0)
    bad = Repair(Harm(images=64), model, [AGE_S], data, 0)
    with chip.at(AGE_S):
        alone = error(model)
        with bad(chip, AGE_S):
            assert error(model) == alone
        with good(chip, AGE_S):
            assert error(model) != alone
    assert not good.refused
    (refusal,) = bad.refused
    assert refusal.chip_seed == chip.seed and refusal.age_s == AGE_S
    assert refusal.error_after > refusal.error_before > 0


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_outputs_that_are_no_numbers_are_not_installed(factor, model, data, error):
    @dataclass(frozen=True)
    class Broken(DoraMagnitude):
        def fit(self, chip, age_s, data):
            return {key: value * factor for key, value in super().fit(chip, age_s, data).items()}

    chip, repair = Chip.program(model, seed=2_000_000), Repair(Broken(images=64), model, [AGE_S], data, 0)
    with chip.at(AGE_S):
        alone = error(model)
        with repair(chip, AGE_S):
            assert error(model) == alone
    assert [refusal.error_after for refusal in repair.refused] == [math.inf]


@pytest.mark.parametrize("method", [DoraMagnitude(images=64), Dora(images=64, steps=2)])
def test_magnitudes_of_nearly_dead_channels_are_numbers(method, model, data):
    """They ask for more than half precision has."""
    convert(to_digital(model), _decaying(kept=3e-6))
    state = method.fit(Chip.program(model, seed=2_000_000), AGE_S, data)
    assert all(value.isfinite().all() for value in state.values())


def test_low_rank_parts_are_fitted_from_the_digital_networks_features(model, data, monkeypatch):
    """So that what the layers before give on the chip, repaired or not, is nothing to them; to DoRA it is."""
    inputs = {}
    fit_layer = Dora._fit_layer

    def spied(method, layer, x, y, target):
        inputs.setdefault(method.name, []).append(x.clone())
        return fit_layer(method, layer, x, y, target)

    exact = []
    with drift_free(model), on_outputs(model, lambda name, layer, x, y: exact.append(x.clone()) or y):
        data.predict(model, data.calibration(64))
    monkeypatch.setattr(Dora, "_fit_layer", spied)
    chip = Chip.program(model, seed=2_000_000)
    of_first_use = [0, 1, 2, 3, 5]  # one layer is used twice
    for method in (Lora, DoraLowRank, Dora, DoraMagnitude):
        method(images=64, **({} if method is DoraMagnitude else {"steps": 2})).fit(chip, AGE_S, data)
        found = inputs[method.name]
        assert torch.equal(found[0], exact[0])  # the images themselves
        same = [torch.equal(x, exact[use]) for x, use in zip(found[1:], of_first_use[1:], strict=True)]
        assert same == [method.from_teacher] * 4


@pytest.mark.parametrize("method", [Dora(images=32, steps=5), BnAdaBsDifference(images=64)])
@pytest.mark.parametrize("better", ["drift_free", "mean_aged"])
def test_chips_are_calibrated_towards_the_better_network(method, better, model, data):
    """By the loss on training batches: of a network that is right as it is, or once it has decayed."""
    convert(to_digital(model), _decaying(kept=0.6))
    teacher = copy.deepcopy(model)
    chip = Chip.program(model, seed=2_000_000)

    def loss(network, batch):
        with drift_free(teacher) if better == "drift_free" else mean_aged(teacher, AGE_S):
            return (network(batch[0]) - teacher(batch[0])).square().mean()

    data = replace(data, loss=loss)
    repair = Repair(method, model, [AGE_S], data, 0)
    state = repair._in_field(AGE_S).fit(chip, AGE_S, data)
    explicit = replace(method, targets=better)
    expected = explicit.fit(chip, AGE_S, data)
    other = replace(method, targets=({"drift_free", "mean_aged"} - {better}).pop()).fit(chip, AGE_S, data)
    assert all(torch.equal(value, expected[key]) for key, value in state.items())
    assert any(not torch.equal(value, other[key]) for key, value in state.items())
    assert "targets" not in method.params and f'"targets": "{better}"' in explicit.params


def test_a_chip_that_is_the_mean_of_all_is_left_as_it_is(model, data):
    convert(to_digital(model), _decaying(kept=0.6))  # all cells decay alike
    chip = Chip.program(model, seed=2_000_000)
    found = DoraMagnitude(images=64, targets="mean_aged").fit(chip, AGE_S, data)
    for name in ("stem", "depthwise", "grouped", "head"):
        torch.testing.assert_close(found[f"{name}/scale"], torch.ones(len(found[f"{name}/scale"])), rtol=5e-3, atol=0)


def test_unknown_targets():
    with pytest.raises(UserError, match=r"dora: targets 'mean_age' is unknown. Did you mean 'mean_aged'\?"):
        Dora(targets="mean_age")
