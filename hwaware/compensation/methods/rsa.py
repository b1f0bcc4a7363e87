"""Random sparse adaptation: a small share of the weights is kept once more in digital memory, and trained there.

G. Charan et al., JXCDC 2020 (10.1109/JXCDC.2020.2987605). Optimiser and the number of images are reconstructions.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from hwaware.chip import Chip
from hwaware.compensation.access import frozen
from hwaware.compensation.base import FitData, InFieldCompensation, State, check_settings
from hwaware.compensation.costs import HALF_BYTES, SEED_BYTES, SRAM_WRITE_S, Cost, NetworkSize
from hwaware.errors import UserError
from hwaware.nn import AnalogLayer, Beside, analog_layers, installed_beside


@dataclass(frozen=True)
class RandomSparseAdaptation(InFieldCompensation):
    """``ŵ + M ⊙ S``: S, where the mask M is 1, is trained on the chip by the task loss on stored, labelled images.

    Attributes:
        share: of each layer's weights that M picks.
        mask: ``random``, or by ``importance``: drawn in proportion to the squared weight.
        images: stored images and labels.
        epochs, lr: of Adam, whose rate is relative to the layer's largest weight and falls along half a cosine.
        batch_size: of the training.
    """

    name: ClassVar[str] = "rsa"
    by_loss: ClassVar[bool] = True

    share: float = 0.05
    mask: Literal["random", "importance"] = "random"
    images: int = 2600
    epochs: int = 5
    lr: float = 0.005
    batch_size: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"rsa: share={self.share} must lie in (0, 1]; 0.05 is usual.")
        if self.mask not in ("random", "importance"):
            raise UserError(f"rsa: mask '{self.mask}' is unknown: random or importance.")
        check_settings(self, images=1, epochs=1, batch_size=1)

    @torch.enable_grad()
    def fit(self, chip: Chip, age_s: float, data: FitData) -> State:
        draw = torch.Generator().manual_seed(chip.seed)  # the mask is part of the chip
        where, values, scales = {}, {}, {}
        for name, layer in analog_layers(chip.model).items():
            where[f"{name}/where"] = self._picked(layer, draw)
            values[name] = torch.zeros(len(where[f"{name}/where"]), device=layer.weight.device, requires_grad=True)
            scales[name] = layer.weight.detach().abs().max().float()
        optimizer = torch.optim.Adam(values.values(), lr=self.lr)
        steps = self.epochs * -(-self.images // self.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        with frozen(chip.model), chip.at(age_s, purpose="calibration"):
            for _ in range(self.epochs):
                for batch in data.calibration_batches(self.images, self.batch_size):
                    state = where | {f"{name}/values": values[name] * scales[name] for name in values}
                    with self.installed(chip.model, state):
                        loss = data.loss(chip.model, batch)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
        return where | {f"{n}/values": (value.detach() * scales[n]).half().float() for n, value in values.items()}

    def installed(self, model: nn.Module, state: State) -> AbstractContextManager[None]:
        def kept(name: str, layer: AnalogLayer) -> Beside:
            values = state[f"{name}/values"]
            branch = values.new_zeros(layer.weight.numel()).index_add(0, state[f"{name}/where"], values)
            return Beside(branch.view(layer.weight.shape))

        return installed_beside(model, kept)

    def cost(self, size: NetworkSize, levels: int) -> Cost:
        values = sum(self._count(layer.weights) for layer in size.layers.values())
        macs = sum(layer.macs * self._count(layer.weights) / layer.weights for layer in size.layers.values())
        mask = SEED_BYTES if self.mask == "random" else sum(layer.weights for layer in size.layers.values()) / 8
        updates = self.epochs * -(-self.images // self.batch_size)
        return Cost(
            bytes_stored=values * HALF_BYTES + mask + self.images * (size.sample_bytes + size.answer_bytes),
            extra_macs_percent=100 * macs / size.macs,
            images_kept=self.images,
            labels_kept=self.images if size.labelled else 0,
            update_time_s=updates * values * SRAM_WRITE_S,
            trainable_percent=100 * values / size.parameters,
        )

    def _count(self, weights: int) -> int:
        return max(1, round(self.share * weights))

    def _picked(self, layer: AnalogLayer, draw: torch.Generator) -> Tensor:
        weight = layer.effective_weight().flatten().float().cpu()
        chance = weight.square() + 1e-12 if self.mask == "importance" else torch.ones_like(weight)
        # The largest of log(chance) + Gumbel noise: a draw in proportion, without replacement, of any number.
        uniform = torch.rand(weight.shape, generator=draw).clamp(1e-30, 1 - 1e-7)
        keys = chance.log() - (-uniform.log()).log()
        return keys.topk(self._count(len(weight))).indices.sort().values.to(layer.weight.device)
