"""Computes a layer array by array; see :mod:`hwaware.hardware.crossbar.tiling` and ``.converters``.

A layer's output is a sum of partial products that ADCs convert separately: one for each part of its rows, for each
digit of the weights (mapping ``bit_sliced``), and for each slice of the inputs' bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from hwaware.errors import UserError
from hwaware.hardware import Codes, Converters, RowPart
from hwaware.hardware.encoding.scale import normalised
from hwaware.nn.conversion import Limit, digits, driven, read

if TYPE_CHECKING:
    from hwaware.nn.layers import AnalogLayer


def converted(layer: AnalogLayer, input: Tensor, converters: Converters) -> Tensor:
    """A layer's output through its converters, without bias."""
    driving = _driving(layer, input, converters)
    slices_x = _input_slices(layer, driving, converters)
    slices_w, constant = _weight_slices(layer)

    def sums() -> Iterator[Tensor]:
        for _, inputs in slices_x:
            for index, (_, weight) in enumerate(slices_w):
                yield from _sums(layer, inputs, weight, noisy=index == 0)

    factors = [of_x * of_w for of_x, _ in slices_x for of_w, _ in slices_w]
    if layer.observer is not None:
        found = list(sums())
        n_parts = len(driving)
        scaled = [y / factors[k // n_parts] if len(factors) > 1 else y for k, y in enumerate(found)]
        of_parts = [torch.cat([y.flatten() for y in scaled[part::n_parts]]) for part in range(n_parts)]
        layer.observer(driving, of_parts)
        output = sum(found[1:], start=found[0])
    else:
        y_max = _for_each(limits(layer)[1], driving)
        noisy = layer.training or layer._output_draws is not None
        of_sums = [factor * limit for factor in factors for limit in y_max]
        output = read(converters, sums(), of_sums, noisy, layer._output_draws)
    return output if constant is None else output + _constant_part(layer, driving, constant)


def with_read_noise(layer: AnalogLayer, input: Tensor) -> Tensor:
    """A layer's output without converters, with read noise in each product; without bias."""
    return _product(layer, input, layer.realised_weight(), layer._read_noise and layer._read_noise.variance)


def limits(layer: AnalogLayer) -> tuple[tuple[Limit, ...], tuple[Limit, ...]]:
    """The ranges of a layer's inputs and outputs: one each, or one for each part of the rows."""
    if layer.ranges is None:
        raise UserError("a layer has converters but no ranges: call calibrate(model, predict, batches).")
    x_max, y_max = (limit if isinstance(limit, tuple) else (limit,) for limit in layer.ranges)
    x_log, y_log = layer.learned or (None, None)
    return (
        x_max if x_log is None else x_log.exp().unbind(),
        y_max if y_log is None else y_log.exp().unbind(),
    )


def _for_each(limits: tuple[Limit, ...], parts: Sequence[Tensor]) -> tuple[Limit, ...]:
    """One range for each part of the rows; a shared range is repeated."""
    return limits if len(limits) == len(parts) else limits * len(parts)


def _sums(layer: AnalogLayer, inputs: Sequence[Tensor], weight: Tensor, noisy: bool) -> Iterator[Tensor]:
    """The column sums of each part of the rows."""
    weights = weights_of_parts(layer, weight)
    variances: Sequence[Tensor | None] = [None] * len(inputs)
    if noisy and layer._read_noise is not None:
        variances = weights_of_parts(layer, layer._read_noise.variance)
    for parts in zip(inputs, weights, variances, strict=True):
        yield _product(layer, *parts)


def _product(layer: AnalogLayer, x: Tensor, weight: Tensor, variance: Tensor | None) -> Tensor:
    y = layer.apply_weight(x, weight)
    if variance is None or layer._read_noise is None:
        return y
    std = layer.apply_weight(x.square(), variance).clamp_min(0).sqrt()
    return y + std * torch.randn(y.shape, generator=layer._read_noise.draws, device=y.device, dtype=y.dtype)


# Inputs.


def _driving(layer: AnalogLayer, input: Tensor, converters: Converters) -> list[Tensor]:
    """The inputs that drive each part of the rows."""
    if layer.ranges is None and layer.observer is not None:
        return inputs_of_parts(layer, input)
    x_max, _ = limits(layer)
    if len(x_max) == 1:
        return inputs_of_parts(layer, driven(converters, input, x_max[0]))
    parts = zip(inputs_of_parts(layer, input), x_max, strict=True)
    return [driven(converters, x, limit) for x, limit in parts]


def _input_slices(
    layer: AnalogLayer, driving: list[Tensor], converters: Converters
) -> list[tuple[float, Sequence[Tensor]]]:
    """The slices of each part's inputs, which add up to them, and the weight of each relative to the last."""
    if converters.dac_slice_bits is None or converters.dac_bits is None or layer.ranges is None:
        return [(1.0, driving)]
    x_max = _for_each(limits(layer)[0], driving)
    bits, at_a_time = converters.dac_bits, converters.dac_slice_bits
    sliced = [digits(x, limit, bits, at_a_time) for x, limit in zip(driving, x_max, strict=True)]
    factors = [float(2 ** (at_a_time * k)) for k in range(len(sliced[0]))]
    return list(zip(factors, zip(*sliced, strict=True), strict=True))


def inputs_of_parts(layer: AnalogLayer, x: Tensor) -> list[Tensor]:
    """The channels of a layer's input that drive each part of its rows; views."""
    parts = layer.tiling.parts
    if len(parts) == 1:
        return [x]
    dim = x.ndim + layer.channel_dim
    channels = [one.channels for one in parts]
    if parts[0].taps == parts[-1].taps:  # one split, so that its gradient is one tensor
        pieces = x.unflatten(dim, (layer.groups, -1)).split([stop - start for start, stop in channels], dim + 1)
        return [piece.flatten(dim, dim + 1) for piece in pieces]
    of_channel = x.unflatten(dim, (layer.groups, -1)).split(1, dim + 1)
    return [of_channel[start].flatten(dim, dim + 1) for start, _ in channels]


# Weights.


def weights_of_parts(layer: AnalogLayer, weight: Tensor) -> Sequence[Tensor]:
    """Splits a weight ``[C_out, C_in/groups, *kernel]`` into the parts of the rows, ``[C_out, channels, *kernel]``."""
    parts = layer.tiling.parts
    if len(parts) == 1:
        return [weight]
    if parts[0].taps == parts[-1].taps:
        return weight.split([one.channels[1] - one.channels[0] for one in parts], 1)
    of_channel = weight.split(1, 1)
    return [_only(of_channel[one.channels[0]], one) for one in parts]


def _only(weight: Tensor, part: RowPart) -> Tensor:
    """The weights of one part's taps; zeros for the other taps."""
    taps = weight.flatten(1)
    start, stop = part.taps
    return F.pad(taps[:, start:stop], (start, taps.shape[1] - stop)).view_as(weight)


def _weight_slices(layer: AnalogLayer) -> tuple[list[tuple[float, Tensor]], Tensor | None]:
    """The weights of each conversion with the size of its step, and the constant part that all share.

    The most significant digit takes everything that the others don't hold exactly: noise, repairs and the gradient.
    """
    weight = layer.realised_weight()
    encoding = layer.hardware.encoding
    if not isinstance(encoding.format, Codes):
        return [(1.0, weight)], None
    lower, constant = layer._digits or exact_digits(layer)
    top = weight - constant - lower.sum(0)
    gains = encoding.layout.gains
    factors = [gain / gains[-1] for gain in gains]
    return list(zip(factors, (top, *lower), strict=True)), constant


@torch.no_grad()
def exact_digits(layer: AnalogLayer) -> tuple[Tensor, Tensor]:
    """:meth:`hwaware.hardware.Hardware.digit_weights` of a layer's exact weights."""
    hardware, scale = layer.hardware, layer.weight_scale()
    v = hardware.encoding.window_position(normalised(layer.latent().float(), scale))
    return hardware.digit_weights(hardware.encode(v), scale)


def _constant_part(layer: AnalogLayer, driving: Sequence[Tensor], constant: Tensor) -> Tensor:
    """The contribution of the codes' digital shift: the sum of the inputs, times a number for each output."""
    ones = layer.latent().new_ones(layer.groups, *layer.rows_shape[1:])
    first, *others = (layer.apply_weight(*part) for part in zip(driving, weights_of_parts(layer, ones), strict=True))
    found = sum(others, start=first).repeat_interleave(layer.rows_shape[0] // layer.groups, layer.channel_dim)
    return found * layer.along_channels(constant.expand(layer.rows_shape[0], *constant.shape[1:]).flatten(), found)
