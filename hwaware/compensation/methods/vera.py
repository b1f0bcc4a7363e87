"""VeRA+: two small vectors per layer and drift level, around frozen projections shared by all layers and levels.

W. Dong et al., arXiv 2603.26016, based on VeRA (Kopiczko et al., arXiv 2310.11454). The full text is not public: rank,
kernels and training are reconstructions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwaware.compensation.access import on_outputs
from hwaware.compensation.base import FitData, OfflineCompensation, State, check_settings
from hwaware.compensation.costs import SEED_BYTES, Cost, LayerSize, NetworkSize
from hwaware.compensation.quantise import quantised, vector_bytes
from hwaware.compensation.training import best_start, train_vectors
from hwaware.hardware.encoding.scale import normalised
from hwaware.nn import AnalogConv2d, AnalogLayer, Beside, analog_layers, installed_beside

_ALTERNATIONS = 20


@dataclass(frozen=True)
class VeraPlus(OfflineCompensation):
    """``y ← y + b ⊙ B(d ⊙ A x)`` beside each analog layer.

    A and B are random, frozen and shared: each layer uses the first channels of the matrices of the largest layer. The
    A of a convolution has the layer's stride and covers the centre of the kernel, or all of it with ``full_kernel``.

    ``constant`` adds one constant row to A, ``1/√n`` for each of the n inputs of an output over the whole kernel (unit
    norm), and one column of ones to B. It needs no storage and few operations (a sum over channels, then over the
    kernel). It represents what random rows cannot: a drift that moves all conductances alike shifts every weight of a
    one-cell mapping by the same amount, a multiple of ones ⊗ ones. The constant row is our own addition.

    Training of a level starts from the best of three candidates by the task loss: no branch (b = 0, d = 0.1, as in
    VeRA), the vectors of the previous level, and the vectors that cancel the mean error of the weights by the devices'
    laws.

    Attributes:
        rank: number of random rows of A.
        constant: whether to add a constant row.
        full_kernel: whether the random rows cover the whole kernel.
        bits: bits of a stored value of the vectors.
        steps, lr: optimiser steps and learning rate.
        projection_seed: seed of A and B.
    """

    name: ClassVar[str] = "vera_plus"
    by_loss: ClassVar[bool] = True

    rank: int = 1
    constant: bool = True
    full_kernel: bool = False
    bits: int = 8
    steps: int = 200
    lr: float = 0.01
    projection_seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, rank=0 if self.constant else 1, steps=1)

    @property
    def rows(self) -> int:
        """Rows of A, the constant row included."""
        return self.rank + self.constant

    def fit(self, model: nn.Module, ages_s: tuple[float, float], data: FitData, seed: int, start: State) -> State:
        nothing = {}
        for name, layer in analog_layers(model).items():
            nothing[f"{name}/b"] = layer.weight.new_zeros(layer.rows_shape[0], dtype=torch.float32)
            nothing[f"{name}/d"] = layer.weight.new_full((self.rows,), 0.1, dtype=torch.float32)
        by_law = self._against_mean_error(model, math.sqrt(ages_s[0] * ages_s[1]))
        best = best_start(self, model, ages_s, data, seed, [nothing, by_law, *[start] * bool(start)])
        return train_vectors(self, model, ages_s, data, seed, best, steps=self.steps, lr=self.lr)

    @torch.no_grad()
    def _against_mean_error(self, model: nn.Module, age_s: float) -> State:
        """Vectors that cancel the mean error of the weights as well as the branch can, by alternating least squares.

        Training rarely finds them if drift has broken the network, and needs many steps if they are large.
        """
        state: State = {}
        projections = self._projections(model)
        for name, layer in analog_layers(model).items():
            down, up = (matrix.flatten(1).double() for matrix in projections[name])
            scale = layer.weight_scale().double()
            hardware, u = layer.hardware, normalised(layer.latent().double(), scale)
            mean = hardware.encoding.mean_error(hardware.device, u, age_s)
            products, gram = (mean * scale).flatten(1) @ down.T, down @ down.T
            d = up.new_full((self.rows,), 0.1)
            for _ in range(_ALTERNATIONS):
                basis = up * d
                b = -(products * basis).sum(1) / ((basis @ gram) * basis).sum(1).clamp(min=1e-12)
                if not b.any():
                    break
                basis = b[:, None] * up
                d = torch.linalg.pinv(gram * (basis.T @ basis), hermitian=True) @ -(products * basis).sum(0)
            # Large vectors would hardly change in training, since Adam's steps have the same size for all.
            size = b.square().mean().sqrt().clamp(min=1.0)
            state |= {f"{name}/b": (b / size).float(), f"{name}/d": (d * size).float()}
        return state

    @contextmanager
    def installed(self, model: nn.Module, state: State) -> Iterator[None]:
        # Merged into the layer's weight where possible: the same function with fewer passes over the activations.
        projections = self._projections(model)
        vectors = {name: quantised(value, self.bits) for name, value in state.items()}

        @torch.no_grad()
        def branch(name: str, layer: AnalogLayer) -> Beside:
            down, up = projections[name]
            matrix = (vectors[f"{name}/b"][:, None] * up * vectors[f"{name}/d"]) @ down.flatten(1)
            return Beside(matrix.view(layer.rows_shape))

        def let_learn(name: str, layer: AnalogLayer, x: Tensor, y: Tensor) -> Tensor:
            down, up = projections[name]
            with torch.no_grad():
                hidden = self._hidden(layer, x, down.to(x.dtype))
            return _Learn.apply(y, hidden, vectors[f"{name}/b"], vectors[f"{name}/d"], up, layer)

        learning = torch.is_grad_enabled() and any(vector.requires_grad for vector in vectors.values())
        with installed_beside(model, branch), on_outputs(model, let_learn) if learning else nullcontext():
            yield

    def _hidden(self, layer: AnalogLayer, x: Tensor, down: Tensor) -> Tensor:
        """``A x``, with the layer's stride and padding."""
        kernel, groups = down.shape[2:], layer.groups
        if self.full_kernel or not kernel or groups > 1:
            return layer.apply_weight(x, down.repeat(groups, *[1] * (down.ndim - 1)))
        # First over channels, then over the kernel: several times faster than a convolution with so few outputs.
        centre = _centre(kernel)
        rows = down[(..., *centre)]
        mixed = (rows @ x.flatten(2)).unflatten(2, x.shape[2:])
        if type(layer) is AnalogConv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
            padded = F.pad(mixed, [pad for pad in reversed(layer.padding) for _ in (0, 1)])
            parts = [padded[:, : self.rank], padded[:, self.rank :]]
            for axis in (2, 3):
                kept, added = (list(_taps(part, layer, axis)) for part in parts)
                parts = [kept[len(kept) // 2], reduce(torch.add, added)]
            return torch.cat(parts, dim=1)
        middle = x.new_zeros(1, 1, *kernel)
        middle[(..., *centre)] = 1
        parts = [layer.apply_weight(mixed[:, row : row + 1], middle) for row in range(self.rank)]
        if self.constant:
            parts.append(layer.apply_weight(mixed[:, -1:], torch.ones_like(middle)))
        return torch.cat(parts, dim=1)

    def _projections(self, model: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
        """For each layer its A, in the shape of a weight with ``rows`` outputs, and its B ``[C_out, rows]``."""
        shared = self.shared(model)
        found = {}
        for name, layer in analog_layers(model).items():
            rows, columns, *kernel = layer.rows_shape
            down = layer.weight.new_zeros(self.rows, columns, *kernel)
            up = layer.weight.new_ones(rows, self.rows)
            if self.full_kernel and kernel:
                axes: list[Any] = [0] * (shared["a"].ndim - 2 - len(kernel))  # fewer kernel axes than the largest layer
                a = shared["a"][(..., *axes)]
                down[: self.rank] = a[(slice(None), slice(columns), *map(slice, kernel))]
            else:  # only the centre, as a full kernel, so that padding and stride are those of the layer
                down[(slice(self.rank), ..., *_centre(kernel))] = shared["a"].flatten(2)[:, :columns, 0]
            if self.constant:
                down[-1] = 1 / math.sqrt(down[-1].numel())
            up[:, : self.rank] = shared["b"][:rows]
            found[name] = down, up
        return found

    def shared(self, model: nn.Module) -> State:
        """The frozen A ``[rank, C_in, …]`` and B ``[C_out, rank]`` of the largest layer, without the constant row."""
        shapes = [layer.rows_shape for layer in analog_layers(model).values()]
        outputs, inputs = (max(shape[axis] for shape in shapes) for axis in (0, 1))
        draw = torch.Generator().manual_seed(self.projection_seed)
        # Kaiming's uniform distribution, by the fan-in of the shared matrices, as in VeRA.
        largest = [1, 1]
        if self.full_kernel:
            axes = range(2, max(4, *map(len, shapes)))
            largest = [max((shape[axis] for shape in shapes if len(shape) > axis), default=1) for axis in axes]
        shape = (self.rank, inputs, *largest)
        a = (2 * torch.rand(shape, generator=draw) - 1) * math.sqrt(6 / (inputs * math.prod(largest)))
        b = (2 * torch.rand((outputs, self.rank), generator=draw) - 1) * math.sqrt(6 / max(self.rank, 1))
        return {"a": a, "b": b}

    def cost(self, size: NetworkSize, levels: int) -> Cost:
        layers = size.layers.values()
        values = sum(layer.out_channels + self.rows for layer in layers)
        return Cost(
            bytes_stored=SEED_BYTES + levels * vector_bytes(values, 2 * len(layers), self.bits),
            extra_macs_percent=100 * sum(map(self._macs, layers)) / size.macs,
            trainable_percent=100 * values / size.parameters,
        )

    def _macs(self, layer: LayerSize) -> int:
        taps = layer.in_channels * (layer.kernel if self.full_kernel else 1)
        down = layer.positions * layer.groups * self.rank * taps
        if self.constant:  # sums over channels, then over the kernel; counted as MACs
            down += layer.inputs + layer.positions * layer.groups * layer.kernel
        scaled = layer.positions * layer.groups * self.rows
        return down + scaled + layer.outputs * (self.rows + 1)


def _centre(kernel: Sequence[int]) -> list[Any]:
    """The index of the centre of a kernel."""
    return [size // 2 for size in kernel]


def _taps(padded: Tensor, layer: AnalogConv2d, axis: int) -> Iterator[Tensor]:
    """The inputs of each tap of a convolution's kernel, along an axis (2 or 3) of its padded input."""
    kernel, stride, dilation = (of[axis - 2] for of in (layer.kernel_size, layer.stride, layer.dilation))
    reach = padded.shape[axis] - dilation * (kernel - 1)
    for tap in range(kernel):
        steps = padded.narrow(axis, tap * dilation, reach)
        yield steps[:, :, ::stride] if axis == 2 else steps[..., ::stride]


class _Learn(torch.autograd.Function):
    """Passes a layer's output through; the backward pass computes the gradients of b and d.

    With ``G = Σ g ⊗ Ax`` over samples and positions, g the output's gradient: ``∂b = Σ_r B·d·G``, ``∂d = Σ_o b·B·G``,
    thin products, where differentiating the layer's weight would cost as much as its forward pass.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, hidden: Tensor, b: Tensor, d: Tensor, up: Tensor, layer: AnalogLayer) -> Tensor:
        ctx.save_for_backward(hidden, b, d, up)
        ctx.groups, ctx.channel_dim = layer.groups, layer.channel_dim
        ctx.mark_dirty(y)  # an in-place activation may follow, which a view would not allow
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, b, d, up = ctx.saved_tensors
        rows, columns = up.shape
        if ctx.channel_dim == -1:
            products = grad.reshape(-1, rows).T @ hidden.reshape(-1, columns).to(grad.dtype)
        else:
            per_group = (grad.shape[0], ctx.groups, -1, grad[0, 0].numel())
            left, right = grad.reshape(per_group), hidden.reshape(per_group).to(grad.dtype)
            products = (left @ right.transpose(2, 3)).float().sum(0).view(rows, columns)
        weighted = products.float() * up
        return grad, None, weighted @ d, b @ weighted, None, None
