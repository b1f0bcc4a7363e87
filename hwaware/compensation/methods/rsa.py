"""Random sparse adaptation (RSA): a small fraction of the weights is corrected by trained values in digital memory.

G. Charan et al., JXCDC 2020 (10.1109/JXCDC.2020.2987605), who pick weights at random. The optimiser and the number of
images are reconstructions. Picking the weights with the largest errors is our own variant.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from hwaware.chip import Chip
from hwaware.compensation.access import frozen
from hwaware.compensation.base import FitData, InFieldCompensation, State, check_settings
from hwaware.compensation.costs import HALF_BYTES, SEED_BYTES, SRAM_WRITE_S, Cost, NetworkSize, address_bytes
from hwaware.errors import UserError, nearest
from hwaware.nn import AnalogLayer, Beside, analog_layers, installed_beside

_MASKS = ("random", "importance", "error")


@dataclass(frozen=True)
class RandomSparseAdaptation(InFieldCompensation):
    """``ŵ + M ⊙ S``: where the mask M is 1, S is trained on the chip with the task loss on stored, labelled images.

    Attributes:
        share: fraction of each layer's weights that M picks.
        mask: how M is chosen: at ``random``; by ``importance``, with probability proportional to the squared weight; or
            by ``error``: the chip is read once, the weights with the largest errors are picked, and S starts as their
            error, so that they are exact before training. Every device and encoding of this package can be read row
            by row in this way.
        images: number of stored, labelled images, at most as many as there are validation images.
        epochs: epochs of training. 0 needs no images and is for ``error`` only: the corrected weights stay as read.
        lr: learning rate of Adam, relative to the layer's largest weight; decays along half a cosine.
        batch_size: batch size of the training.
    """

    name: ClassVar[str] = "rsa"
    by_loss: ClassVar[bool] = True

    share: float = 0.05
    mask: Literal["random", "importance", "error"] = "random"
    images: int = 2600
    epochs: int = 5
    lr: float = 0.005
    batch_size: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"rsa: share={self.share} must lie in (0, 1]; 0.05 is usual.")
        if self.mask not in _MASKS:
            raise UserError(f"rsa: mask '{self.mask}' is unknown. {nearest(self.mask, _MASKS)}")
        check_settings(self, images=1, epochs=0 if self.mask == "error" else 1, batch_size=1)

    @property
    def samples_kept(self) -> int:
        return self.images if self.epochs else 0

    @torch.enable_grad()
    def fit(self, chip: Chip, age_s: float, data: FitData) -> State:
        draw = torch.Generator().manual_seed(chip.seed)  # each chip has its own mask
        where, values, scales = {}, {}, {}
        for name, layer in analog_layers(chip.model).items():
            scales[name] = layer.latent().detach().abs().max().float().clamp(min=1e-30)
            if self.mask == "error":
                lacking = _lacking(chip, name, age_s)
                picked = lacking.abs().topk(self._count(len(lacking))).indices.sort().values
                start = lacking[picked] / scales[name]
            else:
                picked = self._picked(layer, draw)
                start = torch.zeros(len(picked), device=layer.weight.device)
            where[f"{name}/where"], values[name] = picked, start.requires_grad_(True)
        if self.epochs:
            self._train(chip, age_s, data, where, values, scales)
        return where | {f"{n}/values": (value.detach() * scales[n]).half().float() for n, value in values.items()}

    def _train(
        self,
        chip: Chip,
        age_s: float,
        data: FitData,
        where: State,
        values: dict[str, Tensor],
        scales: Mapping[str, Tensor],
    ) -> None:
        """Trains the values with the task loss."""
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

    def installed(self, model: nn.Module, state: State) -> AbstractContextManager[None]:
        def kept(name: str, layer: AnalogLayer) -> Beside:
            values = state[f"{name}/values"]
            branch = values.new_zeros(layer.weight.numel()).index_add(0, state[f"{name}/where"], values)
            return Beside(branch.view(layer.rows_shape))

        return installed_beside(model, kept)

    def cost(self, size: NetworkSize, levels: int) -> Cost:
        values = sum(self._count(layer.weights) for layer in size.layers.values())
        macs = sum(layer.macs * self._count(layer.weights) / layer.weights for layer in size.layers.values())
        weights = [layer.weights for layer in size.layers.values()]
        addresses = sum(address_bytes(self._count(n), n) for n in weights)
        mask = {"random": SEED_BYTES, "importance": sum(weights) / 8, "error": addresses}[self.mask]
        updates = max(1, self.epochs * -(-self.images // self.batch_size))
        images = self.samples_kept
        return Cost(
            bytes_stored=values * HALF_BYTES + mask + images * (size.sample_bytes + size.answer_bytes),
            extra_macs_percent=100 * macs / size.macs,
            images_kept=images,
            labels_kept=images if size.labelled else 0,
            cell_reads=size.cells if self.mask == "error" else 0,
            update_time_s=updates * values * SRAM_WRITE_S,
            trainable_percent=100 * values / size.parameters,
        )

    def _count(self, weights: int) -> int:
        return max(1, round(self.share * weights))

    def _picked(self, layer: AnalogLayer, draw: torch.Generator) -> Tensor:
        weight = layer.effective_weight().flatten().float().cpu()
        chance = weight.square() + 1e-12 if self.mask == "importance" else torch.ones_like(weight)
        # Top-k of log(probability) + Gumbel noise: a weighted draw without replacement.
        uniform = torch.rand(weight.shape, generator=draw).clamp(1e-30, 1 - 1e-7)
        keys = chance.log() - (-uniform.log()).log()
        return keys.topk(self._count(len(weight))).indices.sort().values.to(layer.weight.device)


@torch.no_grad()
def _lacking(chip: Chip, name: str, age_s: float) -> Tensor:
    """The unrounded effective weights minus the weights read from the chip at an age (s); flat, fp32."""
    target = chip.targets[name]
    wanted = target.hardware.encoding.unrounded(target.latent)
    return (wanted - chip.weight_at(name, age_s, purpose="calibration").float()).flatten()
