"""One simulated chip: a network programmed into the cells of one sampled instance of its hardware."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hwaware.errors import UserError
from hwaware.hardware import Codes, Device, Hardware
from hwaware.hardware.crossbar.places import changed
from hwaware.hardware.devices.bootstrap import device_of_chip
from hwaware.hardware.devices.die import Die, die_of
from hwaware.hardware.devices.faults import is_stuck, stick
from hwaware.hardware.draws import stream
from hwaware.hardware.encoding.curve import realised_slope
from hwaware.hardware.encoding.scale import normalised
from hwaware.nn import (
    AnalogLayer,
    ReadNoise,
    analog_layers,
    installed_digits,
    installed_output_noise,
    installed_read_noise,
    installed_weights,
    weight_owners,
)

#: First seed of the chips for choosing settings; training seeds are below.
VALIDATION_CHIP_SEED_START = 1_000_000

#: First seed of the chips that results are reported on; they are used for nothing else.
CHIP_SEED_START = 2_000_000

_BLOCK = 65536  # cells: few calls, and buffers (256 KB) that stay in the cache


@dataclass(frozen=True)
class Target:
    """The weights that were programmed into one layer's cells.

    Attributes:
        hardware: the layer's hardware.
        owner: the layer whose name keys the cells' draws; tied layers share it.
        latent: latent weights, ``[C_out, C_in/groups, *kernel]``.
        scale: their scale ``s``, broadcastable to them.
        groups: groups of a convolution; 1 otherwise.
    """

    hardware: Hardware
    owner: str
    latent: Tensor
    scale: Tensor
    groups: int = 1


class _Aged(NamedTuple):
    """What a layer multiplies with at an age."""

    weight: Tensor
    read_noise: ReadNoise | None = None
    digits: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Chip:
    """A network on one simulated chip: each cell has its own programming error, drift path and faults for life.

    The draws of a cell depend only on the chip's seed, the layer's name and the quantity, and are made on the CPU. So
    the chip is the same on any machine, on any rank and in any order of ages, and nothing is stored per age. If a
    device states a spread between dies, the chip also draws its own constants: see
    :class:`~hwaware.hardware.devices.die.Die`.

    Attributes:
        model: the network that runs on the chip.
        seed: seed of the chip, which identifies it.
        targets: the programmed weights, by layer; later training does not change them.
        drawn: whether the chip draws its devices' constants from their bootstrap uncertainty, if devices state one.

    Examples:
        >>> import hwaware, torch
        >>> network, x = torch.nn.Sequential(torch.nn.Linear(8, 4)).requires_grad_(False), torch.ones(1, 8)
        >>> report = hwaware.convert(network, hwaware.load_hardware("reram_cmo", mapping="differential"))
        >>> exact, chip = network(x), hwaware.Chip.program(network, seed=2_000_000)
        >>> with chip.at(age_s=315_360_000):  # ten years
        ...     torch.equal(network(x), exact)
        False
        >>> torch.equal(network(x), exact)
        True
    """

    model: nn.Module
    seed: int
    targets: dict[str, Target]
    drawn: bool = False

    @classmethod
    def program(cls, model: nn.Module, seed: int, drawn: bool = False) -> Chip:
        """Programs a converted network into a chip.

        Args:
            model: a network after :func:`hwaware.nn.convert`; it is not changed.
            seed: seed of the chip.
            drawn: whether the chip draws its devices' constants (:mod:`hwaware.hardware.devices.bootstrap`). Targets
                are always computed with the devices' own constants.

        Returns:
            The chip at age 0. Use :meth:`at` to run the network at an age.

        Raises:
            UserError: the network has no analog layer, or weights that are not finite.
        """
        if not isinstance(seed, int) or seed < 0:
            raise UserError(f"seed={seed!r} of a chip must be a whole number of 0 or more.")
        layers, owners = analog_layers(model), weight_owners(model)
        if not layers:
            raise UserError("the network has no analog layer: call convert(model, hardware) first.")
        targets: dict[str, Target] = {}
        for name, layer in layers.items():
            if owners[name] != name:
                targets[name] = targets[owners[name]]
                continue
            if not torch.stack(layer.weight.detach().aminmax()).isfinite().all():  # one pass; a NaN is both extremes
                raise UserError(f"the weight of layer '{name}' has values that are not finite (NaN or infinite).")
            latent = layer.latent().detach().clone()
            targets[name] = Target(layer.hardware, name, latent, layer.weight_scale(), layer.groups)
        return cls(model, seed, targets, drawn)

    @property
    def devices(self) -> tuple[Device, ...]:
        """The memory technologies of the chip's cells, each once."""
        return tuple(dict.fromkeys(target.hardware.device for target in self.targets.values()))

    def device(self, name: str) -> Device:
        """The device of a layer on this chip, before the draws of its die."""
        device = self.targets[name].hardware.device
        return device_of_chip(device, self.seed) if self.drawn else device

    def die(self, name: str) -> Die:
        """The die of a layer's cells on this chip."""
        return die_of(self.device(name), self.seed)

    @contextmanager
    def at(self, age_s: float, purpose: str = "evaluation") -> Iterator[nn.Module]:
        """Context in which the network runs with this chip's weights at an age; restored on exit, also on an exception.

        Args:
            age_s: age (s); 0 is just written: only programming error and stuck cells.
            purpose: purpose of the reading. Read noise is drawn once per (chip, age, purpose), so it depends neither on
                batch size nor on rank, and differs between calibration and evaluation. Output noise of converters is
                drawn for every output from the same key, so it depends on the order of samples; so does read noise if
                the crossbar draws it for each product.

        Yields:
            The network.

        Raises:
            UserError: a device's law does not cover the age.
        """
        for device in self.devices:  # before anything is installed
            device.check_age(age_s)

        layers = analog_layers(self.model).items()
        aged = {name: self._aged(name, layer, age_s, purpose) for name, layer in layers}

        def output_draws(name: str, layer: AnalogLayer) -> torch.Generator:
            return stream(f"{self.seed}/{name}/output/{_reading(age_s, purpose)}", layer.weight.device)

        with (
            installed_weights(self.model, lambda name, layer: aged[name].weight),
            installed_output_noise(self.model, output_draws),
            installed_read_noise(self.model, lambda name, layer: aged[name].read_noise),
            installed_digits(self.model, lambda name, layer: aged[name].digits),
        ):
            yield self.model

    @torch.no_grad()
    def weight_at(self, name: str, age_s: float, purpose: str = "evaluation") -> Tensor:
        """Weights ``ŵ = s·sinh(κv̂)/sinh(rκ)`` of a layer at an age (s), in its shape, dtype and torch device.

        Raises:
            UserError: the device's law does not cover the age.
        """
        target = self.targets[name]
        hardware, encoding = target.hardware, target.hardware.encoding
        if hardware.crossbar.wires is not None:
            cells = self.conductances_at(name, age_s, purpose)
            return self._weight(target, self.read_as(name, cells, age_s, purpose))
        blocks = []
        reference = self.reference_at(name, age_s, purpose)
        references = repeat(()) if reference is None else ((part,) for part in reference.flatten().split(_BLOCK))
        for cells, against in zip(self._aged_blocks(name, age_s, purpose), references, strict=False):
            blocks.append(encoding.realised(hardware.decode((*encoding.merged(cells), *against))))
        return self._weight(target, torch.cat(blocks).view(target.latent.shape))

    @torch.no_grad()
    def _aged(self, name: str, layer: AnalogLayer, age_s: float, purpose: str) -> _Aged:
        """What a layer's products need at an age (s), from one ageing of its cells."""
        target = self.targets[name]
        hardware = target.hardware
        has_read_noise = age_s > 0 and hardware.crossbar.read_noise == "product"
        has_digits = layer.converters is not None and isinstance(hardware.encoding.format, Codes)
        if not has_read_noise and not has_digits:
            return _Aged(self.weight_at(name, age_s, purpose))  # block by block, in the cache
        cells, against = self.conductances_at(name, age_s, purpose), self._reference_cells(name, age_s, purpose)
        seen = self._seen(target, cells, against)
        read_noise, digits = None, self._digits(target, seen[0]) if has_digits else None
        if has_read_noise:
            draws = stream(f"{self.seed}/{name}/products/{_reading(age_s, purpose)}", layer.weight.device)
            variance = self._read_variance(name, cells, against, age_s)
            read_noise = ReadNoise(variance.to(layer.weight.dtype), draws)
        weight = self._weight(target, hardware.encoding.realised(hardware.decode_cells(*seen)))
        return _Aged(weight, read_noise, digits)

    @staticmethod
    def _weight(target: Target, normalised: Tensor) -> Tensor:
        """Weights from normalised ones, which may be overwritten."""
        return normalised.to(target.latent.device).mul_(target.scale).to(target.latent.dtype)

    @torch.no_grad()
    def conductances_at(self, name: str, age_s: float, purpose: str = "evaluation") -> tuple[Tensor, ...]:
        """Conductances (µS, fp32, on the CPU) of a layer's cells at an age (s), one tensor per cell of a weight.

        Parallel cells are next to each other: see :meth:`hwaware.hardware.Encoding.merged`.

        Raises:
            UserError: the device's law does not cover the age.
        """
        blocks = zip(*self._aged_blocks(name, age_s, purpose), strict=True)
        return tuple(torch.cat(cells).view(self.targets[name].latent.shape) for cells in blocks)

    @torch.no_grad()
    def targets_us(self, name: str) -> tuple[Tensor, ...]:
        """Conductances (µS) that a layer's cells were to be written to, as :meth:`conductances_at` has them."""
        blocks = zip(*self._target_blocks(self.targets[name]), strict=True)
        return tuple(torch.cat(cells).view(self.targets[name].latent.shape) for cells in blocks)

    @torch.no_grad()
    def reference_at(self, name: str, age_s: float, purpose: str = "evaluation") -> Tensor | None:
        """Reference conductances (µS, fp32, on the CPU) of a layer at an age (s), in the shape of its weight.

        All columns of a crossbar share its reference column. The reference cells have their own errors and drift paths,
        and as many parallel cells as a weight's. None for a mapping without reference.

        Raises:
            UserError: the device's law does not cover the age.
        """
        cells, target = self._reference_cells(name, age_s, purpose), self.targets[name]
        if not cells:
            return None
        encoding = target.hardware.encoding
        (g,) = encoding.merged(cells)
        return target.hardware.crossbar.against_weights(encoding, g, target.latent.shape)

    def _reference_cells(self, name: str, age_s: float, purpose: str) -> tuple[Tensor, ...]:
        """Conductances (µS) of a layer's reference cells, parallel ones next to each other; empty without any."""
        target = self.targets[name]
        hardware = target.hardware
        hardware.device.check_age(age_s)
        keys = _parallel(f"{self.seed}/{target.owner}/reference", hardware.encoding.parallel)
        wanted = hardware.reference_targets(tuple(target.latent.shape), target.groups, torch.device("cpu"))
        draws = (_Draws(key, _reading(age_s, purpose)) for key in keys)
        die = self.die(name)
        return tuple(_age(hardware, die, g.clone(), draw, age_s) for g, draw in zip(wanted, draws, strict=False))

    def read_as(self, name: str, cells: Sequence[Tensor], age_s: float, purpose: str = "evaluation") -> Tensor:
        """Normalised weights ``ŵ/s`` decoded from conductances, through wires and against the reference cells.

        Args:
            name: name of the layer.
            cells: conductances (µS) in the form of :meth:`conductances_at`.
            age_s: age (s) of the reference cells.
            purpose: purpose of the reading.
        """
        target = self.targets[name]
        hardware = target.hardware
        seen = self._seen(target, cells, self._reference_cells(name, age_s, purpose))
        return hardware.encoding.realised(hardware.decode_cells(*seen))

    @staticmethod
    def _seen(
        target: Target, cells: Sequence[Tensor], against: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Effective conductances (µS) of a layer's cells and reference cells, with wire resistance."""
        if (wires := target.hardware.crossbar.wires) is None:
            return cells, against
        tiling = target.hardware.tiling(tuple(target.latent.shape), target.groups)
        return changed(tiling, cells, against, wires.effective_us)

    @torch.no_grad()
    def digits_at(self, name: str, age_s: float, purpose: str = "evaluation") -> tuple[Tensor, Tensor]:
        """Contributions of the digits of a layer's weights at an age (s); see :meth:`Hardware.digit_weights`."""
        cells, against = self.conductances_at(name, age_s, purpose), self._reference_cells(name, age_s, purpose)
        return self._digits(self.targets[name], self._seen(self.targets[name], cells, against)[0])

    @staticmethod
    def _digits(target: Target, cells: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        lower, shift = target.hardware.digit_weights(target.hardware.encoding.merged(cells), target.scale)
        return lower.to(target.latent.dtype), shift.to(target.latent.dtype)

    @torch.no_grad()
    def read_variance_at(self, name: str, age_s: float) -> Tensor:
        """Variance of a layer's weights from the read noise of a single product at an age (s), to first order.

        Reference cells count as if each column had its own.
        """
        cells, against = self.conductances_at(name, age_s), self._reference_cells(name, age_s, "evaluation")
        return self._read_variance(name, cells, against, age_s)

    def _read_variance(self, name: str, cells: Sequence[Tensor], against: Sequence[Tensor], age_s: float) -> Tensor:
        target = self.targets[name]
        hardware, die, encoding = target.hardware, self.die(name), target.hardware.encoding
        shape = tuple(target.latent.shape)
        v = encoding.window_position(normalised(target.latent.float(), target.scale)).cpu()
        wanted = [g for g in hardware.encode(v) for _ in range(encoding.parallel)]
        variances = [_read_variance(die, *pair, age_s) for pair in zip(cells, wanted, strict=True)]
        targets = hardware.reference_targets(shape, target.groups, torch.device("cpu"))
        reference = [_read_variance(die, *pair, age_s) for pair in zip(against, targets, strict=True)]
        of_position = hardware.position_variance(variances, reference)
        slope = realised_slope(hardware.decode_cells(cells, against), encoding.kappa, encoding.range_fraction)
        return of_position.mul_(slope.square_()).to(target.latent.device).mul_(target.scale.square())

    def stuck_cells(self, name: str) -> tuple[Tensor, ...]:
        """Masks of a layer's stuck cells, in the form of :meth:`conductances_at`."""
        target, device = self.targets[name], self.device(name)
        blocks, found = target.latent.flatten().split(_BLOCK), []
        for draws in self._draws(target):
            uniform = torch.cat([torch.rand(block.shape, generator=draws.stuck) for block in blocks])
            found.append(is_stuck(uniform, device.stuck_on, device.stuck_off).view(target.latent.shape))
        return tuple(found)

    def _draws(self, target: Target, read: str = "") -> list[_Draws]:
        """The random numbers of a layer's cells, one object for each cell of a weight."""
        encoding = target.hardware.encoding
        own = (f"{self.seed}/{target.owner}/{index}" for index in range(encoding.layout.cells_per_weight))
        return [_Draws(key, read) for cell in own for key in _parallel(cell, encoding.parallel)]

    def _aged_blocks(self, name: str, age_s: float, purpose: str) -> Iterator[tuple[Tensor, ...]]:
        """Conductances of the flattened layer, in blocks that stay in the cache."""
        target, die = self.targets[name], self.die(name)
        hardware = target.hardware
        hardware.device.check_age(age_s)
        draws = self._draws(target, read=_reading(age_s, purpose))
        for targets in self._target_blocks(target):
            yield tuple(_age(hardware, die, g, draw, age_s) for g, draw in zip(targets, draws, strict=True))

    def _target_blocks(self, target: Target) -> Iterator[Iterator[Tensor]]:
        """What the flattened layer's cells are written to, block by block; each tensor is the caller's own."""
        encoding = target.hardware.encoding
        v = encoding.window_position(normalised(target.latent.float(), target.scale)).cpu()
        for block in v.flatten().split(_BLOCK):
            cells = target.hardware.encode(block)
            yield (g.clone() if k else g for g in cells for k in reversed(range(encoding.parallel)))


def _parallel(key: str, parallel: int) -> list[str]:
    """Keys for the draws of parallel cells; the first is that of a single cell, so more cells only add draws."""
    return [key, *(f"{key}+{k}" for k in range(1, parallel))]


def _reading(age_s: float, purpose: str) -> str:
    """Key that identifies a reading of a chip."""
    return f"read/{float(age_s)!r}/{purpose}"


class _Draws:
    """The random numbers of one layer's cells: one stream per quantity."""

    def __init__(self, key: str, read: str) -> None:
        self.programming, self.drift, self.stuck, self.read = (
            stream(f"{key}/{quantity}") for quantity in ("programming", "drift", "stuck", read)
        )


def _age(hardware: Hardware, die: Die, target_us: Tensor, draws: _Draws, age_s: float) -> Tensor:
    """Conductances (µS) at an age (s). May overwrite ``target_us``, since memory traffic is the bottleneck."""

    def draw(stream: torch.Generator) -> Callable[[], Tensor]:
        return lambda: torch.randn(target_us.shape, generator=stream)

    g = die.programmed_us(target_us, draw(draws.programming))
    if age_s > 0:
        g = die.drifted_us(g, target_us, die.equivalent_age_s(age_s), draw(draws.drift))
        if hardware.crossbar.read_noise == "reading":
            g = _add_noise(g, die.read_std_us(g, age_s, target_us), draws.read)
    g = g.clamp_(*die.limits_us)
    if die.stuck_on or die.stuck_off:
        uniform = torch.rand(g.shape, generator=draws.stuck)
        g = stick(g, uniform, die.stuck_on, die.stuck_off, die.g_min_us, die.g_max_us)
    return g


def _read_variance(die: Die, g_us: Tensor, target_us: Tensor, age_s: float) -> Tensor:
    std = die.read_std_us(g_us.clone(), age_s, target_us)
    return std.square() if isinstance(std, Tensor) else torch.full_like(g_us, std**2)


def _add_noise(g: Tensor, std: Tensor | float, stream: torch.Generator) -> Tensor:
    """``g + std·z``; draws nothing if the device has no such error."""
    if not isinstance(std, Tensor) and not std:
        return g
    return torch.randn(g.shape, generator=stream).mul_(std).add_(g)


@contextmanager
def drift_free(model: nn.Module) -> Iterator[nn.Module]:
    """Context with exact hardware: I-V curve, levels and converters on; programming error, drift, stuck cells and
    read noise off.

    Examples:
        >>> import hwaware, torch
        >>> network = torch.nn.Sequential(torch.nn.Linear(8, 4))
        >>> report = hwaware.convert(network, hwaware.load_hardware("reram_cmo", mapping="differential"))
        >>> with hwaware.drift_free(network), torch.no_grad():
        ...     tuple(network(torch.ones(1, 8)).shape)
        (1, 4)
    """
    with installed_weights(model, lambda name, layer: layer.exact_weight()):
        yield model


@contextmanager
def mean_aged(model: nn.Module, age_s: float) -> Iterator[nn.Module]:
    """Context with the expected weights at an age (s): the mean over all chips, so without any chip's own errors.

    A network that was trained with the device's noise works best with these weights, not with exact ones. Stuck cells
    do not count.

    Raises:
        UserError: a device's law does not cover the age.
    """

    def weight(name: str, layer: AnalogLayer) -> Tensor:
        hardware, latent, scale = layer.hardware, layer.latent().detach().float(), layer.weight_scale()
        error = hardware.encoding.mean_error(hardware.device, normalised(latent, scale), age_s)
        return (layer.exact_weight().float() + scale * error.to(latent)).to(layer.weight.dtype)

    with torch.no_grad():
        for device in dict.fromkeys(layer.hardware.device for layer in analog_layers(model).values()):
            device.check_age(age_s)
        weights = installed_weights(model, weight)
    with weights:
        yield model
