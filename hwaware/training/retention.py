"""Retention loss: the expected weight error from drift, as a differentiable regulariser."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from hwaware.errors import UserError
from hwaware.hardware import Hardware
from hwaware.nn import analog_layers, owning_layers
from hwaware.nn.weights.tables import ErrorTable, positions
from hwaware.training.noise import TABLE_SIZE


@dataclass(frozen=True)
class RetentionLoss:
    """Settings of the retention loss.

    Attributes:
        ages_s: ages (s) over which the expected error is averaged.
        share: sets the weight λ: the retention loss as a fraction of the task loss at the first training step.

    Examples:
        >>> RetentionLoss(ages_s=(3600, 86400), share=0.02).ages_s
        (3600.0, 86400.0)
    """

    ages_s: tuple[float, ...] = (3600.0, 31536000.0, 315360000.0)
    share: float = 0.05

    def __post_init__(self) -> None:
        object.__setattr__(self, "ages_s", tuple(float(age) for age in self.ages_s))
        if not self.ages_s:
            raise UserError("the retention loss needs at least one age in ages_s.")
        if not self.share > 0:
            raise UserError(
                f"retention share={self.share} must be above 0 (0.05 is 5 % of the task loss); null turns it off."
            )


@lru_cache(maxsize=256)
def error_table(hardware: Hardware, ages_s: tuple[float, ...]) -> ErrorTable:
    """Table of ``E[((ŵ - w_eff)/s)²]``, averaged over ages (s).

    It includes programming error and drift, exactly through the I-V curve, but no read noise and no stuck cells.
    """

    def expected(u: Tensor) -> Tensor:
        moments = [hardware.encoding.moments(hardware.device, u, age_s, read_noise=False) for age_s in ages_s]
        return sum((mean * mean + std * std for mean, std in moments), start=torch.zeros_like(u)) / len(ages_s)

    return ErrorTable(*hardware.encoding.with_slope(expected, positions(TABLE_SIZE)))


def install_retention(model: nn.Module, loss: RetentionLoss) -> None:
    """Makes the training forward pass of each analog layer compute its expected error; call once, before training.

    Examples:
        >>> import hwaware, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4)).train()
        >>> report = hwaware.convert(model, hwaware.load_hardware("reram_cmo", mapping="differential"))
        >>> install_retention(model, RetentionLoss())
        >>> output = model(torch.ones(1, 8))
        >>> 0 < retention_loss(model).item() < 1
        True
    """
    tables: dict[tuple[Hardware, torch.device], ErrorTable] = {}
    for layer in analog_layers(model).values():
        key = (layer.hardware, layer.weight.device)
        if key not in tables:
            tables[key] = error_table(layer.hardware, loss.ages_s).to(layer.weight.device)
        layer.error = tables[key]


def remove_retention(model: nn.Module) -> None:
    """Undoes :func:`install_retention`."""
    for layer in analog_layers(model).values():
        layer.error = layer.weight_error = None


def retention_loss(model: nn.Module) -> Tensor:
    """Mean over the analog layers of ``Σ E[(ŵ - w_eff)²] / Σ w_eff²``, dimensionless, differentiable in the latents.

    If some layers are frozen, only the others count, since a constant would only distort the choice of λ.

    After "ReRAM-aware Model Finetuning addressing I-V Non-linearity and Retention Errors" (arXiv 2606.17471), whose
    equations are not public: the form is a reconstruction. The gradient also reaches the scale ``s = max|w|``, so that
    outliers, which set the range, shrink even if drift does not depend on the state.

    It consumes the errors that each layer's last training forward pass computed; a second call computes them again.

    Examples:
        >>> import hwaware, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4)).train()
        >>> report = hwaware.convert(model, hwaware.load_hardware("reram_cmo", mapping="differential"))
        >>> install_retention(model, RetentionLoss(ages_s=(315_360_000.0,)))
        >>> loss = model(torch.ones(1, 8)).square().mean() + 0.1 * retention_loss(model)
        >>> loss.backward()
        >>> bool(model[0].weight.grad.abs().sum() > 0)
        True
    """
    errors: list[Tensor] = []
    owning = owning_layers(model)  # tied layers share their cells
    counted = {name for name, layer in owning.items() if layer.weight.requires_grad} or set(owning)
    for name, layer in analog_layers(model).items():
        if layer.error is None:
            raise UserError(
                f"layer '{name}' has no retention loss installed: call install_retention(model, ...) first."
            )
        error, layer.weight_error = layer.weight_error, None  # not kept, since it holds this step's graph
        if name not in counted:
            continue
        if error is None or (torch.is_grad_enabled() and layer.weight.requires_grad and not error.requires_grad):
            # Not computed in this step's forward pass, or lost by reentrant activation checkpointing.
            _, error = layer.realise(noise=None, error=layer.error)
        errors.append(error)  # type: ignore[arg-type]  # with a table, realise returns an error
    return torch.stack(errors).mean()


def weight_for_share(share: float, task_loss: Tensor, penalty: Tensor) -> float:
    """The weight λ at which the penalty is this fraction of the task loss, averaged over all ranks."""
    losses = torch.stack([task_loss.detach().float(), penalty.detach().float()])
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(losses)  # λ must be the same on every rank
    task, retention = losses.tolist()
    return share * task / retention if retention > 0 else 0.0
