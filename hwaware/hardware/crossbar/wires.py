"""Wire resistance of an array (IR drop), expressed as effective conductances.

Each row is driven at one end, through ``driver_ohm``. Each column is read at one end, which is held at virtual ground.
A wire has the resistance ``segment_ohm`` from its end to the first cell and from each cell to the next. Row 0 is
nearest the columns' ends and column 0 nearest the drivers, so appending rows or columns of zero conductance changes
nothing. Columns are physical ones: each cell of a differential pair has its own column, and so has each reference cell.

If cells are linear in the voltage, the currents read are linear in the row voltages, ``I = V·T``. T depends only on the
conductances g. It replaces g until g changes, so it costs nothing at inference. T is not local: part of a row's current
returns through other columns and rows, so T is not 0 where g is 0.

* :meth:`Wires.training_us`: ``T ≈ g/((1 + d_row)·(1 + d_col))``, where d is the relative voltage drop at a cell if all
  cells draw their current without wires. Exact to first order in the resistance; two cumulative sums per wire;
  differentiable.
* :meth:`Wires.effective_us`: ``T ≈ a·g·b + ρ⊗γ/Σγ``. a is the voltage along a row with the columns at ground; b is the
  fraction of a current into a column that is read, with the rows at their voltages. Both are exact (ladder networks, in
  closed form). Their product neglects currents that return through other wires: it is never too large, and exact to
  first order. The neglected part is smooth, since it passes many cells. Its sums ρ over the columns of each row and γ
  over the rows of each column are known, from the exact solutions for equal voltages at all rows and for equal voltages
  at all columns (reciprocity).

The exact solution is found by conjugate gradients. With cell currents ``i = √g·u`` and K the map from currents to
voltage drops, Ohm's law ``i = g·(V - K·i)`` becomes ``(1 + √g·K·√g)·u = √g·V``, which is symmetric and positive
definite. ``results/crossbar_wires`` compares both approximations with a nodal solution.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from hwaware.errors import UserError

_MEGOHM = 1e-6  # per ohm: conductances are in µS

#: Iterations of conjugate gradients. The error is 1e-4 for 512 × 1024 cells at 2.5 Ω per segment, and at the level of
#: rounding for 256 × 128.
_STEPS = 16

_ROW, _COLUMN = -1, -2  # the dimension along which a wire runs


@dataclass(frozen=True, kw_only=True)
class Wires:
    """Wire resistances of all arrays; see the module.

    Attributes:
        segment_ohm: resistance (Ω) of a wire from one cell to the next, in rows and columns alike.
        driver_ohm: output resistance (Ω) of the driver of each row. Columns are read without series resistance.

    Raises:
        UserError: a resistance is negative or not finite.
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
        """The settings as plain types."""
        return asdict(self)

    def training_us(self, conductances_us: Tensor) -> Tensor:
        """Effective conductances (µS) to first order, for training; differentiable.

        Args:
            conductances_us: ``[..., rows, columns]`` (µS): one array, or several of one size.
        """
        if self._ideal:
            return conductances_us
        row, column = (self._drop(conductances_us, wire) for wire in (_ROW, _COLUMN))
        return conductances_us / ((1 + row) * (1 + column))

    @torch.no_grad()
    def effective_us(self, conductances_us: Tensor) -> Tensor:
        """Effective conductances (µS) for evaluation, without gradients.

        Args:
            conductances_us: ``[..., rows, columns]`` (µS): one array, or several of one size.
        """
        if self._ideal:
            return conductances_us
        g = conductances_us
        direct = g * self._ladder(g, _ROW) * self._ladder(g, _COLUMN)
        solved = self._currents(g)
        # Only rounding can make these negative; clamped before the division.
        of_row = (solved.sum(-1, keepdim=True) - direct.sum(-1, keepdim=True)).clamp_min_(0)
        of_column = (solved.sum(-2, keepdim=True) - direct.sum(-2, keepdim=True)).clamp_min_(0)
        total = of_column.sum(-1, keepdim=True).clamp_min_(torch.finfo(g.dtype).tiny)
        return direct.addcmul_(of_row, of_column / total)

    @property
    def _ideal(self) -> bool:
        return not self.segment_ohm and not self.driver_ohm

    def _resistances(self, wire: int) -> tuple[float, float]:
        """Resistances (MΩ) of a segment and before the first segment."""
        return self.segment_ohm * _MEGOHM, self.driver_ohm * _MEGOHM if wire == _ROW else 0.0

    def _drop(self, currents: Tensor, wire: int) -> Tensor:
        """Voltage drop (V) at each cell, relative to the end of the wire.

        Args:
            currents: currents (µA) that the cells draw.
            wire: the dimension along which the wire runs.
        """
        segment, before = self._resistances(wire)
        passing = currents.flip(wire).cumsum(wire).flip(wire)
        drop = passing.cumsum(wire).mul(segment)
        return drop + before * passing.narrow(wire, 0, 1) if before else drop

    def _ladder(self, g: Tensor, wire: int) -> Tensor:
        """Voltage at each cell relative to the end of the wire, with the other terminals of the cells at ground."""
        segment, before = self._resistances(wire)
        cells = g.unbind(wire)
        beyond = torch.zeros_like(cells[0])
        loads = []
        for cell in reversed(cells):  # conductance to ground of this cell and all beyond it
            beyond = cell + beyond / (1 + segment * beyond)
            loads.append(beyond)
        voltage, voltages = 1 / (1 + before * loads[-1] / (1 + segment * loads[-1])), []
        for load in reversed(loads):
            voltage = voltage / (1 + segment * load)
            voltages.append(voltage)
        return torch.stack(voltages, wire)

    def _currents(self, g: Tensor) -> Tensor:
        """Cell currents (µA) with 1 V at all rows; with the sign reversed, those with 1 V at all columns."""
        root = g.sqrt()
        found, residual = torch.zeros_like(g), root
        direction, square = residual, residual.square().sum((-2, -1), keepdim=True)
        tiny = torch.finfo(g.dtype).tiny  # once converged, step lengths are 0/0
        for _ in range(_STEPS):
            currents = root * direction
            image = direction + root * (self._drop(currents, _ROW) + self._drop(currents, _COLUMN))
            length = square / (direction * image).sum((-2, -1), keepdim=True).clamp_min_(tiny)
            found = found + length * direction
            residual = residual - length * image
            before, square = square, residual.square().sum((-2, -1), keepdim=True)
            direction = residual + square / before.clamp_min(tiny) * direction
        return root * found
