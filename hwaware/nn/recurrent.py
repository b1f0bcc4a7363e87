"""torch's LSTM and GRU, rewritten so that their matrices are layers that are called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwaware.errors import UserError
from hwaware.nn.layers import AnalogLayer, Keys


class _Calling(nn.RNNBase):
    """Base class with the layers ``ih_l0`` (input) and ``hh_l0`` (state), ….

    The input matrix is applied to the whole sequence at once, the state matrix in each time step. In training both draw
    noise once per sequence, since cells are written once.
    """

    layers = ("ih_l0", "hh_l0", "…")
    note = "without proj_size and packed sequences; DoRA does not fit hh, because it sees only the first step"

    @staticmethod
    def takes(recurrent: Any) -> bool:
        """Whether a module can be rewritten: no projection of its state."""
        return not recurrent.proj_size

    @staticmethod
    def keys_of(recurrent: Any) -> dict[str, Keys]:
        """Parameters of each part."""
        names = [name for name in recurrent._parameters if name.startswith("weight_")]
        return {name.removeprefix("weight_"): (name, name.replace("weight_", "bias_"), None) for name in names}

    def _run(self, input: Any, start: Sequence[Tensor | None]) -> tuple[Tensor, list[Tensor]]:
        """The outputs and the final states ``[layers·directions, N, H]``, from the initial states."""
        if not isinstance(input, Tensor):
            raise UserError(
                f"a {type(self).__bases__[-1].__name__} in cells does not support packed sequences: use a padded one."
            )
        batched = input.ndim == 3
        x = input if batched else input.unsqueeze(1)
        x = x.transpose(0, 1) if self.batch_first and batched else x  # [T, N, …]
        states = [self._started(state, x, batched) for state in start]
        ends: list[list[Tensor]] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction, suffix in enumerate(("", "_reverse")[: 1 + self.bidirectional]):
                place = layer * (1 + self.bidirectional) + direction
                ih, hh = (self.get_submodule(f"{what}_l{layer}{suffix}") for what in ("ih", "hh"))
                with _written_once(ih), _written_once(hh):
                    found, last = self._sequence(ih, hh, x, [state[place] for state in states], bool(direction))
                outputs.append(found)
                ends.append(last)
            x = torch.cat(outputs, dim=-1)
            if self.dropout and layer + 1 < self.num_layers:
                x = F.dropout(x, self.dropout, self.training)
        last = [torch.stack(kind) for kind in zip(*ends, strict=True)]
        if not batched:
            return x.squeeze(1), [kind.squeeze(1) for kind in last]
        return x.transpose(0, 1) if self.batch_first else x, last

    def _started(self, state: Tensor | None, x: Tensor, batched: bool) -> Tensor:
        if state is None:
            return x.new_zeros(self.num_layers * (1 + self.bidirectional), x.shape[1], self.hidden_size)
        return state if batched else state.unsqueeze(1)

    def _sequence(
        self, ih: nn.Module, hh: nn.Module, x: Tensor, states: list[Tensor], backwards: bool
    ) -> tuple[Tensor, list[Tensor]]:
        outputs = []
        for driven in reversed(ih(x).unbind(0)) if backwards else ih(x).unbind(0):
            states = self._step(driven, hh(states[0]), *states)
            outputs.append(states[0])
        return torch.stack(outputs[::-1] if backwards else outputs), states

    def _step(self, driven: Tensor, fed: Tensor, *states: Tensor) -> list[Tensor]:
        """The next states, from the products of the input matrix and of the state matrix."""
        raise NotImplementedError


class CallingLSTM(_Calling, nn.LSTM):
    """:class:`torch.nn.LSTM` without a projection of its state."""

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> Any:  # type: ignore[override]
        output, (h, c) = self._run(input, (None, None) if hx is None else hx)
        return output, (h, c)

    def _step(self, driven: Tensor, fed: Tensor, *states: Tensor) -> list[Tensor]:
        enter, forget, new, leave = (driven + fed).chunk(4, dim=-1)
        c = forget.sigmoid() * states[1] + enter.sigmoid() * new.tanh()
        return [leave.sigmoid() * c.tanh(), c]


class CallingGRU(_Calling, nn.GRU):
    """:class:`torch.nn.GRU`."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Any:  # type: ignore[override]
        output, (h,) = self._run(input, (hx,))
        return output, h

    def _step(self, driven: Tensor, fed: Tensor, *states: Tensor) -> list[Tensor]:
        (r, z, new), (r_fed, z_fed, fed) = driven.chunk(3, dim=-1), fed.chunk(3, dim=-1)
        keep = (z + z_fed).sigmoid()
        return [(1 - keep) * (new + (r + r_fed).sigmoid() * fed).tanh() + keep * states[0]]


@contextmanager
def _written_once(layer: nn.Module) -> Iterator[None]:
    """Within the context a layer multiplies by the same realised weights in every call."""
    if not isinstance(layer, AnalogLayer) or layer._installed is not None:
        yield
        return
    weight = layer.realised_weight()
    # For linear cells this may be the parameter itself, which torch would register.
    layer._installed = weight.view_as(weight)
    try:
        yield
    finally:
        layer._installed = None
