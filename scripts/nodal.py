"""Currents of a crossbar by nodal analysis: Kirchhoff's laws at both ends of every cell, solved by sparse LU.

This is the exact solution that :mod:`hwaware.hardware.crossbar.wires` approximates; it shares no code with it. Fast
enough up to 256 × 256 cells.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu


def currents_ua(
    conductances_us: NDArray[np.float64], voltages: NDArray[np.float64], segment_ohm: float, driver_ohm: float = 0.0
) -> NDArray[np.float64]:
    """What is read (µA) at the columns, ``[samples, columns]``.

    Args:
        conductances_us: ``[rows, columns]`` (µS); row 0 is nearest the columns' ends, column 0 nearest the drivers.
        voltages: of the rows' drivers (V), ``[samples, rows]``.
        segment_ohm: above 0, of each piece of a wire: from an end to the first cell, and from cell to cell.
        driver_ohm: between a row's driver and its first piece.
    """
    rows, columns = conductances_us.shape
    above = np.arange(rows * columns).reshape(rows, columns)  # nodes of the rows' wires, one for each cell
    below = above + rows * columns
    segment_us, end_us = 1e6 / segment_ohm, 1e6 / (segment_ohm + driver_ohm)

    between = [  # node, node, conductance (µS)
        (above, below, conductances_us),
        (above[:, 1:], above[:, :-1], np.full((rows, columns - 1), segment_us)),
        (below[1:], below[:-1], np.full((rows - 1, columns), segment_us)),
    ]
    one, other, joined = (np.concatenate([part.ravel() for part in parts]) for parts in zip(*between, strict=True))
    ends = np.concatenate([above[:, 0], below[0]])  # joined to a driver, or to virtual ground
    to_end = np.concatenate([np.full(rows, end_us), np.full(columns, segment_us)])

    values = np.concatenate([joined, joined, -joined, -joined, to_end])
    at = np.concatenate([one, other, one, other, ends]), np.concatenate([one, other, other, one, ends])
    laws = csc_array((values, at), shape=(2 * rows * columns,) * 2)
    driven = np.zeros((2 * rows * columns, len(voltages)))
    driven[above[:, 0]] = end_us * voltages.T
    # Symmetric and positive definite: needs no pivots, and a symmetric order keeps the factors sparse.
    factors = splu(laws, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return segment_us * factors.solve(driven)[below[0]].T
