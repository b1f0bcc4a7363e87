"""The hardware of one layer: a device, the encoding of weights in its cells, and the crossbar."""

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
    """Device, encoding and crossbar of one layer.

    Attributes:
        device: the physics of a cell.
        encoding: how cells hold a weight.
        crossbar: how cells are arranged and read.

    Raises:
        UserError: the I-V curve is given twice (in the state and in the voltage); the device's window is too narrow for
            the headroom; its law does not cover an age of the mean targets; the cells of a weight do not fit into an
            array.

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
                f"converters.input_kappa={converters.input_kappa} is the cell's I-V curve, which the encoding has as "
                f"kappa={self.encoding.kappa}: set encoding.kappa linear."
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
        """Window positions from the conductances of all cells.

        Args:
            cells: conductances (µS) of one shape, parallel cells next to each other.
            reference: conductances (µS) of the layer's reference cells, in their own shape.
        """
        read = self.encoding.merged(cells)
        if reference:
            (g,) = self.encoding.merged(reference)
            read = (*read, self.crossbar.against_weights(self.encoding, g, cells[0].shape))
        return self.decode(read)

    def digit_weights(self, cells: Sequence[Tensor], scale: Tensor) -> tuple[Tensor, Tensor]:
        """Contributions to the weights of all digits but the most significant, and the shift of the codes.

        Args:
            cells: conductances (µS) of each digit, parallel cells merged.
            scale: scale of the weights, broadcastable to them.

        Returns:
            The contributions ``[digits - 1, *shape]``, and the weight that all cells at the low end stand for.
        """
        low, high = self.encoding.window_us(self.device)
        unit = scale / self.encoding.range_fraction
        parts = zip(self.encoding.layout.gains[1:], cells[1:], strict=True)
        lower = [(g - low).mul_(gain / (high - low)).to(scale.device).mul_(unit) for gain, g in parts]
        of_nothing = self.decode(tuple(torch.full((1,), low, device=scale.device) for _ in cells))
        return torch.stack(lower) if lower else unit.new_zeros(0, *cells[0].shape), of_nothing * unit

    def position_variance(self, cells: Sequence[Tensor], reference: Sequence[Tensor] = ()) -> Tensor:
        """Variance of window positions from the variances (µS²) of all cells, which are independent.

        Args:
            cells, reference: variances in the layout of :meth:`decode_cells`.
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
        """Target conductances (µS) of a layer's reference cells, one tensor for each reference column of an array.

        Args:
            weight: shape of the layer's weight.
            groups: groups of a convolution; 1 otherwise.
            torch_device: torch device of the result.
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
        """Number of cells that hold weights of this shape, reference columns included."""
        return self.crossbar.n_cells(self.encoding, weight, groups)

    def with_parallel(self, parallel: int) -> Hardware:
        """A copy with ``parallel`` cells in parallel."""
        return replace(self, encoding=replace(self.encoding, parallel=parallel))

    def params(self) -> dict[str, Any]:
        """All settings but the names of device and mapping, flat, as in ``device_params`` of results."""
        return self.device.params() | self.encoding.params() | self.crossbar.params()

    def plain(self) -> dict[str, Any]:
        """All settings as plain types, as files store them; :func:`hwaware.hardware.hardware_from_plain` reads them."""
        return {
            "device": device_to_dict(self.device),
            "encoding": self.encoding.plain(),
            "crossbar": self.crossbar.plain(),
        }

    def __str__(self) -> str:
        return f"{self.device.name} ({self.encoding})"


def _runs(cells: Sequence[Tensor], length: int) -> list[Sequence[Tensor]]:
    return [cells[start : start + length] for start in range(0, len(cells), length)]
