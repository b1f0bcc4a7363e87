"""Resistance of an array's wires (IR drop), as conductances that the array seems to have.

Each row is driven at one end, through ``driver_ohm``; each column is read at one end, held at virtual ground. A wire
has ``segment_ohm`` from its end to the first cell and from each cell to the next. Row 0 lies nearest the columns' ends
and column 0 nearest the drivers, so that cells of no conductance appended to rows or columns change nothing. Columns
are physical ones: of a differential pair each cell has its own, and so has each reference cell.

With cells that are linear in the voltage, the currents read are linear in the rows' voltages, ``I = V·T``. T depends on
the conductances g alone: it stands in the place of g for as long as they are what they are, and costs an inference
nothing. T isn't local: a row's current also returns by way of other columns and rows, so that T isn't 0 where g is.

* :meth:`Wires.training_us`: ``T ≈ g/((1 + d_row)·(1 + d_col))``, where d is the drop at a cell, as a share of the
  voltage, with every cell's current as without wires: exact to first order in the resistance. Two cumulative sums a
  wire, differentiable.
* :meth:`Wires.effective_us`: ``T ≈ a·g·b + ρ⊗γ/Σγ``. a is the voltage along a row while the columns are at ground, b
  what share of a current into a column is read while the rows are at theirs, both exact (ladder networks, in closed
  form). This leaves out what returns by other wires: it is never too large, and exact to first order. What it lacks is
  smooth, since it passes many cells: known are its sums ρ over each row's columns and γ over each column's rows, from
  the exact solution for equal voltages at all rows, and for equal voltages at all columns (reciprocity).

The exact solution is found by conjugate gradients: with currents ``i = √g·u`` in the cells and K the drop that currents
cause, Ohm's law ``i = g·(V - K·i)`` is ``(1 + √g·K·√g)·u = √g·V``, symmetric and positive.
``results/crossbar_wires`` has the errors of both against a nodal solution.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from hwaware.errors import UserError

_MEGOHM = 1e-6  # per ohm: conductances are in µS

#: Of conjugate gradients: an error of 1e-4 in 512 × 1024 cells at 2.5 Ω a segment, and of rounding alone in 256 × 128.
_STEPS = 16

_ROW, _COLUMN = -1, -2  # the dimension along which a wire runs


@dataclass(frozen=True, kw_only=True)
class Wires:
    """Wires of all arrays; see the module.

    Attributes:
        segment_ohm: resistance of a wire from one cell to the next, of rows and columns alike.
        driver_ohm: what each row is driven through. Columns are read without.
    """

    segment_ohm: float
    driver_ohm: float = 0.0

    def __post_init__(self) -> None:
        for field in ("segment_ohm", "driver_ohm"):
            if not 0 <= getattr(self, field) < math.inf:
                raise UserError(
                    f"wires: {field}={getattr(self, field)} must be a finite resistance of 0 ohm or more; 0 is ideal."
                )

    def settings(self) -> dict[str, Any]:
        """All of it, as plain types."""
        return asdict(self)

    def training_us(self, conductances_us: Tensor) -> Tensor:
        """What arrays seem to have as their conductances, to first order; gradients are those of this function.

        Args:
            conductances_us: ``[..., rows, columns]`` (µS): one array, or several of one size.
        """
        if self._ideal:
            return conductances_us
        row, column = (self._drop(conductances_us, wire) for wire in (_ROW, _COLUMN))
        return conductances_us / ((1 + row) * (1 + column))

    @torch.no_grad()
    def effective_us(self, conductances_us: Tensor) -> Tensor:
        """What arrays seem to have as their conductances; for evaluation, without gradients.

        Args:
            conductances_us: ``[..., rows, columns]`` (µS): one array, or several of one size.
        """
        if self._ideal:
            return conductances_us
        g = conductances_us
        direct = g * self._ladder(g, _ROW) * self._ladder(g, _COLUMN)
        solved = self._currents(g)
        # Never negative but for rounding, which must not be divided by.
        of_row = (solved.sum(-1, keepdim=True) - direct.sum(-1, keepdim=True)).clamp_min_(0)
        of_column = (solved.sum(-2, keepdim=True) - direct.sum(-2, keepdim=True)).clamp_min_(0)
        total = of_column.sum(-1, keepdim=True).clamp_min_(torch.finfo(g.dtype).tiny)
        return direct.addcmul_(of_row, of_column / total)

    @property
    def _ideal(self) -> bool:
        return not self.segment_ohm and not self.driver_ohm

    def _resistances(self, wire: int) -> tuple[float, float]:
        """Of a segment, and of what stands before the first (MΩ)."""
        return self.segment_ohm * _MEGOHM, self.driver_ohm * _MEGOHM if wire == _ROW else 0.0

    def _drop(self, currents: Tensor, wire: int) -> Tensor:
        """By how much the voltage along a wire falls short of its end's, at each cell (V).

        Args:
            currents: that the cells draw from it (µA).
            wire: along which dimension.
        """
        segment, before = self._resistances(wire)
        passing = currents.flip(wire).cumsum(wire).flip(wire)
        drop = passing.cumsum(wire).mul(segment)
        return drop + before * passing.narrow(wire, 0, 1) if before else drop

    def _ladder(self, g: Tensor, wire: int) -> Tensor:
        """The voltage at each cell of a wire over its end's, with the cells' other ends at ground."""
        segment, before = self._resistances(wire)
        cells = g.unbind(wire)
        beyond = torch.zeros_like(cells[0])
        loads = []
        for cell in reversed(cells):  # conductances to ground of all from this cell on
            beyond = cell + beyond / (1 + segment * beyond)
            loads.append(beyond)
        voltage, voltages = 1 / (1 + before * loads[-1] / (1 + segment * loads[-1])), []
        for load in reversed(loads):
            voltage = voltage / (1 + segment * load)
            voltages.append(voltage)
        return torch.stack(voltages, wire)

    def _currents(self, g: Tensor) -> Tensor:
        """Currents (µA) of cells with 1 V at all rows; as well those with 1 V at all columns, with the sign turned."""
        root = g.sqrt()
        found, residual = torch.zeros_like(g), root
        direction, square = residual, residual.square().sum((-2, -1), keepdim=True)
        tiny = torch.finfo(g.dtype).tiny  # once solved, steps are 0/0
        for _ in range(_STEPS):
            currents = root * direction
            image = direction + root * (self._drop(currents, _ROW) + self._drop(currents, _COLUMN))
            length = square / (direction * image).sum((-2, -1), keepdim=True).clamp_min_(tiny)
            found = found + length * direction
            residual = residual - length * image
            before, square = square, residual.square().sum((-2, -1), keepdim=True)
            direction = residual + square / before.clamp_min(tiny) * direction
        return root * found
