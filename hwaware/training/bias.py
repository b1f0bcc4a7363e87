"""Mapping-aware biased training: important columns use only weights whose cells are in states with little variation.

After S. Diware et al., "Mapping-aware Biased Training for Accurate Memristor-based Neural Networks", AICAS 2023
(10.1109/AICAS57966.2023.10168661). The importance of a crossbar column is the sensitivity of the loss to its weights.
The weights of the most important columns are projected to the nearest ones that avoid some states of some bit slices.
Details that the paper leaves open (ties, rounding of the percentage, summation of gradients) are a reconstruction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from hwaware.errors import UserError, nearest
from hwaware.hardware import Codes, Encoding, Hardware
from hwaware.hardware.encoding.scale import normalised
from hwaware.nn import analog_layers, owning_layers


@dataclass(frozen=True)
class MappingBias:
    """Settings of biased training.

    Attributes:
        percent: percentage m of each layer's columns that is constrained, the most important ones; 0: none.
        banned: unfavourable states by slice; slice 0 is the most significant. The default is state 2 of slice 0 (bits
            10, the paper's Config-3): small non-negative weights move to just below zero, or far above.
        rows: rows of a crossbar; an output channel with more weights has several columns.
        each: ``epoch``: choose and project columns at the end of every epoch, as in the paper; ``step``: choose them at
            the end of the first epoch, then project them after every step. With ``epoch``, recovery within an epoch is
            lost at its end, and more and more columns get projected.

    Raises:
        UserError: a value is out of range.
    """

    percent: float = 20.0
    banned: dict[int, list[int]] = field(default_factory=lambda: {0: [2]})
    rows: int = 128
    each: Literal["step", "epoch"] = "step"

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise UserError(f"bias percent={self.percent} must lie in [0, 100] (% of a layer's columns); 20 is usual.")
        if not any(self.banned.values()):
            raise UserError(
                f"bias banned={self.banned} names no state: ban one ({{0: [2]}} is usual), or set bias null."
            )
        if self.rows < 1:
            raise UserError(f"bias rows={self.rows} of a crossbar must be at least 1; 128 is usual.")
        if self.each not in ("step", "epoch"):
            raise UserError(f"bias each '{self.each}' is unknown. {nearest(self.each, ('step', 'epoch'))}")

    def check(self, hardware: Hardware) -> None:
        """Raises UserError for hardware whose cells do not have these states."""
        encoding = hardware.encoding
        codes = _slices(encoding)
        if encoding.scaling.fixed is None:
            raise UserError(
                f"bias needs scale fixed, not '{encoding.scale}': if the largest weight sets the scale, changing it "
                "would change the codes of all others."
            )
        allowed_codes(self.banned, codes)


def _slices(encoding: Encoding) -> Codes:
    """The codes of an encoding; raises UserError if cells hold no digits."""
    if not isinstance(encoding.format, Codes):
        raise UserError(
            f"bias bans states of bit slices, but the mapping '{encoding.mapping}' has none: set mapping "
            "bit_sliced, or bias null."
        )
    return encoding.format


def allowed_codes(banned: Mapping[int, Sequence[int]], slices: Codes) -> Tensor:
    """The codes without a cell in a banned state, ascending, int64.

    Raises:
        UserError: there is no such slice or state, or a slice has no state left.
    """
    codes = torch.arange(2**slices.bits)
    digits, allowed = slices.digits(codes), torch.ones_like(codes, dtype=torch.bool)
    for index, states in banned.items():
        if not 0 <= index < slices.n_slices:
            last = slices.n_slices - 1
            raise UserError(f"bias banned: there is no slice {index}; they are 0 (the most significant) … {last}.")
        for state in states:
            if not 0 <= state < slices.n_states:
                raise UserError(f"bias banned: slice {index} has no state {state}; they are 0 … {slices.n_states - 1}.")
        if len(set(states)) == slices.n_states:
            raise UserError(f"bias banned: slice {index} has no state left; ban at most {slices.n_states - 1} of them.")
        allowed &= ~torch.isin(digits[index], torch.tensor(states))
    return codes[allowed]


def project(codes: Tensor, banned: Mapping[int, Sequence[int]], slices: Codes) -> Tensor:
    """The nearest allowed code ``u'`` (smallest ``|u' - u|``) of each code ``u``; in a tie, the lower one.

    Args:
        codes: shifted codes, int64, any shape.
        banned: see :class:`MappingBias`.
        slices: how codes are split into slices.
    """
    allowed, every = allowed_codes(banned, slices), torch.arange(2**slices.bits)
    above = torch.searchsorted(allowed, every)
    lower, upper = allowed[(above - 1).clamp_min(0)], allowed[above.clamp_max(len(allowed) - 1)]
    table = torch.where((every - lower).abs() <= (upper - every).abs(), lower, upper)
    return table.to(codes.device)[codes]


def important_columns(sensitivity: Tensor, percent: float, rows: int) -> Tensor:
    """Mask of a layer's most important columns, bool ``[C_out, columns per channel]``.

    Args:
        sensitivity: sensitivity of each weight, ``[C_out, …]``, 0 or more; a column's importance is the sum over its
            weights.
        percent: percentage of the columns, rounded up to whole columns. In a tie, the first ones are chosen.
        rows: rows of a crossbar. The weights of an output channel are split into columns of this length; the last one
            may be shorter.
    """
    flat = sensitivity.flatten(1)
    columns = nn.functional.pad(flat, (0, -flat.shape[1] % rows)).unflatten(1, (-1, rows)).sum(-1)
    chosen = torch.zeros(columns.numel(), dtype=torch.bool, device=columns.device)
    wanted = math.ceil(percent * columns.numel() / 100)
    chosen[columns.flatten().argsort(descending=True, stable=True)[:wanted]] = True
    return chosen.view_as(columns)


def add_sensitivity(sums: dict[str, Tensor], model: nn.Module) -> None:
    """Adds the ``|dL/dw|`` of a step to the sums of each layer; call before the optimiser's step, on every rank.

    A weight that several layers share counts once; a weight without a gradient does not count. Gradients are those of
    the whole step (summed over micro-batches, averaged over ranks), so all ranks have the same sums.
    """
    for name, layer in owning_layers(model).items():
        if layer.is_computed:
            raise UserError(
                f"bias changes latent weights, but layer '{name}' ({layer.digital_class.__name__}) standardises them "
                "in every pass: drop bias, or keep such layers digital."
            )
        if layer.weight.grad is not None:
            # A step that is skipped after an overflow in half precision must not dominate.
            size = layer.as_rows(layer.weight.grad.detach()).float().abs().nan_to_num_(0.0, 0.0)
            sums[name] = sums[name].to(size.device).add_(size) if name in sums else size


def choose_columns(sums: Mapping[str, Tensor], bias: MappingBias) -> dict[str, Tensor]:
    """:func:`important_columns` of every layer with a sum from :func:`add_sensitivity`; others are not trained."""
    return {name: important_columns(size, bias.percent, bias.rows) for name, size in sums.items()}


@torch.no_grad()
def project_columns_(model: nn.Module, columns: Mapping[str, Tensor], bias: MappingBias) -> float:
    """Projects the latent weights of chosen columns so that no cell is in a banned state, in place.

    Weights without banned states do not change.

    Args:
        model: a network that was converted for an encoding with bit slices.
        columns: the output of :func:`choose_columns`.
        bias: settings, with the banned states.

    Returns:
        The fraction of these layers' weights that changed.
    """
    layers, changed, total = analog_layers(model), 0, 0
    for name, chosen in columns.items():
        layer = layers[name]
        weight, scale, slices = layer.latent(), layer.weight_scale(), _slices(layer.hardware.encoding)
        rows = chosen.to(weight.device).repeat_interleave(bias.rows, dim=1)[:, : weight[0].numel()]
        codes = slices.codes(normalised(weight.float(), scale))
        allowed = project(codes, bias.banned, slices)
        moved = rows.reshape(weight.shape) & (allowed != codes)
        layer.hold(torch.where(moved, (slices.positions(allowed) * scale).to(weight.dtype), weight))
        changed, total = changed + int(moved.sum()), total + weight.numel()
    return changed / max(total, 1)
