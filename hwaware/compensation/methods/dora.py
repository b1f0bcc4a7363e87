"""DoRA calibration: layer by layer, on a few unlabelled images, with the features of the digital network as target.

W. Dong et al., arXiv 2504.03763, based on DoRA (Liu et al., arXiv 2402.09353). The full text is not public: the
optimiser, the steps and the position of the features (before batch norm) are reconstructions.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from hwaware.chip import Chip
from hwaware.compensation.access import frozen, on_outputs
from hwaware.compensation.base import AUTO, FitData, InFieldCompensation, State, check_settings
from hwaware.compensation.costs import HALF_BYTES, SRAM_WRITE_S, Cost, NetworkSize
from hwaware.compensation.norms import stored_half
from hwaware.nn import AnalogLayer, Beside, analog_layers, installed_beside

#: Unfolded inputs per pass, to limit memory.
_ELEMENTS = 2**25

#: Samples times output positions below which a layer is not fitted: ten class tokens do not determine a head with a
#: thousand classes.
LEAST_POSITIONS = 32


@dataclass(frozen=True)
class Dora(InFieldCompensation):
    """``W' = m·(W + BA)/‖W + BA‖`` in each analog layer, one norm per output channel; deployed as a scale, B and A.

    W are the weights read from the chip at calibration. Each layer is fitted once to the digital network's output, with
    the outputs of the calibrated layers before it as input. A layer with fewer than :data:`LEAST_POSITIONS` samples
    times positions is not fitted. For any BA, the best magnitude of each channel has a closed form: the norm times
    ``out·target / out·out`` over samples and positions. So only BA is optimised.

    Attributes:
        images: number of calibration samples.
        rank: rows of A.
        steps, lr: steps and learning rate of Adam for BA, per layer.
        seed: seed of A.
        targets: the network whose features are the target: ``drift_free``, ``mean_aged`` or ``auto``
            (:class:`~hwaware.compensation.InFieldCompensation`).
    """

    name: ClassVar[str] = "dora"
    magnitude: ClassVar[bool] = True
    normalised: ClassVar[bool] = True

    #: Whether layers are fitted with the digital network's features as input, instead of the calibrated chip's.
    from_teacher: ClassVar[bool] = False

    images: int = 10
    rank: int = 1
    steps: int = 100
    lr: float = 0.01
    seed: int = 0
    targets: str = AUTO

    def __post_init__(self) -> None:
        check_settings(self, images=1, rank=0 if self.magnitude else 1, steps=1)

    def fit(self, chip: Chip, age_s: float, data: FitData) -> State:
        batch = data.calibration(self.images)
        taught: dict[str, list[tuple[Tensor, Tensor]]] = {}

        def record(name: str, layer: AnalogLayer, x: Tensor, y: Tensor) -> Tensor:
            inputs = x.clone() if self.from_teacher else x[:0]
            taught.setdefault(name, []).append((inputs, y.clone()))  # an in-place activation may follow
            return y

        model, state = chip.model, {}
        with torch.no_grad(), frozen(model):
            with self.wanted(model, age_s), on_outputs(model, record):
                data.predict(model, batch)
            few = {name for name, uses in taught.items() if _positions(model, name, uses) < LEAST_POSITIONS}

            def fit_then_apply(name: str, layer: AnalogLayer, x: Tensor, y: Tensor) -> Tensor:
                inputs, target = taught[name].pop(0)
                if name in few:
                    return y
                if f"{name}/scale" not in state:  # a reused module is fitted at its first use
                    if self.from_teacher:
                        x_fit, y_fit = inputs, layer.forward(inputs)  # without the hook, which would fit again
                    else:
                        x_fit, y_fit = x, y
                    for what, value in self._fit_layer(layer, x_fit, y_fit, target).items():
                        state[f"{name}/{what}"] = value
                repair = _beside(state, name)
                if layer.converters is None:
                    return layer.apply_weight(x, repair.on_weight(layer.realised_weight()), layer.bias)
                return layer.with_bias(repair.on_output(layer, x, layer.without_bias(y)))

            with chip.at(age_s, purpose="calibration"), on_outputs(model, fit_then_apply):
                data.predict(model, batch)
        return state

    @torch.enable_grad()
    @torch.autocast("cpu", enabled=False)  # in single precision, whatever the network runs in
    @torch.autocast("cuda", enabled=False)
    def _fit_layer(self, layer: AnalogLayer, x: Tensor, y: Tensor, target: Tensor) -> dict[str, Tensor]:
        groups = layer.groups
        weight = layer.realised_weight().detach().float()
        w = weight.flatten(1).unflatten(0, (groups, -1))
        # The squared error depends on the images only through these moments, so a step costs the same for any number.
        xx, tx, tt = _second_moments(layer, x, target)
        if layer.converters is None:
            wxx = w @ xx
            wxxw, wtx = (wxx * w).sum(-1), (w * tx).sum(-1)
        else:  # the output of an ADC is not exactly W x
            _, wxx, _ = _second_moments(layer, x, y)
            out, wanted = (_by_group(layer, layer.without_bias(v.float()), groups) for v in (y, target))
            wxxw, wtx = out.square().sum(-1), (out * wanted).sum(-1)
        draw = torch.Generator().manual_seed(self.seed)
        bound = math.sqrt(3 / weight[0].numel())  # so that A's rows have unit norm on average
        start = (2 * torch.rand((self.rank, *weight.shape[1:]), generator=draw) - 1) * bound
        a = start.to(weight.device).requires_grad_(True)
        b = weight.new_zeros(len(weight), self.rank).requires_grad_(True)
        read = _norms(weight)

        def products() -> tuple[Tensor, Tensor]:
            """``out·out`` and ``out·target`` of each channel, before scaling."""
            rows, by_group = a.flatten(1), b.unflatten(0, (groups, -1))
            branch = 2 * wxx @ rows.T + by_group @ (rows @ xx @ rows.T)
            return wxxw + (by_group * branch).sum(-1), wtx + (by_group * (tx @ rows.T)).sum(-1)

        def scale(out_out: Tensor, out_target: Tensor) -> Tensor:
            if self.magnitude:  # the best scale; 1 for a channel without output
                best = out_target / out_out.clamp(min=1e-30)
                return torch.where(out_out > 1e-12 * tt, best, torch.ones_like(best))
            if not self.normalised:
                return torch.ones_like(out_out)
            return (read / _norms(weight + _product(weight, a, b)).clamp(min=1e-12)).view_as(out_out)

        if self.rank:
            optimizer = torch.optim.Adam((a, b), lr=self.lr)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
            for _ in range(self.steps):
                out_out, out_target = products()
                by_channel = scale(out_out, out_target)
                # Relative to the target, so that one learning rate suits all layers.
                loss = (by_channel.square() * out_out - 2 * by_channel * out_target).sum() / tt
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        with torch.no_grad():
            stored = {"scale": scale(*products()).flatten(), "a": a, "b": b}
            # An almost dead channel may need a larger scale than half precision can hold.
            return {what: stored_half(value.detach()) for what, value in stored.items()}

    def installed(self, model: nn.Module, state: State) -> AbstractContextManager[None]:
        # Deployed beside the cells. Merged into the weights it is the same function with fewer passes over activations.
        return installed_beside(model, lambda name, layer: _beside(state, name))

    def cost(self, size: NetworkSize, levels: int) -> Cost:
        layers = [one for one in size.layers.values() if one.positions * self.images >= LEAST_POSITIONS]
        fitted = sum(self.rank * (layer.in_channels * layer.kernel + layer.out_channels) for layer in layers)
        scales = sum(layer.out_channels for layer in layers)
        values = fitted + scales * self.normalised  # the norm must be stored even if the magnitude is not fitted
        fitted += scales * self.magnitude
        macs = sum(layer.positions * self.rank * layer.groups * layer.in_channels * layer.kernel for layer in layers)
        macs += sum(layer.outputs * (self.rank + self.normalised) for layer in layers)
        # The digital network's features of the images, or the weights that produce them.
        features = self.images * sum(layer.outputs + layer.inputs * self.from_teacher for layer in layers)
        teacher = min(features, sum(layer.weights for layer in size.layers.values()))
        return Cost(
            bytes_stored=(values + teacher) * HALF_BYTES + self.images * size.sample_bytes,
            extra_macs_percent=100 * macs / size.macs,
            images_kept=self.images,
            cell_reads=sum(layer.cells for layer in layers),
            update_time_s=(self.steps * (fitted - scales * self.magnitude) + scales * self.normalised) * SRAM_WRITE_S,
            trainable_percent=100 * fitted / size.parameters,
        )


@dataclass(frozen=True)
class DoraMagnitude(Dora):
    """Only the magnitude of DoRA: a scale for each output channel."""

    name: ClassVar[str] = "dora_magnitude"
    rank: int = 0


@dataclass(frozen=True)
class DoraLowRank(Dora):
    """Only the low-rank part of DoRA: the magnitudes that were read stay.

    Fitted with the digital network's features as input, like :class:`Lora`. With the chip's features, which drift has
    shrunk, the fit would restore the mean of each channel but not its spread, and the error would grow from layer to
    layer.
    """

    name: ClassVar[str] = "dora_lowrank"
    from_teacher: ClassVar[bool] = True
    magnitude: ClassVar[bool] = False


@dataclass(frozen=True)
class Lora(Dora):
    """LoRA, ``W' = W + BA``, calibrated in the same way as :class:`DoraLowRank`."""

    name: ClassVar[str] = "lora"
    from_teacher: ClassVar[bool] = True
    magnitude: ClassVar[bool] = False
    normalised: ClassVar[bool] = False


@torch.no_grad()
def _second_moments(layer: AnalogLayer, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Second moments over samples and positions: of unfolded inputs ``[groups, n, n]``, of targets and inputs
    ``[groups, C_out/groups, n]``, and of targets; the bias is subtracted from the targets."""
    outputs, rows, *kernel = layer.rows_shape
    groups, n = layer.groups, math.prod((rows, *kernel))
    xx, tx = x.new_zeros(groups, n, n, dtype=torch.float32), x.new_zeros(groups, outputs // groups, n).float()
    tt = xx.new_zeros(())
    # A one-hot weight unfolds the inputs with the layer's own stride and padding.
    pick = torch.eye(n, device=x.device).view(n, rows, *kernel).repeat(groups, *[1] * (1 + len(kernel)))
    size = max(1, _ELEMENTS * len(x) // (n * groups * (target.numel() // outputs)))
    for part, wanted in zip(x.split(size), target.split(size), strict=True):
        wanted = layer.without_bias(wanted.float())
        picked = layer.apply_weight(part.float(), pick) if kernel else part.float()
        picked, wanted = (_by_group(layer, value, groups) for value in (picked, wanted))
        xx += picked @ picked.mT
        tx += wanted @ picked.mT
        tt += wanted.square().sum()
    return xx, tx, tt.clamp(min=1e-12)


def _by_group(layer: AnalogLayer, values: Tensor, groups: int) -> Tensor:
    """Outputs of a layer as ``[groups, channels of a group, samples and positions]``."""
    return values.movedim(layer.channel_dim, 0).reshape(groups, values.shape[layer.channel_dim] // groups, -1)


def _norms(weight: Tensor) -> Tensor:
    """L2 norm of the weights of each output channel."""
    return weight.flatten(1).norm(dim=1)


def _product(weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``BA`` in the shape of the weight."""
    return (b @ a.flatten(1)).view_as(weight)


def _positions(model: nn.Module, name: str, uses: list[tuple[Tensor, Tensor]]) -> int:
    """Samples times output positions of a layer, over all its uses."""
    return sum(y.numel() for _, y in uses) // analog_layers(model)[name].rows_shape[0]


def _beside(state: State, name: str) -> Beside:
    """The branch of a layer: ``m·(W + BA)/‖W + BA‖``, with the fraction stored as a scale per output channel.

    Empty for a layer that was not fitted.
    """
    if f"{name}/scale" not in state:
        return Beside()
    scale, a, b = (state[f"{name}/{what}"] for what in ("scale", "a", "b"))
    return Beside(b @ a.flatten(1), scale)
