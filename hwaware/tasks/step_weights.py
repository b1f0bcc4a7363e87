"""How the training steps of a run compute the weights in cells."""

from __future__ import annotations

from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import nn

from hwaware.errors import UserError
from hwaware.training import Way, WeightsTogether, choose_way, install_way, remove_way


class StepWeights:
    """Computes the weights of each training step in one way, which a resumed run keeps.

    Attributes:
        way: the way of this run; None: before training.
    """

    def __init__(self) -> None:
        self.way: Way | None = None
        self._together: WeightsTogether | None = None

    def choose(self, network: nn.Module, wanted: Way | None, sharded: bool) -> None:
        """Chooses the way: that of the recipe, otherwise that of the resumed run, otherwise the fastest here.

        Args:
            network: the converted network, on its torch device.
            wanted: the way in the recipe.
            sharded: whether the network is sharded.

        Raises:
            UserError: that way needs whole weights.
        """
        if sharded:
            if wanted not in (None, "by_layer"):
                raise UserError(f"weights_way '{wanted}' needs whole weights, and fsdp2 shards them: drop it.")
            self.way = "by_layer"
            return
        began = self.way
        self.way = choose_way(network, wanted or began)
        if began is not None and self.way != began:
            rank_zero_warn(
                f"weights_way: the run began with '{began}' and continues with '{self.way}'; not bit-identical."
            )
        self._together = install_way(network, self.way)

    def compute(self) -> None:
        """Computes a step's weights, if they are computed before the forward pass."""
        if self._together is not None:
            self._together()

    def end(self, network: nn.Module) -> None:
        """Releases everything that training needed."""
        remove_way(network)
        self._together = None
