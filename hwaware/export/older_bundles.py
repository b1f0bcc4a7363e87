"""Layers of bundles before schema 3, in which layers were split only at groups and at the edges of arrays.

A layer had ``crossbars``: each with ``key`` in ``conductances.safetensors``, ``cell`` (index of the cell in its
weight), ``group`` (of a grouped convolution), ``rows`` and ``columns`` (first and one past the last input and output of
the group). A crossbar is a matrix of target conductances, inputs by outputs; inputs run over channels, then the kernel,
as in the layer's weight. Parallel cells are stored once; reference columns, with the target ``(g_max + g_min)/2``, are
not stored. There were no converters.

Schema 1 had one ``device`` for all layers instead of ``hardware``, which also contained the encoding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def targets(layer: Mapping[str, Any], conductances: Mapping[str, Tensor], cells_per_weight: int) -> tuple[Tensor, ...]:
    """Target conductances (µS), one tensor of the weight's shape for each cell of a weight.

    Raises:
        ValueError: the crossbars do not cover the layer.
    """
    groups = 1 + max(crossbar["group"] for crossbar in layer["crossbars"])
    outputs, *inputs = layer["shape"]
    found = torch.full((cells_per_weight, groups, outputs // groups, torch.Size(inputs).numel()), torch.nan)
    for crossbar in layer["crossbars"]:
        rows, columns = (slice(*crossbar[what]) for what in ("rows", "columns"))
        found[crossbar["cell"], crossbar["group"], columns, rows] = conductances[crossbar["key"]].T
    if found.isnan().any():
        raise ValueError(f"crossbars of a layer of shape {layer['shape']} do not cover it")
    return tuple(found.view(cells_per_weight, *layer["shape"]))
