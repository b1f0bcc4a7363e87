"""What one layer stands on: a device, the encoding of weights in its cells, and the crossbar of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from hwaware.errors import UserError
from hwaware.hardware.crossbar import Crossbar, Tiling
from hwaware.hardware.devices import Device, device_to_dict
from hwaware.hardware.encoding import Encoding
from hwaware.hardware.encoding.parallel import remaining_std


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Device, encoding and crossbar.

    Attributes:
        device: the physics of a cell.
        encoding: how cells hold a weight.
        crossbar: how cells are arranged, and read.

    Raises:
        UserError: the cell's curve is there twice, in its state and in the voltage; the device's window is too narrow
            for the headroom, or its law is not for an age of mean targets; a weight's cells do not fit into an array.

    Examples:
        >>> import hwaware, torch
        >>> hardware = hwaware.load_hardware("reram_cmo", mapping="differential")
        >>> [round(g.item(), 1) for g in hardware.encode(torch.tensor(-0.5))]  # µS; the first cell idles
        [9.0, 48.6]
    """

    device: Device
    encoding: Encoding = field(default_factory=Encoding)
    crossbar: Crossbar = field(default_factory=Crossbar)

    def __post_init__(self) -> None:
        converters = self.crossbar.converters
        if converters is not None and converters.input_kappa is not None and self.encoding.kappa is not None:
            raise UserError(
                f"converters.input_kappa={converters.input_kappa} is the cell's curve, and the encoding has "
                f"kappa={self.encoding.kappa} as well: set encoding.kappa linear."
            )
        self.encoding.check_device(self.device)
        self.crossbar.check_encoding(self.encoding)

    def encode(self, v: Tensor) -> tuple[Tensor, ...]:
        """See :meth:`Encoding.encode`."""
        return self.encoding.encode(self.device, v)

    def decode(self, cells: tuple[Tensor, ...]) -> Tensor:
        """See :meth:`Encoding.decode`."""
        return self.encoding.decode(self.device, cells)

    def decode_cells(self, cells: Sequence[Tensor], reference: Sequence[Tensor] = ()) -> Tensor:
        """Window positions from what all cells conduct (µS).

        Args:
            cells: of one shape, parallel ones following one another.
            reference: likewise those of the layer's reference cells, in their shape.
        """
        read = self.encoding.merged(cells)
        if reference:
            (g,) = self.encoding.merged(reference)
            read = (*read, self.crossbar.against_weights(self.encoding, g, cells[0].shape))
        return self.decode(read)

    def digit_weights(self, cells: Sequence[Tensor], scale: Tensor) -> tuple[Tensor, Tensor]:
        """What each digit but the most significant adds to weights, ``[digits - 1, *shape]``, and the shift of codes.

        Args:
            cells: conductances (µS) of each digit, parallel ones merged.
            scale: of the weights, broadcastable to them.
        """
        low, high = self.encoding.window_us(self.device)
        unit = scale / self.encoding.range_fraction
        parts = zip(self.encoding.layout.gains[1:], cells[1:], strict=True)
        lower = [(g - low).mul_(gain / (high - low)).to(scale.device).mul_(unit) for gain, g in parts]
        of_nothing = self.decode(tuple(torch.full((1,), low, device=scale.device) for _ in cells))
        return torch.stack(lower) if lower else unit.new_zeros(0, *cells[0].shape), of_nothing * unit

    def position_variance(self, cells: Sequence[Tensor], reference: Sequence[Tensor] = ()) -> Tensor:
        """Variance of window positions from those of what all cells conduct (µS²), independent of each other.

        Args:
            cells, reference: as those of :meth:`decode_cells`.
        """
        encoding = self.encoding
        shrink = remaining_std(encoding.parallel, encoding.combine) ** 2
        each = [torch.stack(list(one)).mean(0) for one in _runs(cells, encoding.parallel)]
        if reference:
            own = torch.stack(list(reference)).mean(0)
            each.append(self.crossbar.against_weights(encoding, own, cells[0].shape))
        low, high = encoding.window_us(self.device)
        gains = ((gain / (high - low)) ** 2 * shrink for gain in encoding.layout.gains)
        return torch.stack([one * gain for one, gain in zip(each, gains, strict=True)]).sum(0)

    def reference_targets(self, weight: tuple[int, ...], groups: int, torch_device: torch.device) -> list[Tensor]:
        """Target conductances (µS) of a layer's reference cells, one tensor for each of an array's reference columns.

        Args:
            weight: the shape of the layer's weight.
            groups: of a convolution; 1 otherwise.
            torch_device: where to put them.
        """
        if not self.encoding.layout.reference:
            return []
        shape = self.crossbar.reference_shape(self.encoding, weight, groups)
        target = torch.full(shape, self.encoding.reference_us(self.device), device=torch_device)
        return [target] * self.encoding.parallel

    def check_layer(self, weight: tuple[int, ...], groups: int) -> None:
        """See :meth:`Crossbar.check_layer`."""
        self.crossbar.check_layer(self.encoding, weight, groups)

    def tiling(self, weight: tuple[int, ...], groups: int) -> Tiling:
        """See :meth:`Crossbar.tiling`."""
        return self.crossbar.tiling(self.encoding, weight, groups)

    def n_cells(self, weight: tuple[int, ...], groups: int) -> int:
        """Cells that hold a layer's weights of a shape, reference columns included."""
        return self.crossbar.n_cells(self.encoding, weight, groups)

    def with_parallel(self, parallel: int) -> Hardware:
        """The same with so many cells in parallel."""
        return replace(self, encoding=replace(self.encoding, parallel=parallel))

    def params(self) -> dict[str, Any]:
        """Everything but the names of device and mapping, flat, as results have it in ``device_params``."""
        return self.device.params() | self.encoding.params() | self.crossbar.params()

    def plain(self) -> dict[str, Any]:
        """All of it as plain types, as files keep it; :func:`hwaware.hardware.hardware_from_plain` reads it."""
        return {
            "device": device_to_dict(self.device),
            "encoding": self.encoding.plain(),
            "crossbar": self.crossbar.plain(),
        }

    def __str__(self) -> str:
        return f"{self.device.name} ({self.encoding})"


def _runs(cells: Sequence[Tensor], length: int) -> list[Sequence[Tensor]]:
    return [cells[start : start + length] for start in range(0, len(cells), length)]
