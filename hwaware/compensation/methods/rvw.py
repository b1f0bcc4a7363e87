"""Read-verify-write: the baseline that rewrites cells, those of the largest weights."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from hwaware.chip import Chip
from hwaware.compensation.base import FitData, InFieldCompensation, State, check_settings
from hwaware.compensation.costs import CELL_WRITE_S, HALF_BYTES, Cost, NetworkSize, address_bytes
from hwaware.errors import UserError
from hwaware.hardware.draws import stream
from hwaware.hardware.encoding.scale import normalised
from hwaware.nn import AnalogLayer, analog_layers, installed_weights

#: Age (s) of a cell at its verifying read.
_VERIFIED_S = 1.0


@dataclass(frozen=True)
class ReadVerifyWrite(InFieldCompensation):
    """The cells of each layer's largest weights are rewritten until they read within a tolerance.

    A rewritten cell has no drift. Its error is the programming error, within the tolerance if that was reached, up to
    the noise of the verifying reads one second after each write. Once verified, it has no read noise, like any cell
    just written. Cells that are read against a reference column are verified against that column as it is now, drift
    included. Stuck cells stay stuck. Ranking by ``|w|`` needs no reads; each chosen cell is read before every write and
    after the last.

    Attributes:
        share: fraction of each layer's weights.
        tolerance: largest accepted error, as a fraction of the conductance window.
        max_writes: number of writes after which a cell is left as it is.
    """

    name: ClassVar[str] = "rvw"

    share: float = 0.05
    tolerance: float = 0.01
    max_writes: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"rvw: share={self.share} must lie in (0, 1]; 1 rewrites the whole chip.")
        if not self.tolerance > 0:
            raise UserError(f"rvw: tolerance={self.tolerance} must be above 0; 0.01 of the window is usual.")
        check_settings(self, max_writes=1)

    @torch.no_grad()
    def fit(self, chip: Chip, age_s: float, data: FitData) -> State:
        state = {}
        for name in analog_layers(chip.model):
            target = chip.targets[name]
            magnitude = target.latent.flatten().abs().float().cpu()
            where = magnitude.topk(max(1, round(self.share * len(magnitude)))).indices.sort().values
            values, writes, reads = self._rewrite(chip, name, where, age_s)
            scale = target.scale.cpu().expand_as(target.latent).flatten()[where]
            state[f"{name}/where"] = where.to(target.latent.device)
            state[f"{name}/values"] = (values * scale).to(target.latent)
            # A layer whose weight is tied to another shares its cells.
            own = target.owner == name
            state[f"{name}/counts"] = torch.tensor([writes, reads]) * own
        return state

    def _rewrite(self, chip: Chip, name: str, where: Tensor, age_s: float) -> tuple[Tensor, int, int]:
        """Normalised weights after writing, and the number of writes and reads."""
        target = chip.targets[name]
        hardware, device, die = target.hardware, target.hardware.device, chip.die(name)
        u = normalised(target.latent.float(), target.scale).cpu().flatten()[where]
        encoding = hardware.encoding
        now = replace(encoding, mean_target_ages_s=())  # rewritten cells are read before they drift
        wanted = [g for g in now.encode(device, now.window_position(u)) for _ in range(encoding.parallel)]
        found, stuck = chip.conductances_at(name, age_s, purpose="calibration"), chip.stuck_cells(name)
        later = chip.conductances_at(name, age_s)  # conductances of the other cells when the network runs
        reference = chip.reference_at(name, age_s, purpose="calibration")
        if reference is not None:
            moved = reference.flatten()[where] - encoding.reference_us(device)
            wanted = [(goal + moved).clamp(*die.limits_us) for goal in wanted]
        draw, noise = (stream(f"{chip.seed}/{target.owner}/{what}/{float(age_s)!r}") for what in ("rewrite", "verify"))
        limit = self.tolerance * (device.g_max_us - device.g_min_us)
        cells, writes, reads = [], 0, 0
        for goal, before, then, fixed in zip(wanted, found, later, stuck, strict=True):
            g, fixed = before.flatten()[where], fixed.flatten()[where]
            read = g  # includes the noise of that read
            reads += len(g)
            written = torch.zeros_like(fixed)
            for _ in range(self.max_writes):
                wrong = (read - goal).abs() > limit
                if not wrong.any():
                    break
                again = die.programmed_us(goal, lambda: torch.randn(u.shape, generator=draw))
                again = again.clamp(*die.limits_us)
                std = die.read_std_us(again, _VERIFIED_S, goal)
                noisy = again + torch.randn(u.shape, generator=noise) * std if isinstance(std, Tensor) or std else again
                g, read = (torch.where(wrong & ~fixed, new, old) for new, old in ((again, g), (noisy, read)))
                written |= wrong & ~fixed
                writes += int(wrong.sum())
                reads += int(wrong.sum())
            values = torch.where(written, g, then.flatten()[where])
            cells.append(then.flatten().index_copy(0, where, values).view_as(then))
        return chip.read_as(name, cells, age_s).flatten()[where], writes, reads

    def installed(self, model: nn.Module, state: State) -> AbstractContextManager[None]:
        def rewritten(name: str, layer: AnalogLayer) -> Tensor:
            weight = layer.realised_weight()
            return weight.flatten().index_copy(0, state[f"{name}/where"], state[f"{name}/values"]).view_as(weight)

        return installed_weights(model, rewritten)

    def cost(self, size: NetworkSize, levels: int) -> Cost:
        layers = [layer for layer in size.layers.values() if layer.cells]  # tied layers count once
        picked = [(max(1, round(self.share * layer.weights)), layer) for layer in layers]
        targets = sum(number * layer.cells_per_weight * HALF_BYTES for number, layer in picked)
        addresses = sum(address_bytes(number, layer.weights) for number, layer in picked)
        return Cost(bytes_stored=targets + addresses, extra_macs_percent=0.0)

    def counted(self, cost: Cost, state: State) -> Cost:
        writes, reads = torch.stack([value for key, value in state.items() if key.endswith("/counts")]).sum(0).tolist()
        fast, slow = CELL_WRITE_S
        return replace(
            cost, cell_writes=writes, cell_reads=reads, update_time_s=writes * fast, update_time_slow_s=writes * slow
        )
