"""Settings of finetuning with adapters in digital memory."""

from __future__ import annotations

from dataclasses import dataclass

from hwaware.errors import UserError


@dataclass(frozen=True)
class Adapters:
    """LoRA adapters beside frozen layers (AHWA-LoRA, arXiv 2411.17367); see :mod:`hwaware.nn.adapters`.

    Attributes:
        rank: rank of the adapters.
        alpha: scaling; the adapters' output is multiplied by ``alpha/rank``.
        match: patterns on the names of the layers with adapters: linear layers, and convolutions without groups.
    """

    rank: int = 8
    alpha: float = 16.0
    match: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "match", (self.match,) if isinstance(self.match, str) else tuple(self.match))
        if self.rank < 1:
            raise UserError(f"adapters rank={self.rank} must be at least 1; 8 is usual.")
        if not 0 < self.alpha < float("inf"):
            raise UserError(f"adapters alpha={self.alpha} must be above 0; 16 is usual.")
        if not self.match:
            raise UserError("adapters match is empty; give a pattern on layer names, such as '*'.")

    @property
    def gain(self) -> float:
        """Factor on the adapters' output."""
        return self.alpha / self.rank
